package relay

import (
	"context"
	"time"
)

// CursorStore keeps the relay's cursor, and tells operators why the relay halted.
type CursorStore interface {
	// Load returns the cursor, the zero Cursor when nothing was ever written.
	Load(ctx context.Context) (Cursor, error)
	// Save writes position, stream identity and sequence, and RecordedTo, if it is the turn's: else the answer is ErrLeaseLost
	// or ErrOutOfTurn, and nothing is written. It returns the cursor as it stands, with PurgedTo and Halt, which it does not
	// change. A RecordedTo that is zero is found in the log; if that would take too long, it stays unknown.
	//
	// If the log does not grow after cursor alone (see Log.Verify; of the events before the saved cursor those count that the
	// new RecordedTo would hide), the answer is ErrSequenceBehind, and nothing is written.
	Save(ctx context.Context, turn WriteFence, cursor Cursor) (Cursor, error)
	// Report writes why the relay halted, or with nil that it did not, fenced like Save.
	Report(ctx context.Context, turn WriteFence, halt *Halt) error
}

// InstanceHalts keeps, for operators, which instances are halted. What it keeps decides nothing: each instance reports for
// itself, and may do so while another one leads.
type InstanceHalts interface {
	// Record keeps why the caller's instance is halted, or with nil that it is not. A report that is not repeated within
	// HaltReportExpires is forgotten.
	Record(ctx context.Context, halt *Halt) error
}

// HaltReportExpires is how long a report of a halt counts, so that the report of a dead instance goes away.
const HaltReportExpires = time.Minute
