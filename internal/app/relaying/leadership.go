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

// stopGrace is how long a publish that is under way may continue after the relay's context has ended.
const stopGrace = 250 * time.Millisecond

// leadership is the work of a leader in one term. It renews the lease in the background. It ends at the term's deadline at the latest.
type leadership struct {
	ctx        context.Context // ends with the leadership; may last stopGrace longer than the context of Run
	elector    relay.Elector
	ttl        time.Duration
	cancel     context.CancelCauseFunc
	detach     func() bool
	background sync.WaitGroup // goroutines that end with the leadership

	mu          sync.Mutex
	currentTerm relay.Term

	lastSuccess    time.Time   // when the relay last succeeded
	reportedHalt   *relay.Halt // what operators see now: the last report; nil: the relay is not halted
	revision       int64       // revision after the last fenced write; only the goroutine of Run uses it
	streamVerified atomic.Bool // the stream is taken over, and nothing has failed since
}

// startLeadership starts a leadership for term. The caller ends it with end.
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

// fencedWrite makes one fenced write, and counts the revision if the write succeeds. A write that has failed can still take effect later,
// but not after another write has taken effect.
func (l *leadership) fencedWrite(ctx context.Context, do func(context.Context, relay.WriteFence) error) error {
	err := do(ctx, relay.WriteFence{Token: l.term().Token, Revision: l.revision})
	if err == nil {
		l.revision++
	}
	return err
}

// end stops the background goroutines and returns why the leadership ended.
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

// expired reports whether the leadership has ended or the term's deadline has passed. It compares the time, because the timers of a process
// that was frozen may not have run yet.
func (l *leadership) expired() bool {
	return l.ctx.Err() != nil || !time.Now().Before(l.term().Deadline)
}

// keepRenewing renews the lease each quarter of the lease's time to live, and sooner after a failure, until ctx ends. At the term's
// deadline it ends the leadership.
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

// confirmLease renews the lease now. If the lease is lost, confirmLease ends the leadership.
func (l *leadership) confirmLease() { _ = l.tryRenew(l.ctx) }

// tryRenew tries once to renew the lease. The try ends after a quarter of the lease's time to live at the latest, so that a connection
// that hangs leaves time for further tries.
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
