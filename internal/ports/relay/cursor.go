package relay

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Cursor is a hint of how far the relay has published. It shortens the search for the tail, shows that a stream lost messages,
// and tells retention what it may remove. If cursor and stream disagree, the stream decides.
type Cursor struct {
	outbox.Progress                 // the last row that the relay dealt with; EventID is empty when that row was removed
	StreamCreated   string          // identity of the stream; empty: the relay has never used a stream
	StreamSequence  uint64          // sequence of our last message in the stream
	PurgedTo        outbox.Position // retention may have removed rows up to here

	// RecordedTo is the time at which the latest of the rows up to Position was recorded. A row there that was recorded later
	// appeared after the relay had passed. Only Save returns it. Zero: not known.
	RecordedTo time.Time

	Revision int64 // number of fenced writes so far; see WriteFence
	Halt     *Halt // the last report; nil: the relay is not halted
}

// WriteFence protects what a relay writes to the database. A write takes effect only
//   - while Token is the lease's token, which keeps former leaders out, and
//   - as the write that follows number Revision, which keeps out the leader's own earlier requests that arrive late.
//
// Each write that takes effect raises the revision by one.
type WriteFence struct{ Token, Revision int64 }

// CursorStore keeps the relay's cursor, and shows operators why the relay is halted.
type CursorStore interface {
	// Load returns the cursor. It is the zero Cursor if nothing was ever written.
	Load(ctx context.Context) (Cursor, error)

	// Save writes Progress, StreamCreated, StreamSequence and RecordedTo. It returns the whole cursor as it is now: PurgedTo
	// and Halt stay as they were. If the given RecordedTo is zero, Save finds it in the log, or leaves it unknown if that
	// would take too long.
	//
	// Save writes nothing and returns
	//   - ErrLeaseLost or ErrStaleRevision, if the fence does not match;
	//   - ErrSequenceBehind, if a new event can appear, or has appeared, at or below the cursor (see Log.Verify; of the events
	//     below the saved cursor, only those count that the new RecordedTo would hide).
	Save(ctx context.Context, fence WriteFence, cursor Cursor) (Cursor, error)

	// Report writes why the relay halted, or with nil that it is not halted. It is fenced like Save.
	Report(ctx context.Context, fence WriteFence, halt *Halt) error
}
