package inbox

import "github.com/assylzhan-a/outboxie/internal/domain/outbox"

// Hole is a stretch of the stream, right after the position of a lane, whose messages were removed before the lane read them.
type Hole struct {
	Lane, Lanes int
	Stream      string // identity of the stream
	// First and Last are the sequences of the first and the last message that was removed. If First is after Last, no sequence is missing
	// between the lane's position and the next message. Then the message at the lane's position was removed, and the next message does not
	// continue the lane's progress.
	First, Last uint64
	After       outbox.Position // the lane's progress in the log; 0: not known
	// LastRead is the sequence of the last message that was read after the hole; Last if there is none.
	LastRead uint64
	// EndsBefore is a position. Every message up to LastRead has an earlier position; 0: not known.
	EndsBefore outbox.Position
	// PositionsAfter are the positions of the events that the relay published or parked with the messages after the hole, in order. Some of these
	// messages may be duplicates of earlier messages. The position of such a duplicate is lower than the position of the last event of the hole.
	PositionsAfter []outbox.Position
}

// Size returns how many messages were removed.
func (h Hole) Size() int { return int(max(h.Last+1, h.First) - h.First) } //nolint:gosec // no stream holds so many

// LastPosition returns the last position that the hole can contain. It is one less than the position of the first event after the hole.
// highest is the highest position that is known to be in the hole.
func (h Hole) LastPosition(highest outbox.Position) outbox.Position {
	for _, position := range h.PositionsAfter {
		if position > max(highest, h.After) {
			return position - 1
		}
	}
	return max(h.EndsBefore-1, h.After)
}

// MaxUnknown returns an upper bound for the messages of the hole whose events are lost. positions is how many positions in the hole have no
// known event, and known is how many messages of the hole have a known event. MaxUnknown returns 0 if nothing bounds the hole.
func (h Hole) MaxUnknown(positions, known int) int {
	switch {
	case h.First <= h.Last:
		positions = min(positions, h.Size()-known)
	case h.After == 0:
		return 0
	}
	return max(positions, 0)
}
