package inbox

import (
	"context"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Batch is what one transaction does in a lane.
type Batch struct {
	From   Checkpoint     // the lane, exactly as the caller knows it
	To     StreamPosition // where the lane stands afterwards
	Events []Event        // all of the lane's after From and up to To that the subscriber wants, in stream order; none: the checkpoint just moves
	// PassedOver is how many events of the lane there are besides, of types that the subscriber does not want.
	PassedOver int
	// FromLog is how many of Events, the first, come from the log because the stream had lost them. They count as filled unless they
	// are duplicates.
	FromLog int
	// Missed are removed messages that the lane passes and that nobody knows. Each message counts once for all lanes.
	Missed Missed
}

// Counts reports whether the batch changes what is counted of the subscriber.
func (b Batch) Counts() bool { return b.FromLog > 0 || b.Missed.Count > 0 }

// Result is what became of an event.
type Result int

// The results.
const (
	Applied   Result = iota // its effect happened
	Duplicate               // it was applied, or discarded, before
	SetAside                // it failed, or cannot be read, or has no handler here, and is a dead letter
	Held                    // it is a dead letter because an earlier event of its aggregate is one
)

// Outcome is what a transaction did.
type Outcome struct {
	Checkpoint Checkpoint // of the lane, after the transaction
	Results    []Result   // one for each event
	Letters    []Letter   // of the events that are SetAside, in order
	Emitted    int        // events that handlers appended to the log
}

// Judge decides about an event that failed when it was handled within a savepoint. attempts is how often it had failed before. It
// returns the failure to keep; or an error, with which the transaction ends without any effect.
type Judge func(entry outbox.Entry, attempts int, err error) (Failure, error)

// EventError is the failure of one event of several, which was not handled within a savepoint.
type EventError struct {
	Index int // in the batch
	Err   error
}

// Error names the event by its place in the batch.
func (e *EventError) Error() string {
	return fmt.Sprintf("event %d of the batch: %v", e.Index+1, e.Err)
}

// Unwrap returns the handler's error.
func (e *EventError) Unwrap() error { return e.Err }

// CollectedError is the failure of what the handlers of several events collected. Nobody knows which event is the reason.
type CollectedError struct{ Err error }

// Error says where the failure happened.
func (e *CollectedError) Error() string { return "write what the handlers collected: " + e.Err.Error() }

// Unwrap returns the database's error.
func (e *CollectedError) Unwrap() error { return e.Err }

// UnitOfWork applies events. It is safe for concurrent use.
type UnitOfWork interface {
	// Apply does the following in one transaction:
	//   - takes the lane; it fails with ErrLaneMoved, at once, unless the checkpoint is exactly as batch.From says and nobody
	//     else works on the lane;
	//   - records the events in the inbox, which tells which of them were not dealt with before;
	//   - makes dead letters of unreadable messages, of events whose aggregate has pending letters, and of those without a handler;
	//   - calls handler for the other new events, in order, each suspect one within a savepoint;
	//   - writes what the handlers collected, and moves the checkpoint to batch.To, which becomes a mark if MarkDue says so.
	// It also adds what comes from the log, and what was missed, to the subscriber's counts.
	// An error means that nothing of it was kept, unless the connection broke during the commit: then nobody knows, and the
	// checkpoint tells. It is an *EventError if the handler failed for an event that is not suspect, and a *CollectedError if
	// what was collected cannot be written; a suspect event that fails is set aside as judge says. Both wrap ErrPermanent or a
	// fault.Unavailable where that is known. The context of handler ends with ctx. When ctx ends or the connection breaks, the lane
	// may stay taken for a moment after Apply has returned.
	//
	// Postgres ends the transaction, and frees the lane, when its copy sends nothing for the idle timeout.
	Apply(ctx context.Context, subscriber string, batch Batch, handler Handler, judge Judge) (Outcome, error)
}

// Sweeper forgets what was applied.
type Sweeper interface {
	// Forgettable returns ids of events that the subscriber applied or discarded longer ago than the age of a sweep, and that the
	// log can never publish to the stream again, oldest first: neither the log nor its parking lot has them. It returns none, and
	// why, if the database is not that of the log which fills the stream with this identity.
	Forgettable(ctx context.Context, subscriber, stream string, s Sweep) (ids []string, why string, err error)
	// Forget forgets those of the events that were last seen in the stream before the sequence first, and counts them. It forgets
	// nothing unless every lane stands in the stream with this identity, at the sequence passed or after it.
	//
	// An event is safe to forget if the log could not publish it any more before the stream was seen to end at passed: each lane
	// has met what the stream held of it then, and has noted the sequence.
	Forget(ctx context.Context, subscriber, stream string, ids []string, first, passed uint64) (int, error)
}

// Sweep chooses what is forgotten.
type Sweep struct {
	Age   time.Duration // since the event was applied or discarded
	Limit int
}
