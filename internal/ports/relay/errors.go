package relay

import (
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// The errors to which the relay reacts. After any other error, the relay does not know whether the call took effect.
var (
	// ErrTailMoved reports that the stream does not end where the caller expected, because somebody else appended or an
	// earlier answer was lost. This append stored nothing, or only a part of its batch.
	ErrTailMoved = fault.New(fault.Conflict, "tail_moved", "the stream does not end where it was expected to")
	// ErrStreamMissing reports that the broker has answered that the stream does not exist. If the broker does not answer, the
	// error is another one.
	ErrStreamMissing = fault.New(fault.NotFound, "stream_missing", "the stream does not exist")
	// ErrStreamUnfit reports that publishing would not be safe with the settings of the stream or the version of the broker:
	// an append could be stored in part, unseen, or where no subscriber looks. The detail says what to do.
	ErrStreamUnfit = fault.New(fault.Conflict, "stream_unfit", "the stream is not safe to publish to")
	// ErrNoMessage reports that the stream has no message at the given sequence. The message was never stored, was deleted, or has
	// expired.
	ErrNoMessage = fault.New(fault.NotFound, "message_missing", "the stream has no message at that sequence")
	// ErrHistoryLost reports that the log does not hold the event that the relay dealt with last; see Log.After.
	ErrHistoryLost = fault.New(fault.Conflict, "history_lost", "the log does not hold the event that was published last")
	// ErrSequenceBehind reports that the sequence of the database, which assigns positions, went back. The log refuses new events,
	// or records them below the relay's cursor, where the relay does not read again.
	ErrSequenceBehind = fault.New(fault.Unavailable, "sequence_behind", "the outbox gives out positions that it gave out before")
	// ErrLeaseHeld reports that another holder has the lease.
	ErrLeaseHeld = fault.New(fault.Conflict, "lease_held", "the lease is held by another instance")
	// ErrLeaseLost reports that the lease has another token now. Nothing was written.
	ErrLeaseLost = fault.New(fault.Conflict, "lease_lost", "the lease was lost to another instance")
	// ErrStaleRevision reports that another write took effect first. Nothing was written. The caller loads the cursor
	// again before its next write.
	ErrStaleRevision = fault.New(fault.Conflict, "stale_revision", "another write to the relay's state came first")
	// ErrNotParked reports that no parked event has that position or aggregate.
	ErrNotParked = fault.New(fault.NotFound, "not_parked", "no such event is parked")
)

// RefusedError reports that the broker can never store an entry: the entry is too large, the stream does not take its subject,
// or no subscriber could read it. Another try does not help.
type RefusedError struct {
	Entry  outbox.Entry
	Reason string
}

// Error names the event and the reason.
func (e *RefusedError) Error() string {
	return "event " + e.Entry.ID + " of " + e.Entry.Key.String() + " can never be published: " + e.Reason
}
