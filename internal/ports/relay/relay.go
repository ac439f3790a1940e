// Package outbox is what the engine needs from the outside: a log to append to and read from, a stream to append to, a
// lease, a cursor and a bell. Adapters are dumb: they do one thing once and classify what went wrong, with the faults
// below or with a fault.Kind. None of them retries; every retry is decided in internal/app/relaying.
//
// Package relaytest holds the executable contract of each interface.
package relay

import (
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// The answers that the engine acts upon. Anything else is a failure of the call: nothing is known about its effect.
var (
	// ErrTailMoved : nothing was stored by this append (or not all of it), because the stream does not end where the
	// caller believed. Somebody else appended, or an answer was lost.
	ErrTailMoved = fault.New(fault.Conflict, "tail_moved", "the stream does not end where it was expected to")
	// ErrStreamMissing : the broker says, positively, that there is no such stream. A broker that does not answer never
	// gives this.
	ErrStreamMissing = fault.New(fault.NotFound, "stream_missing", "the stream does not exist")
	// ErrStreamUnfit reports that the stream, or the broker, is not as the engine needs it, so that an append could be stored in
	// part, unseen, or where no subscriber looks. Its text says what to do. Publishing nothing is the only safe thing.
	ErrStreamUnfit = fault.New(fault.Conflict, "stream_unfit", "the stream is not as publishing needs it")
	// ErrNoMessage : the stream has no message at that sequence: never stored, deleted, or expired.
	ErrNoMessage = fault.New(fault.NotFound, "message_missing", "the stream has no message at that sequence")
	// ErrHistoryLost : the log does not hold what was dealt with; see Log.
	ErrHistoryLost = fault.New(fault.Conflict, "history_lost", "the log does not hold the event that was published last")
	// ErrSequenceBehind reports that the sequence that deals positions went back. New events are refused, or come where the relay does
	// not look any more.
	ErrSequenceBehind = fault.New(fault.Unavailable, "sequence_behind", "the outbox deals positions that it has dealt before")
	// ErrLeaseHeld : another holder has the lease.
	ErrLeaseHeld = fault.New(fault.Conflict, "lease_held", "the lease is held by another instance")
	// ErrLeaseLost : the token is not the lease's any more, so nothing was written.
	ErrLeaseLost = fault.New(fault.Conflict, "lease_lost", "the lease was lost to another instance")
	// ErrOutOfTurn : another write took effect first, so nothing was written. The caller has to load the cursor again.
	ErrOutOfTurn = fault.New(fault.Conflict, "out_of_turn", "another write to the relay's state came first")
	// ErrNotParked : there is no event at that position, or of that aggregate, that waits for an operator.
	ErrNotParked = fault.New(fault.NotFound, "not_parked", "no such event is parked")
)

// RefusedError says that the broker can never take an entry, however often it is tried: it is too large, its subject
// is not the stream's, or no subscriber could read it.
type RefusedError struct {
	Entry  outbox.Entry
	Reason string
}

// Error names the event and the reason.
func (e *RefusedError) Error() string {
	return "event " + e.Entry.ID + " of " + e.Entry.Key.String() + " can never be published: " + e.Reason
}
