package relay

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Cursor is a hint of how far the relay has published. It shortens the search for the tail, shows that a stream lost messages,
// and tells retention what it may remove. If cursor and stream disagree, the stream decides.
type Cursor struct {
	outbox.Progress                 // the last row that the relay dealt with; EventID is empty if that row was removed
	StreamCreated   string          // identity of the stream; empty: the relay has never used a stream
	StreamSequence  uint64          // sequence of the relay's last message in the stream
	PurgedTo        outbox.Position // retention may have removed rows up to here

	// RecordedTo is the latest time at which a row up to Position was recorded. If a row up to Position was recorded later than
	// RecordedTo, the row appeared after the relay had passed. Save returns RecordedTo; Load does not. Zero: not known.
	RecordedTo time.Time

	Revision int64 // number of fenced writes so far; see WriteFence
	Halt     *Halt // what Report wrote last; nil: the relay is not halted
}

// WriteFence is the condition of a relay's write to the database. A write takes effect only
//   - while Token is the lease's token: this keeps out former leaders; and
//   - directly after the write with the number Revision: this keeps out the leader's own earlier requests that arrive late.
//
// Each write that takes effect raises the revision by one.
type WriteFence struct{ Token, Revision int64 }

// CursorStore keeps the relay's cursor, and shows operators why the relay is halted.
type CursorStore interface {
	// Load returns the cursor. If nothing was ever written, it returns the zero Cursor.
	Load(ctx context.Context) (Cursor, error)

	// Save writes Progress, StreamCreated, StreamSequence and RecordedTo. It does not change PurgedTo and Halt. It returns the
	// whole cursor as it is after the write. If the given RecordedTo is zero, Save finds it in the log, or leaves it unknown if that
	// would take too long.
	//
	// Save writes nothing and returns
	//   - ErrLeaseLost or ErrStaleRevision, if the fence does not match;
	//   - ErrSequenceBehind, if a new event can appear, or has appeared, at or below the cursor (see Log.Verify). Below the
	//     saved cursor, Save looks only for events recorded after the old RecordedTo and not after the new one. After the save,
	//     Verify could not find these events any more.
	Save(ctx context.Context, fence WriteFence, cursor Cursor) (Cursor, error)

	// Report writes why the relay is halted. A nil halt means that the relay is not halted. Report is fenced like Save.
	Report(ctx context.Context, fence WriteFence, halt *Halt) error
}
