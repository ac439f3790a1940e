package relay

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ErrVersionTaken : the aggregate already has an event of that version.
var ErrVersionTaken = fault.New(fault.Conflict, "version_taken", "the aggregate already has an event of that version")

// Appender appends to the log, inside the transaction that changes the aggregate.
type Appender interface {
	// Append records the messages in the given order, or none of them. The caller has locked the aggregate (by saving
	// it) first, so that positions ascend with versions. Invalid messages are refused with outbox.ErrInvalidMessage, a
	// version that has an event already with ErrVersionTaken.
	Append(ctx context.Context, messages ...outbox.Message) error
}

// Log is the log as the relay reads it.
type Log interface {
	// After returns the entries that follow from, in order of position: at most limit.Count of them and about limit.Bytes
	// of payload and headers, but at least one if there is any. It returns only entries which no open transaction can still precede;
	// where one can, it waits for that transaction's end (commit, rollback or loss of its connection) or for ctx.
	// None left is an empty slice without an error.
	//
	// The row at from.Position must carry from.EventID, else the answer is ErrHistoryLost; it may be missing only at
	// position 0 and at or below the cursor's PurgedTo.
	//
	// Entries that are in the parking lot are among them, marked Parked; that they were not may have become untrue since.
	// So are rows that can never be published, with the reason in Entry.Invalid. One such row must not keep the others back.
	// A payload larger than limit.Largest, and headers or texts that no broker takes, are such a reason, which tells the size:
	// the caller does not get them, and they never come into its memory.
	//
	// A log that is not safe to read (a standby, for example) is a failure, never an empty answer.
	After(ctx context.Context, from outbox.Progress, limit ReadLimit) (Page, error)

	// Verify checks that the log still grows after reached alone, up to which the relay has dealt with it; sequence is where the
	// stream holds the last event up to there. It changes nothing. The answer is ErrSequenceBehind
	//   - if a position is dealt next that is not above reached, and above everything in the log and the parking lot;
	//   - if an event came after the relay: at or below the saved cursor, and below PurgedTo or recorded after RecordedTo; or
	//     between the cursor and reached, where there are more events than the stream has messages. Those that are in the
	//     parking lot do not count.
	// An event that came while the sequence went back and forth may be found only within half a minute.
	// If the row at reached is another one or is missing, as After judges it, the answer is ErrHistoryLost.
	Verify(ctx context.Context, reached outbox.Progress, sequence uint64) error
}

// Page is what follows a position of the log.
type Page struct {
	Entries []outbox.Entry
	// More may follow at once: the limit ended the page, or something that was seen could not be returned yet. If it is
	// false, whatever follows was committed after it was read.
	More bool
}

// Retention removes from the log what was published long ago.
type Retention interface {
	// Purge removes at most limit entries, those at the lowest positions first, that the cursor passed at least age ago, and
	// sets the cursor's PurgedTo to match, all at once; they go within twice the age if Purge is called often enough. The
	// age counts from when the stream held them, not from when they were recorded, so that a stream which lost what it was
	// given within that time can be healed. Events in the parking lot stay while they wait; after that they age from when
	// they were dealt with, and leave the lot together with the log. Purge returns how many entries were removed. If token
	// is not the lease's any more, the answer is ErrLeaseLost and nothing is removed.
	Purge(ctx context.Context, token int64, age time.Duration, limit int) (int, error)
}
