package relaying

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

var errExpired = errors.New("the lease could not be renewed in time")

// grace is how long a publish that is under way may go on after the relay was told to stop.
const grace = 250 * time.Millisecond

// tenure is a term while it is served: it renews the lease and ends, at the latest, when the term's deadline passes.
type tenure struct {
	ctx     context.Context // ends with the tenure; outlives the relay's own context by grace
	elector relay.Elector
	ttl     time.Duration
	cancel  context.CancelCauseFunc
	unhook  func() bool
	owned   sync.WaitGroup // what runs beside the relay while the tenure lasts

	mu     sync.Mutex
	latest relay.Term

	worked   time.Time   // when something worked last
	reported *relay.Halt // what operators are told
	revision int64       // of what the relay wrote last; only its own goroutine writes
	placed   atomic.Bool // the stream was taken over and nothing went wrong since
}

// take starts to serve a term. The caller ends it with end.
func (r *Relay) take(ctx context.Context, term relay.Term) *tenure {
	t := &tenure{elector: r.Elector, ttl: r.opts.LeaseTTL, latest: term}
	t.ctx, t.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	renewing, stopRenewing := context.WithCancel(t.ctx)
	t.unhook = context.AfterFunc(ctx, func() {
		stopRenewing()
		timer := time.AfterFunc(grace, func() { t.cancel(ctx.Err()) })
		context.AfterFunc(t.ctx, func() { timer.Stop() })
	})
	t.owned.Go(func() {
		defer stopRenewing()
		t.renew(renewing)
	})
	return t
}

// write makes one write to the database in its turn. A failed one may still take effect, until the next one has.
func (t *tenure) write(ctx context.Context, do func(context.Context, relay.WriteFence) error) error {
	err := do(ctx, relay.WriteFence{Token: t.term().Token, Revision: t.revision})
	if err == nil {
		t.revision++
	}
	return err
}

// end stops what the tenure owns and returns why the tenure ended.
func (t *tenure) end() error {
	t.unhook()
	t.cancel(context.Canceled)
	t.owned.Wait()
	return context.Cause(t.ctx)
}

func (t *tenure) term() relay.Term {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.latest
}

// over reports whether the term may not be trusted any more. A process that was frozen learns it here, before the timer
// had a chance to run.
func (t *tenure) over() bool { return t.ctx.Err() != nil || !time.Now().Before(t.term().Deadline) }

// renew extends the term at a quarter of its length until ctx ends. When the deadline passes first, the tenure is over.
func (t *tenure) renew(ctx context.Context) {
	pause := t.ttl / 4
	for {
		deadline := time.NewTimer(time.Until(t.term().Deadline))
		tick := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-deadline.C:
			t.cancel(errExpired)
		case <-tick.C:
		}
		deadline.Stop()
		tick.Stop()
		if ctx.Err() != nil {
			return
		}
		if err := t.extend(ctx); err != nil {
			pause = t.ttl / 16
		} else {
			pause = t.ttl / 4
		}
	}
}

// confirm asks the lease's keeper whether the term is still this relay's, and ends the tenure if it is not.
func (t *tenure) confirm() { _ = t.extend(t.ctx) }

// extend gives one try a quarter of the term, so that a connection that hangs leaves time for others.
func (t *tenure) extend(ctx context.Context) error {
	term := t.term()
	bounded, cancel := context.WithTimeout(ctx, min(t.ttl/4, time.Until(term.Deadline)))
	defer cancel()
	renewed, err := t.elector.Renew(bounded, term)
	switch {
	case errors.Is(err, relay.ErrLeaseLost):
		t.cancel(err)
	case err == nil:
		t.mu.Lock()
		if renewed.Deadline.After(t.latest.Deadline) {
			t.latest = renewed
		}
		t.mu.Unlock()
	}
	return err
}
