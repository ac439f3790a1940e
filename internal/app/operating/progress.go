package operating

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// The stream position to which lanes are sent has a progress: the position up to which the relay had published or parked the log. If the
// progress were too high, a lane that fills a hole after the position would leave events out. If it were too low, the lane would apply
// events that were skipped.

// readBytes bounds a read of messages.
const readBytes = 1 << 20

// lookBack has the numbers of sequences before a position that are read to learn its progress. The smallest number is tried first. One
// message is not enough: messages of other programs have no progress, and duplicates of old messages have an old one.
var lookBack = []uint64{50, 1000, 10_000}

// withProgress adds the progress to the position of a message. If the target is a position of the log, the progress is that position,
// provided that a later message of the stream has a progress beyond that position.
func (s *Subscribers) withProgress(
	ctx context.Context, state inbox.StreamState, at inbox.StreamPosition, position outbox.Position,
) (inbox.StreamPosition, error) {
	at.Progress = 0
	for _, back := range lookBack {
		positions, err := s.positions(ctx, at.Sequence-min(back, at.Sequence), at.Sequence)
		if err != nil {
			return at, err
		}
		if len(positions) > 0 {
			at.Progress = positions[len(positions)-1].Progress
		}
		if at.Progress > 0 {
			break
		}
	}
	if at.Progress == 0 {
		return s.withNotedProgress(ctx, state, at, 0)
	}
	if position > at.Progress {
		after, found, err := s.next(ctx, at.Sequence+1, state.Last, reaches(position))
		if err != nil {
			return at, err
		}
		if found && !after.before {
			at.Progress = position
		}
	}
	return at, nil
}

// positions returns the positions of the messages between two sequences.
func (s *Subscribers) positions(ctx context.Context, from, to uint64) (positions []inbox.StreamPosition, err error) {
	var messages []inbox.Message
	for from <= to {
		read, err := s.Stream.Read(ctx, from, inbox.ReadLimit{Count: int(to + 1 - from), Bytes: readBytes}) //nolint:gosec // at most 10,000
		if err != nil {
			return nil, err
		}
		for _, message := range read {
			if message.Sequence <= to {
				message.Event = withoutContent(message.Event)
				messages = append(messages, message)
			}
			from = message.Sequence + 1
		}
		if len(read) == 0 {
			break
		}
	}
	return inbox.Positions(messages, 0), nil
}

// withoutContent returns an empty event for an event, and nil for none.
func withoutContent(event *inbox.Event) *inbox.Event {
	if event == nil {
		return nil
	}
	return &inbox.Event{}
}

// endOfHole returns the position of the last removed message before the next message of the stream. If there is no next message, it returns
// the wanted sequence, or the given position if that is later.
func (s *Subscribers) endOfHole(
	ctx context.Context, state inbox.StreamState, at inbox.StreamPosition, wanted uint64,
) (inbox.StreamPosition, error) {
	messages, err := s.after(ctx, at.Sequence, state.Last)
	if err != nil {
		return at, err
	}
	end := inbox.StreamPosition{Sequence: max(at.Sequence, wanted)}
	if len(messages) > 0 {
		end.Sequence = messages[0].Sequence - 1
		if progress, known := inbox.FirstRun(messages).ProgressBefore(); known {
			end.Progress = progress
			return end, nil
		}
	}
	return s.withNotedProgress(ctx, state, end, at.Progress)
}

// after returns the first messages after a sequence. It reads again if it gets none, because a replica that lags may not show them.
func (s *Subscribers) after(ctx context.Context, sequence, last uint64) (messages []inbox.Message, err error) {
	for try := 1; sequence < last; try++ {
		messages, err = s.Stream.Read(ctx, sequence+1, inbox.ReadLimit{Count: 1000, Bytes: readBytes})
		if err != nil || len(messages) > 0 || try == replicaTries {
			return messages, err
		}
		if err := awaitReplica(ctx); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// withNotedProgress adds the progress to a position if no message shows it. It takes the progress from the relay's cursor in the database,
// but never less than progress.
func (s *Subscribers) withNotedProgress(
	ctx context.Context, state inbox.StreamState, at inbox.StreamPosition, progress outbox.Position,
) (inbox.StreamPosition, error) {
	reached, err := s.Log.CursorBetween(ctx, state.Created, 0, at.Sequence)
	if err != nil {
		return at, err
	}
	at.Progress = progress
	if reached.Known {
		at.Progress = max(progress, reached.Position)
	}
	return at, nil
}
