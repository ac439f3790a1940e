package subscribing

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// letterCallers is how many letters a copy hands to an external handler at once, so that those whose calls hang do not hold up the others.
const letterCallers = 4

// errTooOld reports that nothing was called.
var errTooOld = fault.New(fault.Unavailable, "transaction_too_old", "the transaction is too old for a call")

// external is a handler that calls something outside of its transaction, for one transaction. Postgres ends a transaction that sends nothing
// for the idle timeout, and then another copy can call for the next event of the aggregate. So a call begins and ends before that: it takes
// less than half of the idle timeout, and it does not begin when the transaction is as old as that.
type external struct {
	inbox.Handler
	within time.Duration
	began  time.Time // before the transaction began
}

// Handle calls, unless it is too late.
func (e *external) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	if age := e.age(); age >= e.within {
		return errTooOld.With("the transaction for event %s is %s old, and a call has to begin within %s: nothing was called",
			entry.ID, age.Round(time.Millisecond), e.within)
	}
	ctx, cancel := context.WithTimeout(ctx, e.within)
	defer cancel()
	return e.Handler.Handle(ctx, tx, entry)
}

// age is how old the transaction can be. The monotonic clock stands still while the machine is suspended, and the other one can be set, so
// the one counts that says more.
func (e *external) age() time.Duration {
	now := time.Now()
	return max(now.Sub(e.began), now.Round(0).Sub(e.began.Round(0)))
}

// handlerNow returns the handler for a transaction that begins now.
func (s *Subscriber) handlerNow() inbox.Handler {
	if !s.handler.External() {
		return s.handler
	}
	return &external{Handler: s.handler, within: s.opts.CallTime, began: time.Now()}
}

// letterWorkers is how many loops try letters again.
func (s *Subscriber) letterWorkers() int {
	if s.handler.External() {
		return min(letterCallers, s.opts.Transactions)
	}
	return 1
}

// redelivery returns how letters are tried. An external handler gets one letter a transaction, within a savepoint, so that its failure is
// counted at once and the call is not made again for that.
func (s *Subscriber) redelivery(careful bool) inbox.Redelivery {
	r := inbox.Redelivery{Limit: largestBatch, Careful: careful, Types: s.handler.Types()}
	if s.handler.External() {
		r.Limit, r.Careful = 1, true
	}
	return r
}

// occupy takes one of the transactions that the copy may have under way. It returns false when ctx has ended.
func (s *Subscriber) occupy(ctx context.Context) bool {
	select {
	case s.transactions <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// vacate gives back what occupy took.
func (s *Subscriber) vacate() { <-s.transactions }

// announce wakes the relay if events were appended to the log.
func (s *Subscriber) announce(emitted int) {
	if emitted > 0 && s.ports.Notifier != nil {
		s.ports.Notifier.Notify()
	}
}

// newLane returns a lane as the handler needs it.
func (s *Subscriber) newLane(checkpoint inbox.Checkpoint, covering bool) *lane {
	if s.handler.External() {
		return newLaneAlone(checkpoint, covering)
	}
	return newLane(checkpoint, covering)
}
