package inbox

import (
	"hash/fnv"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// MaxLanes is the largest number of lanes that a subscriber can have.
const MaxLanes = 1024

// LaneOf returns the lane of an aggregate's events, given the number of lanes. Every version of this program must return the same lane,
// because a checkpoint promises that every earlier event of its lane was handled.
func LaneOf(aggregate outbox.Key, lanes int) int {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(aggregate.Type)) // never fails
	_, _ = hash.Write([]byte{0})
	_, _ = hash.Write([]byte(aggregate.ID))
	return int(hash.Sum64() % uint64(lanes))
}

// Lowest returns the lane that is the furthest behind. Lanes that fill the same hole stand at the same message. Among these lanes, the one
// with the lowest progress is the furthest behind.
func Lowest(lanes []Checkpoint) Checkpoint {
	lowest := lanes[0]
	for _, lane := range lanes {
		if lane.before(lowest.StreamPosition) {
			lowest = lane
		}
	}
	return lowest
}

// HandledByAll returns a position up to which every lane has handled its events. It is the position of the lane that is the furthest
// behind, with the lowest progress of all lanes. A lane that fills a hole may stand at an earlier message than another lane, although it
// has a later progress.
func HandledByAll(lanes []Checkpoint) StreamPosition {
	at := Lowest(lanes).StreamPosition
	for _, lane := range lanes {
		if lane.Progress > 0 { // known
			at.Progress = min(at.Progress, lane.Progress)
		}
	}
	return at
}

// Highest returns the lane that is the furthest ahead.
func Highest(lanes []Checkpoint) Checkpoint {
	highest := lanes[0]
	for _, lane := range lanes {
		if lane.Sequence > highest.Sequence {
			highest = lane
		}
	}
	return highest
}

// before reports whether p is before other. Of two positions with the same sequence, the one with the lower progress is before the other.
func (p StreamPosition) before(other StreamPosition) bool {
	return p.Sequence < other.Sequence || p.Sequence == other.Sequence && p.Progress < other.Progress
}
