package inbox

// A mark is an earlier checkpoint of a lane. If the stream loses its end, the lane goes back to its newest mark that the stream still has, and
// not to the first message.
const (
	// MarkEvery divides the sequences of the stream into stretches. Each stretch has at most one mark of a lane.
	MarkEvery = 10_000
	// MarksKept is how many marks of each lane are kept: the newest.
	MarksKept = 100
)

// MarkDue reports whether a lane that moves from one position to another keeps the new position as a mark. This is the case if the new
// position is in a later stretch than the old position, and the stored time of the new position is known.
func MarkDue(from, to StreamPosition) bool {
	return to.Sequence/MarkEvery > from.Sequence/MarkEvery && !to.StoredAt.IsZero()
}
