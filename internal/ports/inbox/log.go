package inbox

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// HoleContents is what the log knows about a hole.
type HoleContents struct {
	// EndUnknown reports that neither the messages after the hole nor the log's cursor show where the hole ends in the log. The caller asks
	// again when it has read more messages.
	EndUnknown bool
	// OtherStream reports that the log fills another stream than the hole's: the log is in another database, or the stream was created again.
	OtherStream bool
	// Events are the events of the lane that the subscriber wants and has not handled, in order of position. Their Sequence is the last
	// sequence of the hole.
	Events []Event
	// CompleteTo is the position up to which Events is complete. More reports that the hole may contain events after it.
	CompleteTo outbox.Position
	More       bool
	// LostMessages is how many messages of the hole are lost: neither the log nor the subscriber's inbox has their events. Control messages and
	// messages of other lanes and types count too, because nobody can tell them apart. Why says how they were lost, if LostMessages is not 0.
	LostMessages int
	Why          string
}

// LogCursor is the answer of Log.CursorBetween.
type LogCursor struct {
	OtherStream bool            // the log of the subscriber's database does not fill this stream
	Known       bool            // the cursor stands between the two sequences
	Position    outbox.Position // the relay had published or parked everything up to here
}

// Log is the log as a subscriber sees it. If the log is in another database than the subscriber's, OtherStream is true in the answers.
type Log interface {
	// ReadHole returns events of a hole from the log. These are the events between hole.After and hole.EndsBefore, up to the last event
	// that is not in hole.PositionsAfter. If hole.After is not known, ReadHole returns only the last of these events, at most as many as the
	// hole has messages. An event in the parking lot is not lost. An event that was redriven is lost only if it was redriven into the hole.
	//
	// The answer is a snapshot. It has at most limit.Count events and limit.Bytes bytes, but at least one event if there is one.
	ReadHole(ctx context.Context, subscriber string, hole Hole, limit ReadLimit) (HoleContents, error)
	// CursorBetween returns the position of the log's cursor, if the cursor stands between two sequences of a stream.
	CursorBetween(ctx context.Context, stream string, from, to uint64) (LogCursor, error)
}
