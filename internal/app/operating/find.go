package operating

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// find returns the position of the last message that is not after the target. It needs some 30 reads for a stream of a billion messages. If
// the stream begins after the target, find returns the position before the first message. A position without a message has no stored time,
// and is not compared with the stream later.
//
// The events of removed messages are not known. So if the target sequence is among removed messages, a move forwards goes to the last
// removed message, and a move backwards goes to the message before the first removed one.
func (s *Subscribers) find(
	ctx context.Context, state inbox.StreamState, target operations.MoveTarget, forwards bool,
) (inbox.StreamPosition, error) {
	if target.Sequence > state.Last {
		return inbox.StreamPosition{}, operations.ErrMoveTarget.
			With("the stream ends at sequence %d, before sequence %d", state.Last, target.Sequence).
			On("to", "is after the end of the stream")
	}
	wanted := target.Sequence
	isBefore := func(message inbox.Message) (before, known bool) { return message.Sequence <= target.Sequence, true }
	switch {
	case target.End:
		wanted = state.Last
		isBefore = func(inbox.Message) (before, known bool) { return true, true }
	case target.Position > 0:
		isBefore = reaches(target.Position)
	case !target.Before.IsZero():
		isBefore = func(message inbox.Message) (before, known bool) { return message.StoredAt.Before(target.Before), true }
	}
	found, err := s.search(ctx, state, isBefore)
	if err != nil {
		return inbox.StreamPosition{}, err
	}
	if found.StoredAt.IsZero() || forwards && found.Sequence < wanted {
		return s.endOfHole(ctx, state, found, wanted)
	}
	return s.withProgress(ctx, state, found, target.Position)
}

// reaches returns a function that compares the progress of a message with a position of the log.
func reaches(position outbox.Position) func(inbox.Message) (before, known bool) {
	return func(message inbox.Message) (before, known bool) {
		return message.Progress <= position, message.Progress > 0
	}
}

// search returns the position of the last message before the target.
func (s *Subscribers) search(
	ctx context.Context, state inbox.StreamState, isBefore func(inbox.Message) (before, known bool),
) (inbox.StreamPosition, error) {
	found := inbox.StreamPosition{Sequence: max(state.First, 1) - 1}
	for low, high := state.First, state.Last; low <= high; {
		middle := low + (high-low)/2
		message, judged, err := s.next(ctx, middle, high, isBefore)
		switch {
		case err != nil:
			return inbox.StreamPosition{}, err
		case judged && message.before:
			found, low = message.StreamPosition, message.Sequence+1
		case middle == 0:
			return found, nil
		default:
			high = middle - 1
		}
	}
	return found, nil
}

// comparedMessage is a message, and whether it is before the target.
type comparedMessage struct {
	inbox.Message
	before bool
}

// next returns the first message between two sequences that can be compared with the target. Messages of other programs cannot be compared.
func (s *Subscribers) next(
	ctx context.Context, from, until uint64, isBefore func(inbox.Message) (before, known bool),
) (found comparedMessage, ok bool, err error) {
	const atOnce = 50
	for count := 1; from <= until; count = atOnce {
		messages, err := s.Stream.Read(ctx, from, inbox.ReadLimit{Count: count, Bytes: readBytes})
		if err != nil || len(messages) == 0 {
			return comparedMessage{}, false, err
		}
		for _, message := range messages {
			if message.Sequence > until {
				return comparedMessage{}, false, nil
			}
			if before, known := isBefore(message); known {
				return comparedMessage{message, before}, true, nil
			}
		}
		from = messages[len(messages)-1].Sequence + 1
	}
	return comparedMessage{}, false, nil
}

// A replica that lags may not show a message that the stream has. So a read is tried replicaTries times, with replicaPause in between.
const (
	replicaTries = 5
	replicaPause = 100 * time.Millisecond
)

// verifyLanes checks that the stream still has the message at the position of each lane. It skips a message that has expired, and a
// position without a stored time.
func (s *Subscribers) verifyLanes(ctx context.Context, lanes []inbox.Checkpoint) error {
	state, err := s.Stream.State(ctx)
	if err != nil {
		return err
	}
	asked := make(map[uint64]time.Time)
	for _, lane := range lanes {
		switch {
		case lane.Stream != state.Created:
			return inbox.ErrOtherStream.With("lane %d stands in the stream of %s, and the present one is of %s", lane.Lane, lane.Stream, state.Created)
		case lane.StoredAt.IsZero(), lane.Sequence < state.First, asked[lane.Sequence].Equal(lane.StoredAt):
			continue
		}
		storedAt, err := s.storedAt(ctx, lane.Sequence)
		if err != nil {
			return err
		}
		if !storedAt.Equal(lane.StoredAt) {
			return operations.ErrStreamWentBack.With("the stream does not show lane %d at sequence %d as the lane knows it", lane.Lane, lane.Sequence)
		}
		asked[lane.Sequence] = storedAt
	}
	return nil
}

// storedAt returns when the message at a sequence was stored; zero: the stream does not show the message.
func (s *Subscribers) storedAt(ctx context.Context, sequence uint64) (time.Time, error) {
	for try := 1; ; try++ {
		messages, err := s.Stream.Read(ctx, sequence, inbox.ReadLimit{Count: 1})
		if err != nil {
			return time.Time{}, err
		}
		if len(messages) > 0 && messages[0].Sequence == sequence {
			return messages[0].StoredAt, nil
		}
		if len(messages) > 0 || try == replicaTries {
			return time.Time{}, nil
		}
		if err := awaitReplica(ctx); err != nil {
			return time.Time{}, err
		}
	}
}

func awaitReplica(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(replicaPause):
		return nil
	}
}
