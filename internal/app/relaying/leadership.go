package relaying

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

var errLeaseExpired = errors.New("the lease could not be renewed in time")

// grace is how long a publish that is under way may go on after the relay was told to stop.
const stopGrace = 250 * time.Millisecond

// tenure is a term while it is served: it renews the lease and ends, at the latest, when the term's deadline passes.
type leadership struct {
	ctx     context.Context // ends with the tenure; outlives the relay's own context by grace
	elector relay.Elector
	ttl     time.Duration
	cancel  context.CancelCauseFunc
	detach  func() bool
	background   sync.WaitGroup // what runs beside the relay while the tenure lasts

	mu     sync.Mutex
	currentTerm relay.Term

	lastSuccess   time.Time   // when something worked last
	reportedHalt *relay.Halt // what operators are told
	revision int64       // of what the relay wrote last; only its own goroutine writes
	tookOver   atomic.Bool // the stream was taken over and nothing went wrong since
}

// take starts to serve a term. The caller ends it with end.
func (r *Relay) startLeadership(ctx context.Context, term relay.Term) *leadership {
	l := &leadership{elector: r.Elector, ttl: r.opts.LeaseTTL, currentTerm: term}
	l.ctx, l.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	renewing, stopRenewing := context.WithCancel(l.ctx)
	l.detach = context.AfterFunc(ctx, func() {
		stopRenewing()
		timer := time.AfterFunc(stopGrace, func() { l.cancel(ctx.Err()) })
		context.AfterFunc(l.ctx, func() { timer.Stop() })
	})
	l.background.Go(func() {
		defer stopRenewing()
		l.keepRenewing(renewing)
	})
	return l
}

// write makes one write to the database in its turn. A failed one may still take effect, until the next one has.
func (l *leadership) fencedWrite(ctx context.Context, do func(context.Context, relay.WriteFence) error) error {
	err := do(ctx, relay.WriteFence{Token: l.term().Token, Revision: l.revision})
	if err == nil {
		l.revision++
	}
	return err
}

// end stops what the tenure owns and returns why the tenure ended.
func (l *leadership) end() error {
	l.detach()
	l.cancel(context.Canceled)
	l.background.Wait()
	return context.Cause(l.ctx)
}

func (l *leadership) term() relay.Term {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.currentTerm
}

// over reports whether the term may not be trusted any more. A process that was frozen learns it here, before the timer
// had a chance to run.
func (l *leadership) expired() bool { return l.ctx.Err() != nil || !time.Now().Before(l.term().Deadline) }

// renew extends the term at a quarter of its length until ctx ends. When the deadline passes first, the tenure is over.
func (l *leadership) keepRenewing(ctx context.Context) {
	pause := l.ttl / 4
	for {
		deadline := time.NewTimer(time.Until(l.term().Deadline))
		tick := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-deadline.C:
			l.cancel(errLeaseExpired)
		case <-tick.C:
		}
		deadline.Stop()
		tick.Stop()
		if ctx.Err() != nil {
			return
		}
		if err := l.tryRenew(ctx); err != nil {
			pause = l.ttl / 16
		} else {
			pause = l.ttl / 4
		}
	}
}

// confirm asks the lease's keeper whether the term is still this relay's, and ends the tenure if it is not.
func (l *leadership) confirmLease() { _ = l.tryRenew(l.ctx) }

// extend gives one try a quarter of the term, so that a connection that hangs leaves time for others.
func (l *leadership) tryRenew(ctx context.Context) error {
	term := l.term()
	bounded, cancel := context.WithTimeout(ctx, min(l.ttl/4, time.Until(term.Deadline)))
	defer cancel()
	renewed, err := l.elector.Renew(bounded, term)
	switch {
	case errors.Is(err, relay.ErrLeaseLost):
		l.cancel(err)
	case err == nil:
		l.mu.Lock()
		if renewed.Deadline.After(l.currentTerm.Deadline) {
			l.currentTerm = renewed
		}
		l.mu.Unlock()
	}
	return err
}
