package inbox

import (
	"context"
	"fmt"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Batch is what one transaction does in a lane.
type Batch struct {
	From   Checkpoint     // the lane, exactly as the caller knows it
	To     StreamPosition // where the lane stands afterwards
	Events []Event        // all wanted events of the lane after From and up to To, in stream order; none: only the checkpoint moves
	// PassedOver is how many events of the lane between From and To have a type that the subscriber does not want.
	PassedOver int
	// FromLog is how many of Events come from the log because the stream had lost them. They are the first of Events. Those that are not
	// duplicates count as filled.
	FromLog int
	// Missed are removed messages that the lane passes, and whose events are unknown. A message that several lanes pass is counted once.
	Missed MissedMessages
}

// ChangesCounts reports whether the batch changes the subscriber's counts of filled events and missed messages.
func (b Batch) ChangesCounts() bool { return b.FromLog > 0 || b.Missed.Count > 0 }

// MissedMessages are consecutive messages that the stream removed, and whose events are unknown.
type MissedMessages struct {
	First uint64 // sequence
	Count int
}

// Result is what became of an event.
type Result int

// The results.
const (
	Applied   Result = iota // its effect happened
	Duplicate               // it was applied or discarded before
	SetAside                // it is a dead letter because it failed, cannot be read, or has no handler in this program
	Held                    // it is a dead letter because an earlier event of its aggregate is one
)

// Outcome is what a transaction did.
type Outcome struct {
	Checkpoint Checkpoint // of the lane, after the transaction
	Results    []Result   // one for each event
	Letters    []Letter   // of the events that are SetAside, in order
	Emitted    int        // events that handlers appended to the log
}

// FailurePolicy decides about an event that failed within a savepoint, given the number of its earlier failures. It returns the failure to
// record. If it returns an error, the transaction ends with that error, without any effect.
type FailurePolicy func(entry outbox.Entry, attempts int, err error) (Failure, error)

// EventError is the failure of one event of a batch. The event was not handled within a savepoint.
type EventError struct {
	Index int // of the event in the batch
	Err   error
}

// Error names the event by its place in the batch.
func (e *EventError) Error() string {
	return fmt.Sprintf("event %d of the batch: %v", e.Index+1, e.Err)
}

// Unwrap returns the handler's error.
func (e *EventError) Unwrap() error { return e.Err }

// CollectedError reports that the writes that handlers collected for several events cannot be made. It is not known which event is the
// reason.
type CollectedError struct{ Err error }

// Error says what failed.
func (e *CollectedError) Error() string { return "write what the handlers collected: " + e.Err.Error() }

// Unwrap returns the reason.
func (e *CollectedError) Unwrap() error { return e.Err }

// UnitOfWork applies events. It is safe for concurrent use.
type UnitOfWork interface {
	// Apply does the following in one transaction:
	//   - It locks the lane. It fails with ErrLaneMoved, at once, unless the checkpoint is exactly batch.From and no other transaction
	//     works on the lane.
	//   - It records the events in the inbox, and so finds out which of them are new.
	//   - It makes dead letters of unreadable messages, of events without a handler, and of events whose aggregate has pending letters.
	//   - It calls handler for the other new events, in order. Each suspect event is handled within a savepoint. If a suspect event fails,
	//     it becomes a dead letter as policy decides.
	//   - It writes what the handlers collected, adds to the subscriber's counts, and moves the checkpoint to batch.To. The new position becomes
	//     a mark if MarkDue says so.
	//
	// If Apply fails, the transaction had no effect, with one exception: if the connection breaks during the commit, only the checkpoint
	// shows whether the transaction was committed. The error is an *EventError if an event that is not suspect fails, and a *CollectedError
	// if the collected writes fail. Both wrap ErrPermanent or a fault.Unavailable if the failure is known to be permanent or an outage.
	//
	// The context of handler ends with ctx. If ctx ends or the connection breaks, the lane may stay locked for a moment after Apply has
	// returned. If the copy falls silent within the transaction, the transaction expires after a bounded time, and the lane is free again.
	Apply(ctx context.Context, subscriber string, batch Batch, handler Handler, policy FailurePolicy) (Outcome, error)
}
