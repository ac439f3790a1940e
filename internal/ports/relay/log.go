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
	// Append records the messages in the given order, or none of them. The caller saves the aggregate before it calls
	// Append. The save locks the aggregate, so the positions of an aggregate rise with its versions. Append returns
	// outbox.ErrInvalidMessage for an invalid message, and ErrVersionTaken for a version that already has an event.
	Append(ctx context.Context, messages ...outbox.Message) error
}

// Log is the log as the relay reads it.
type Log interface {
	// After returns the entries after from, in order of position. At the end of the log it returns no entries and no error.
	//
	// No entry can appear later between the entries that After has returned. If an open transaction could still commit an earlier
	// position, After waits until that transaction ends or ctx ends.
	//
	// The row at from.Position must have the id from.EventID. If not, After returns ErrHistoryLost. The row may be missing
	// only at position 0, and at or below the cursor's PurgedTo.
	//
	// After sets Parked in the entries that are in the parking lot. An entry without Parked may have been parked after the read.
	// A row that can never be published does not end the read: After returns it with the reason in Invalid. If a payload is larger
	// than limit.Largest, or headers or texts are larger than any broker accepts, After does not read these parts: Invalid names
	// their size.
	//
	// If the log cannot be read safely, for example on a standby, After fails. It never returns an empty page instead.
	After(ctx context.Context, from outbox.Progress, limit ReadLimit) (Page, error)

	// Verify checks that no event can appear, or has appeared, where the relay does not read again. The relay has dealt with
	// the log up to reached. sequence is the sequence of the last message in the stream that carries or parks an event up to reached.
	// Verify changes nothing. If it succeeds, it also reports whether the log has entries after reached: if not, After would have returned
	// no entries at that moment.
	//
	// Verify returns ErrSequenceBehind
	//   - if the next position is not above reached and above everything in the log and the parking lot;
	//   - if an event appeared after the relay had passed its position. Below the saved cursor, this is an event below PurgedTo,
	//     or an event recorded after RecordedTo. Between the saved cursor and reached, this is an event for which the stream has
	//     no message. Parked events do not count.
	//
	// If the sequence of the database went back and forth, Verify may take half a minute to find the event. If the row at
	// reached is missing or has another id, Verify returns ErrHistoryLost, as After does.
	Verify(ctx context.Context, reached outbox.Progress, sequence uint64) (more bool, err error)
}

// ReadLimit bounds one read of the log. A read returns at least one entry, whatever its size.
type ReadLimit struct {
	Count int
	Bytes int // approximate limit on payloads and headers together
	// Largest is the size of the largest message that the broker accepts. The read leaves out larger payloads. 0:
	// outbox.MaxPayload.
	Largest int
}

// LargestPayload returns the size of the largest payload that the read does not leave out.
func (l ReadLimit) LargestPayload() int {
	if l.Largest == 0 {
		return outbox.MaxPayload
	}
	return l.Largest
}

// Page is one read of the log.
type Page struct {
	Entries []outbox.Entry
	// More reports that the log may hold further entries already. If More is false, each further entry commits after the read, and
	// its notification comes after the read.
	More bool
}

// Retention removes old entries from the log.
type Retention interface {
	// Purge removes at most limit entries, lowest positions first, that the cursor passed at least age ago. In the same step it
	// raises the cursor's PurgedTo. It returns how many entries it removed. If the lease has another token now, it
	// removes nothing and returns ErrLeaseLost.
	//
	// The age of an entry counts from its publishing, not from its recording. So if the stream loses a message within that time, the relay can
	// publish it again. If Purge is called often enough, an entry is removed within twice the age. Purge keeps a parked event while it waits.
	// After that, the age of the event counts from the operator's decision or from the redrive, and Purge removes the event from the log and
	// the parking lot together.
	Purge(ctx context.Context, token int64, age time.Duration, limit int) (int, error)
}
