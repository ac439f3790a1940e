package operating

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operating"
)

// place returns the place that a target names, and up to which position the log was dealt with there.
//
// A lane may be sent forwards to a message that was removed: an operator skips messages that nobody knows. A place whose message is not there
// has no stored time, and needs no proof. What it knows of the log comes from the next messages. Otherwise a lane would ask the log for
// everything before the place.
func (s *Subscribers) place(ctx context.Context, state inbox.StreamState, target operating.Target, forwards bool) (inbox.Place, error) {
	found, err := s.find(ctx, state, target)
	if err != nil {
		return inbox.Place{}, err
	}
	if forwards && target.Sequence > found.Sequence {
		found = inbox.Place{Sequence: target.Sequence}
	}
	if found.StoredAt.IsZero() {
		found.Progress, err = s.progressAfter(ctx, state, found.Sequence)
	}
	return found, err
}

// progressAfter returns up to which position the log was dealt with at a sequence whose message was removed; 0: nothing tells.
func (s *Subscribers) progressAfter(ctx context.Context, state inbox.StreamState, sequence uint64) (outbox.Position, error) {
	const count, bytes = 50, 1 << 20
	var progress outbox.Position
	if sequence < state.Last {
		messages, err := s.Stream.Read(ctx, sequence+1, inbox.ReadLimit{Count: count, Bytes: bytes})
		if err != nil {
			return 0, err
		}
		for _, message := range messages {
			if event := message.Event; event != nil && event.Unreadable == nil && event.Position > 0 {
				return event.Position - 1, nil
			}
			progress = max(progress, message.Progress)
		}
	}
	if progress > 0 {
		return progress, nil
	}
	reached, err := s.Log.Reached(ctx, state.Created, sequence, state.Last)
	if err == nil && !reached.Elsewhere && !reached.Known && state.Last > 0 && sequence >= state.First {
		err = operating.ErrNotSaid.With("the relay has not said yet which events the removed messages up to sequence %d were", sequence)
	}
	return reached.Position, err
}

// find returns the place of the last message that is not after the target, in some 30 reads of a stream of a billion messages. Where the
// stream begins later, it is the place before the first message.
func (s *Subscribers) find(ctx context.Context, state inbox.StreamState, target operating.Target) (inbox.Place, error) {
	if target.Sequence > state.Last {
		return inbox.Place{}, operating.ErrTarget.With("the stream ends at sequence %d, before sequence %d", state.Last, target.Sequence).
			On("to", "is after the end of the stream")
	}
	judge := func(message inbox.Message) (before, known bool) { return message.Sequence <= target.Sequence, true }
	switch {
	case target.End:
		judge = func(inbox.Message) (before, known bool) { return true, true }
	case target.Position > 0:
		judge = func(message inbox.Message) (before, known bool) {
			return message.Progress <= target.Position, message.Progress > 0
		}
	case !target.Before.IsZero():
		judge = func(message inbox.Message) (before, known bool) { return message.StoredAt.Before(target.Before), true }
	}
	found := inbox.Place{Sequence: max(state.First, 1) - 1}
	for low, high := state.First, state.Last; low <= high; {
		middle := low + (high-low)/2
		message, judged, err := s.next(ctx, middle, high, judge)
		switch {
		case err != nil:
			return inbox.Place{}, err
		case judged && message.before:
			found, low = message.Place, message.Sequence+1
		case middle == 0:
			return found, nil
		default:
			high = middle - 1
		}
	}
	return found, nil
}

// judged is a message of which is known whether it is before the target.
type judged struct {
	inbox.Message
	before bool
}

// next returns the first message from a sequence on, up to another one, that can be judged. Messages of others tell nothing.
func (s *Subscribers) next(
	ctx context.Context, from, until uint64, judge func(inbox.Message) (before, known bool),
) (found judged, ok bool, err error) {
	const atOnce, bytes = 50, 1 << 20
	for count := 1; from <= until; count = atOnce {
		messages, err := s.Stream.Read(ctx, from, inbox.ReadLimit{Count: count, Bytes: bytes})
		if err != nil || len(messages) == 0 {
			return judged{}, false, err
		}
		for _, message := range messages {
			if message.Sequence > until {
				return judged{}, false, nil
			}
			if before, known := judge(message); known {
				return judged{message, before}, true, nil
			}
		}
		from = messages[len(messages)-1].Sequence + 1
	}
	return judged{}, false, nil
}

// A replica that lags may not show a message that the stream has. How often, and after which wait, it is asked again.
const (
	showTries = 5
	showPause = 100 * time.Millisecond
)

// shown reports whether the stream shows lanes where they stand. A message that has expired is no reason against it, and a place without a
// stored time needs no proof.
func (s *Subscribers) shown(ctx context.Context, lanes []inbox.Checkpoint) error {
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
			return operating.ErrStreamWentBack.With("the stream does not show lane %d at sequence %d as the lane knows it", lane.Lane, lane.Sequence)
		}
		asked[lane.Sequence] = storedAt
	}
	return nil
}

// storedAt returns when the message at a sequence was stored; zero: it is not there.
func (s *Subscribers) storedAt(ctx context.Context, sequence uint64) (time.Time, error) {
	for try := 1; ; try++ {
		messages, err := s.Stream.Read(ctx, sequence, inbox.ReadLimit{Count: 1})
		if err != nil {
			return time.Time{}, err
		}
		if len(messages) > 0 && messages[0].Sequence == sequence {
			return messages[0].StoredAt, nil
		}
		if len(messages) > 0 || try == showTries {
			return time.Time{}, nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-time.After(showPause):
		}
	}
}
