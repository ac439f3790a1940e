package inbox

import "github.com/assylzhan-a/outboxie/internal/domain/outbox"

// Positions returns the positions of messages that follow each other in the stream, each with its progress. before is the progress before
// the first message; 0: not known. Foreign messages have no progress, and duplicates of old messages have an old progress. So both get the
// progress of the message before them. Only control messages can lower the progress.
func Positions(messages []Message, before outbox.Position) []StreamPosition {
	positions := make([]StreamPosition, len(messages))
	for i, message := range messages {
		positions[i] = message.StreamPosition
		if message.Progress == 0 || message.Event != nil {
			positions[i].Progress = max(before, message.Progress)
		}
		before = positions[i].Progress
	}
	return positions
}

// MessageRun is the knowledge about the log that a run of messages contains. No message is missing within the run.
type MessageRun struct {
	Last           uint64            // sequence of the last message
	EndsBefore     outbox.Position   // every message has an earlier position; 0: not known
	PositionsAfter []outbox.Position // of the events that the relay published or parked with the messages, in order
	HoleAfter      bool              // the run ends at a hole
}

// FirstRun returns the run from the first message up to the first hole. There is at least one message.
func FirstRun(messages []Message) MessageRun {
	run := MessageRun{Last: messages[0].Sequence}
	highest := outbox.Position(0)
	for _, message := range messages {
		if message.Sequence > run.Last+1 {
			run.HoleAfter = true
			break
		}
		run.Last = message.Sequence
		if message.Progress > 0 {
			run.EndsBefore = max(run.EndsBefore, message.Progress+1)
		}
		if position := message.loggedPosition(); position > highest {
			highest = position
			run.PositionsAfter = append(run.PositionsAfter, highest)
		}
	}
	return run
}

// loggedPosition returns the position of the event that the message carries, or that the relay parked with it; 0: none.
func (m Message) loggedPosition() outbox.Position {
	switch {
	case m.Event == nil && m.Parks:
		return m.Progress
	case m.Event != nil && m.Event.Unreadable == nil:
		return m.Event.Position
	}
	return 0
}

// ProgressBefore returns the progress before the run, or false if the progress is not known.
func (r MessageRun) ProgressBefore() (outbox.Position, bool) {
	return Hole{PositionsAfter: r.PositionsAfter, EndsBefore: r.EndsBefore}.LastPosition(0), r.EndsBefore > 0
}
