package relay

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ErrVersionTaken reports that the aggregate already has an event of that version.
var ErrVersionTaken = fault.New(fault.Conflict, "version_taken", "the aggregate already has an event of that version")

// Appender appends to the log, inside the transaction that changes the aggregate.
type Appender interface {
	// Append records the messages in the given order, or none of them. The caller has saved, and thereby locked, the aggregate
	// before, so that its positions rise with its versions. Append returns outbox.ErrInvalidMessage for an invalid message,
	// and ErrVersionTaken for a version that already has an event.
	Append(ctx context.Context, messages ...outbox.Message) error
}

// Log is the log as the relay reads it.
type Log interface {
	// After returns the entries after from, in order of position. At the end of the log it returns no entries and no error.
	//
	// No entry can appear later between those that After has returned. If an open transaction could still commit an earlier
	// position, After waits until that transaction ends or ctx ends.
	//
	// The row at from.Position must have the id from.EventID. If not, After returns ErrHistoryLost. The row may be missing
	// only at position 0, and at or below the cursor's PurgedTo.
	//
	// Entries in the parking lot come with Parked set. An entry that comes without it may have been parked since. Rows that
	// can never be published come with the reason in Invalid, and do not stop the reader. If a payload is larger than
	// limit.Largest, or headers or texts are larger than any broker accepts, After does not read them: Invalid names the size.
	//
	// If the log cannot be read safely, for example on a standby, After fails. It never returns an empty page instead.
	After(ctx context.Context, from outbox.Progress, limit ReadLimit) (Page, error)

	// Verify checks that no event can appear, or has appeared, where the relay does not read again. The relay has dealt with
	// the log up to reached; the stream holds the last event up to there at sequence. Verify changes nothing.
	//
	// Verify returns ErrSequenceBehind
	//   - if the next position is not above reached and above everything in the log and the parking lot;
	//   - if an event appeared after the relay had passed. Below the saved cursor that is an event below PurgedTo, or one
	//     recorded after RecordedTo. Between the saved cursor and reached it is an event for which the stream has no message.
	//     Parked events do not count.
	//
	// If the sequence went back and forth, Verify may take half a minute to find the event. If the row at reached is missing or
	// has another id, Verify returns ErrHistoryLost, as After does.
	Verify(ctx context.Context, reached outbox.Progress, sequence uint64) error
}

// ReadLimit bounds one read of the log. A read returns at least one entry, whatever its size.
type ReadLimit struct {
	Count int
	Bytes int // of payloads and headers together, about
	// Largest is the size of the largest message that the broker accepts. Larger payloads are not read. 0: outbox.MaxPayload.
	Largest int
}

// LargestPayload returns the size of the largest payload that is read.
func (l ReadLimit) LargestPayload() int {
	if l.Largest == 0 {
		return outbox.MaxPayload
	}
	return l.Largest
}

// Page is one read of the log.
type Page struct {
	Entries []outbox.Entry
	// More reports that further entries may be there already. If it is false, each further entry is committed after the read,
	// and its notification is still to come.
	More bool
}

// Retention removes old entries from the log.
type Retention interface {
	// Purge removes at most limit entries, lowest positions first, that the cursor passed at least age ago. In the same step it
	// raises the cursor's PurgedTo. It returns how many entries it removed. If token is not the lease's any more, it removes
	// nothing and returns ErrLeaseLost.
	//
	// The age counts from publishing, not from recording: a stream that loses messages within that time can get them again. If Purge
	// is called often enough, an entry is removed within twice the age. Parked events stay while they wait; then they age from
	// the operator's decision or the redrive, and leave log and parking lot together.
	Purge(ctx context.Context, token int64, age time.Duration, limit int) (int, error)
}
