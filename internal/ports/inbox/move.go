package inbox

// Move is where an operator sends lanes.
type Move struct {
	Stream   string // identity of the stream that To is in
	To       StreamPosition
	Forwards bool // true: lanes before To skip the events up to To; false: lanes after To go back to To
}

// Affected returns the lanes that the move changes. A lane at the same message as To is before To if its progress in the log is lower.
func (m Move) Affected(lanes []Checkpoint) (affected []Checkpoint) {
	for _, lane := range lanes {
		if m.Forwards && lane.before(m.To) || !m.Forwards && lane.Sequence > m.To.Sequence {
			affected = append(affected, lane)
		}
	}
	return affected
}

// RequireStream checks that a subscriber has lanes, and that all of them stand in the given stream. It fails with ErrNotBegun or
// ErrOtherStream.
func RequireStream(subscriber, stream string, lanes []Checkpoint) error {
	if len(lanes) == 0 {
		return ErrNotBegun.With("subscriber %s has not begun", subscriber)
	}
	for _, lane := range lanes {
		if lane.Stream != stream {
			return ErrOtherStream.With("lane %d of subscriber %s stands in the stream of %s, not in that of %s",
				lane.Lane, subscriber, lane.Stream, stream)
		}
	}
	return nil
}
