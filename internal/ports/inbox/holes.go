package inbox

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Hole is a stretch of the stream, after the place of a lane, whose messages were removed before the lane read them.
type Hole struct {
	Lane, Lanes int
	Stream      string // identity of the stream
	// First and Last are the sequences of the first and the last message that was removed. If First is after Last, no sequence is
	// missing, but the message at the lane's place was removed, and the next one does not continue the lane's progress.
	First, Last uint64
	After       outbox.Position // up to here the lane has dealt with the log; 0: not known
	// Read is the sequence of the last message that was read after the hole, or Last. Before is after every position that the messages
	// up to there can have; 0: they say nothing. Present are the events that the relay published, or parked, with these messages, in
	// order. Copies of earlier messages may be among them: those are before the last event of the hole.
	Read    uint64
	Before  outbox.Position
	Present []outbox.Position
}

// Lost is what the log says about a hole.
type HoleContents struct {
	// Open says that neither the messages after the hole nor the log's cursor tell where the hole ends. Ask again when more was read.
	EndUnknown bool
	// Elsewhere says that the log fills another stream than the hole's: it is in another database, or the stream was made again.
	OtherStream bool
	// Events are those of the lane that the subscriber wants and has not dealt with, in order of position. They have the sequence of
	// the hole's end.
	Events []Event
	// Through is up to which position these are all. More says that there may be others after it, in the same hole.
	CompleteTo outbox.Position
	More       bool
	// Unknown is how many messages of the hole nobody knows: neither the log nor the subscriber's inbox has their events. Control
	// messages and those of other lanes or types count too, because nobody can tell them apart any more. If it is not 0, Why says
	// the reason.
	Unknown int
	Why     string
}

// Missed names messages of the stream that were removed and that nobody knows: so many from a sequence on.
type MissedMessages struct {
	First uint64
	Count int
}

// Missed returns the messages of the hole that nobody knows, if they are so many. The log loses its earliest events first, so these are
// the first messages of what is still to be filled.
func (h Hole) Missed(unknown int) MissedMessages {
	if h.First > h.Last {
		return MissedMessages{First: h.Last + 1 - min(uint64(unknown), h.Last), Count: unknown}
	}
	left := max(0, int64(h.Before-h.After)-1)
	for _, position := range h.Present {
		if h.After < position && position < h.Before {
			left--
		}
	}
	first := h.First
	if size := int64(h.Last + 1 - h.First); h.After > 0 && max(left, int64(unknown)) < size {
		first = h.Last + 1 - uint64(max(left, int64(unknown)))
	}
	return MissedMessages{First: first, Count: unknown}
}

// Reached is what the log says about a place in the stream.
type LogCursor struct {
	OtherStream bool // the subscriber's database is not that of the log which fills the stream
	Known       bool
	Position    outbox.Position // up to which the log was dealt with there
}

// Log is the log as a subscriber may see it, if it is in the subscriber's database.
type Log interface {
	// Lost looks for what a hole took away: the events that the log has between After and Before, up to the last one that is not
	// Present. If After is not known, the hole has at most as many events as it has messages: the last ones. What it returns is from
	// one moment. It returns at most limit.Count events, and at most limit.Bytes bytes of them, but at least one event if there is one.
	// What waits in the parking lot, or was redriven into another place, is not lost; what was redriven into the hole is.
	ReadHole(ctx context.Context, subscriber string, hole Hole, limit ReadLimit) (HoleContents, error)
	// Reached returns up to which position the log was dealt with at a sequence between from and to, if the log's cursor stands there.
	CursorBetween(ctx context.Context, stream string, from, to uint64) (LogCursor, error)
}

// Through returns the position before the first event after the hole, given the highest position that was in the hole.
func (h Hole) LastPosition(highest outbox.Position) outbox.Position {
	for _, position := range h.Present {
		if position > max(highest, h.After) {
			return position - 1
		}
	}
	return max(h.Before-1, h.After)
}

// Size returns how many messages were removed.
func (h Hole) Size() int { return int(max(h.Last+1, h.First) - h.First) } //nolint:gosec // no stream holds so many

// Gone returns how many messages of the hole nobody knows, at most: of that many positions nobody knows an event, and of that many
// messages somebody does. It returns 0 if there is nothing to count by.
func (h Hole) MaxUnknown(positions, known int) int {
	switch {
	case h.First <= h.Last:
		positions = min(positions, h.Size()-known)
	case h.After == 0:
		return 0
	}
	return max(positions, 0)
}
