package inbox

import "github.com/assylzhan-a/outboxie/internal/domain/outbox"

// Places returns the places of messages that follow each other in the stream, each with the progress up to which the log was dealt with
// there. before is the progress where the messages begin; 0: not known. Messages of others say nothing, and copies of old messages an old
// progress. Only the engine's control messages send it back.
func Places(messages []Message, before outbox.Position) []StreamPosition {
	places := make([]StreamPosition, len(messages))
	for i, message := range messages {
		places[i] = message.StreamPosition
		if message.Progress == 0 || message.Event != nil {
			places[i].Progress = max(before, message.Progress)
		}
		before = places[i].Progress
	}
	return places
}

// Following is what the messages after a place say about the log, up to the next hole.
type Following struct {
	Last    uint64            // sequence of the last one
	Before  outbox.Position   // all positions that they can have are before it; 0: they say nothing
	Present []outbox.Position // of the events that the relay published, or parked, with them, in order
	Broken  bool              // there is a hole behind them
}

// Follow returns what messages say. There is at least one.
func Follow(messages []Message) Following {
	f := Following{Last: messages[0].Sequence}
	highest := outbox.Position(0)
	for _, message := range messages {
		if message.Sequence > f.Last+1 {
			f.Broken = true
			break
		}
		f.Last = message.Sequence
		if message.Progress > 0 {
			f.Before = max(f.Before, message.Progress+1)
		}
		if position := message.dealtWith(); position > highest {
			highest = position
			f.Present = append(f.Present, highest)
		}
	}
	return f
}

// dealtWith returns the position of the event that the message carries, or that the relay parked with it; 0: none.
func (m Message) dealtWith() outbox.Position {
	switch {
	case m.Event == nil && m.Parks:
		return m.Progress
	case m.Event != nil && m.Event.Unreadable == nil:
		return m.Event.Position
	}
	return 0
}

// Dealt returns the position up to which the relay had dealt with the log before the messages, or false if the messages do not say.
func (f Following) Dealt() (outbox.Position, bool) {
	return Hole{Present: f.Present, Before: f.Before}.Through(0), f.Before > 0
}
