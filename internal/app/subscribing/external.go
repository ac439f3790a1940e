package subscribing

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// letterCallers is how many dead letters a copy hands to an external handler at once, so that calls that hang do not hold up all others.
const letterCallers = 4

// errTooOld reports that the handler was not called, because the transaction is too old for a call.
var errTooOld = fault.New(fault.Unavailable, "transaction_too_old", "the transaction is too old for a call")

// timeLimited is an external handler within one transaction. A transaction that sends nothing for the idle timeout expires, and then
// another copy can call for the next event of the aggregate. So each call must end before the transaction expires. A call begins only while
// the transaction is younger than callTime, and takes at most callTime. So callTime must be less than half of the idle timeout.
type timeLimited struct {
	inbox.Handler
	callTime time.Duration
	began    time.Time // before the transaction began
}

// Handle calls the handler, or fails with errTooOld.
func (e *timeLimited) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	if age := e.age(); age >= e.callTime {
		return errTooOld.With("the transaction for event %s is %s old, and a call has to begin within %s: nothing was called",
			entry.ID, age.Round(time.Millisecond), e.callTime)
	}
	ctx, cancel := context.WithTimeout(ctx, e.callTime)
	defer cancel()
	return e.Handler.Handle(ctx, tx, entry)
}

// age returns the greatest age that the transaction can have. The monotonic clock stands still while the machine is suspended, and the wall
// clock can be set. So the larger of both answers counts.
func (e *timeLimited) age() time.Duration {
	now := time.Now()
	return max(now.Sub(e.began), now.Round(0).Sub(e.began.Round(0)))
}

// transactionHandler returns the handler for a transaction that begins now.
func (s *Subscriber) transactionHandler() inbox.Handler {
	if !s.handler.External() {
		return s.handler
	}
	return &timeLimited{Handler: s.handler, callTime: s.opts.CallTime, began: time.Now()}
}

// letterWorkers returns how many loops try dead letters.
func (s *Subscriber) letterWorkers() int {
	if s.handler.External() {
		return min(letterCallers, s.opts.Transactions)
	}
	return 1
}

// redelivery returns how dead letters are tried. An external handler gets one letter in each transaction, within a savepoint. So a failure
// of the letter is counted at once, and no call is repeated only to find out which letter failed.
func (s *Subscriber) redelivery(savepoints bool) inbox.Redelivery {
	r := inbox.Redelivery{Limit: largestBatch, Savepoints: savepoints, Types: s.handler.Types()}
	if s.handler.External() {
		r.Limit, r.Savepoints = 1, true
	}
	return r
}

// acquireTransaction takes one of the transactions that the copy may have open. It returns false if ctx has ended.
func (s *Subscriber) acquireTransaction(ctx context.Context) bool {
	select {
	case s.transactions <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// releaseTransaction gives a transaction back.
func (s *Subscriber) releaseTransaction() { <-s.transactions }

// notifyRelay wakes the relay if handlers appended events to the log.
func (s *Subscriber) notifyRelay(emitted int) {
	if emitted > 0 && s.ports.Notifier != nil {
		s.ports.Notifier.Notify()
	}
}

// newLane returns a lane for the subscriber's handler.
func (s *Subscriber) newLane(checkpoint inbox.Checkpoint, takenOver bool) *lane {
	if s.handler.External() {
		return newSingleEventLane(checkpoint, takenOver)
	}
	return newLane(checkpoint, takenOver)
}
