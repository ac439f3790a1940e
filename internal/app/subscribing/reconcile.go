package subscribing

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// A replica that lags may not show a message that the stream has. So the stream is asked replicaTries times, with replicaWait in between.
const (
	replicaTries = 5
	replicaWait  = 100 * time.Millisecond
)

// reconcile finds out why the stream differs from what a lane knows. The lane goes on from its checkpoint if the stream still has the
// message there, and otherwise from an earlier position.
func (s *Subscriber) reconcile(ctx context.Context, l *lane) error {
	view, err := s.ports.Checkpoints.Heartbeat(ctx, s.id, s.instance)
	if err != nil {
		return err
	}
	if l.checkpoint.Lane >= len(view.Lanes) || view.Lanes[l.checkpoint.Lane].Revision != l.checkpoint.Revision {
		return inbox.ErrLaneMoved
	}
	state, err := s.ports.Stream.State(ctx)
	if err != nil {
		return err
	}
	checkpoint := l.checkpoint
	position, agrees, err := s.lastAgreeing(ctx, l, state)
	if err != nil {
		return err
	}
	if !agrees {
		checkpoint, err = s.ports.Checkpoints.Rewind(ctx, s.id, l.checkpoint, state.Created, position)
		if err != nil {
			return err
		}
		s.logger.WarnContext(ctx, "the stream lost messages that this subscriber has read: reading again, what was applied is dropped",
			"lane", checkpoint.Lane, "was", describe(l.checkpoint.StreamPosition), "from", checkpoint.Sequence, "stream_ends", state.Last)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.restart(checkpoint)
	if agrees {
		l.readTo = position
	}
	signal(s.roomFreed)
	return nil
}

// stillRemoved reports whether the stream has no message at a sequence where a message was removed. If the stream has a message there, it
// has lost its end and grown again. A replica may remove a message later than the others, so stillRemoved asks several times.
func (s *Subscriber) stillRemoved(ctx context.Context, sequence uint64) (bool, error) {
	for range replicaTries {
		shown, err := s.positionAt(ctx, sequence)
		if err != nil || shown.StoredAt.IsZero() {
			return err == nil, err
		}
		sleep(ctx, replicaWait)
	}
	return false, ctx.Err()
}

// lastAgreeing returns the newest known position of a lane at which the stream still has the message that the lane read, and whether this
// position is the checkpoint. A stream loses only its end and, by its limits, its beginning. So if stream and lane agree at one position,
// they agree at all earlier ones.
func (s *Subscriber) lastAgreeing(
	ctx context.Context, l *lane, state inbox.StreamState,
) (position inbox.StreamPosition, checkpoint bool, err error) {
	if l.checkpoint.Sequence == 0 && l.checkpoint.Stream != state.Created {
		return inbox.StreamPosition{}, false, nil // nothing was read yet
	}
	if l.checkpoint.Stream != state.Created { // positions of different streams cannot be compared
		position, err = s.startOfStream(ctx, state, l.checkpoint.Progress)
		return position, false, err
	}
	if l.checkpoint.Sequence < state.First { // expired, or the beginning
		return inbox.StreamPosition{Sequence: l.checkpoint.Sequence, Progress: l.checkpoint.Progress}, true, nil
	}
	removed := l.checkpoint.StoredAt.IsZero()
	if removed && l.checkpoint.Sequence <= state.Last {
		if still, err := s.stillRemoved(ctx, l.checkpoint.Sequence); err != nil || still {
			return l.checkpoint.StreamPosition, true, err
		}
	}
	var shown inbox.StreamPosition
	for try := 1; ; try++ {
		if shown, err = s.positionAt(ctx, l.checkpoint.Sequence); err != nil {
			return position, false, err
		}
		if !shown.StoredAt.IsZero() || l.checkpoint.Sequence > state.Last || try == replicaTries {
			break
		}
		sleep(ctx, replicaWait)
	}
	if !removed && shown.StoredAt.Equal(l.checkpoint.StoredAt) {
		return l.checkpoint.StreamPosition, true, nil
	}
	marks, err := s.ports.Checkpoints.Marks(ctx, s.id, l.checkpoint.Lane)
	if err != nil {
		return position, false, err
	}
	for _, mark := range marks {
		if shown, err = s.positionAt(ctx, mark.Sequence); err != nil {
			return position, false, err
		}
		if shown.StoredAt.Equal(mark.StoredAt) {
			return mark, false, nil
		}
	}
	position, err = s.startOfStream(ctx, state, l.checkpoint.Progress)
	if err == nil && position.Sequence >= l.checkpoint.Sequence { // expired since the state was read
		return inbox.StreamPosition{Sequence: l.checkpoint.Sequence, Progress: l.checkpoint.Progress}, true, nil
	}
	return position, false, err
}
