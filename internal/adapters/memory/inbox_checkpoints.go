package memory

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

type (
	laneKey struct {
		subscriber string
		lane       int
	}
	copyKey struct{ subscriber, instance string }
)

// lane is a checkpoint and when it changed.
type lane struct {
	inbox.Checkpoint
	movedAt time.Time
}

var _ inbox.Checkpoints = (*Inbox)(nil)

// mostRevisions is more than the number of changes that a lane ever has. The revision of a new lane begins at a multiple of mostRevisions
// that no earlier lane has begun at.
const mostRevisions = 1 << 32

// CreateLanes makes all lanes, or none.
func (i *Inbox) CreateLanes(ctx context.Context, subscriber string, lanes int, stream string, at inbox.StreamPosition) error {
	s, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.lockSubscriber(ctx, subscriber); err != nil {
		return err
	}
	for n := range lanes {
		if err := s.lock(ctx, laneKey{subscriber, n}); err != nil {
			return err
		}
	}
	err = s.do(ctx, "begin lanes", func() error {
		if row := i.subscribers[subscriber]; !row.Forgotten.IsZero() {
			return forgot(subscriber)
		}
		if len(i.lanesOf(subscriber)) > 0 {
			return nil
		}
		s.change(func() {
			i.begun++
			for n := range lanes {
				i.lanes[laneKey{subscriber, n}] = lane{
					inbox.Checkpoint{Lane: n, Lanes: lanes, Stream: stream, StreamPosition: at, Revision: i.begun * mostRevisions}, time.Now(),
				}
			}
		})
		return nil
	})
	if err != nil {
		return err
	}
	return s.commit(ctx)
}

// lanesOf returns the committed lanes of a subscriber, in order.
func (i *Inbox) lanesOf(subscriber string) []inbox.Checkpoint {
	var found []inbox.Checkpoint
	for key, row := range i.lanes {
		if key.subscriber == subscriber {
			found = append(found, row.seen())
		}
	}
	slices.SortFunc(found, func(a, b inbox.Checkpoint) int { return a.Lane - b.Lane })
	return found
}

func (l lane) seen() inbox.Checkpoint {
	seen := l.Checkpoint
	seen.Idle = time.Since(l.movedAt)
	return seen
}

// Heartbeat runs as one transaction.
func (i *Inbox) Heartbeat(ctx context.Context, subscriber, instance string) (view inbox.View, err error) {
	err = i.once(ctx, "look", func(*session) error {
		i.copies[copyKey{subscriber, instance}] = time.Now()
		maps.DeleteFunc(i.copies, func(_ copyKey, seen time.Time) bool { return time.Since(seen) >= inbox.CopyTimeout })
		for key, seen := range i.copies {
			if key.subscriber == subscriber {
				view.Copies = append(view.Copies, key.instance)
				if time.Since(seen) >= inbox.CopySilentAfter {
					view.SilentCopies = append(view.SilentCopies, key.instance)
				}
			}
		}
		slices.Sort(view.Copies)
		slices.Sort(view.SilentCopies)
		view.Lanes = i.lanesOf(subscriber)
		row := i.subscribers[subscriber]
		view.Subscription, view.FilledEvents, view.MissedMessages = row.subscription(), row.filled, row.missed
		view.OperatorWaits = row.yieldsUntil.After(time.Now())
		for key, l := range i.letters {
			view.HasLetters = view.HasLetters || key.subscriber == subscriber && l.State != inbox.Discarded
		}
		return nil
	})
	return view, err
}

// RemoveCopy runs as one statement.
func (i *Inbox) RemoveCopy(ctx context.Context, subscriber, instance string) error {
	return i.once(ctx, "leave", func(*session) error {
		delete(i.copies, copyKey{subscriber, instance})
		return nil
	})
}

// Marks runs as one statement.
func (i *Inbox) Marks(ctx context.Context, subscriber string, lane int) (marks []inbox.StreamPosition, err error) {
	err = i.once(ctx, "marks", func(*session) error {
		marks = slices.Clone(i.marks[laneKey{subscriber, lane}])
		slices.Reverse(marks)
		return nil
	})
	return marks, err
}

// once runs a single statement as a transaction of its own: its changes are committed at once.
func (i *Inbox) once(ctx context.Context, step string, statement func(s *session) error) error {
	s, err := i.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	return s.do(ctx, step, func() error { return statement(s) })
}

// Rewind does not wait for other transactions.
func (i *Inbox) Rewind(
	ctx context.Context, subscriber string, from inbox.Checkpoint, stream string, to inbox.StreamPosition,
) (inbox.Checkpoint, error) {
	s, err := i.open(ctx)
	if err != nil {
		return inbox.Checkpoint{}, err
	}
	defer s.close()
	key := laneKey{subscriber, from.Lane}
	var moved lane
	err = s.do(ctx, "rewind", func() error {
		row, err := s.takeLane(key, from)
		if err != nil {
			return err
		}
		moved = row.moved(to)
		moved.Stream = stream
		s.change(func() {
			i.lanes[key] = moved
			i.marks[key] = slices.DeleteFunc(i.marks[key], func(mark inbox.StreamPosition) bool { return mark.Sequence > to.Sequence })
		})
		return nil
	})
	if err != nil {
		return inbox.Checkpoint{}, err
	}
	if err := s.commit(ctx); err != nil {
		return inbox.Checkpoint{}, err
	}
	return moved.Checkpoint, nil
}

// takeLane locks a lane if its checkpoint is still from, and no other transaction works on the lane. Otherwise takeLane fails with
// inbox.ErrLaneMoved, at once.
func (s *session) takeLane(key laneKey, from inbox.Checkpoint) (lane, error) {
	row, found := s.inbox.lanes[key]
	if !found || !s.locks(key) || !same(row.Checkpoint, from) {
		return lane{}, inbox.ErrLaneMoved.With("lane %d of %s is not at sequence %d, or is taken", key.lane, key.subscriber, from.Sequence)
	}
	return row, nil
}

// same reports whether a lane still has the checkpoint that a caller has read.
func same(row, from inbox.Checkpoint) bool {
	return row.Stream == from.Stream && row.Sequence == from.Sequence && row.Lanes == from.Lanes && row.StoredAt.Equal(from.StoredAt) &&
		row.Revision == from.Revision
}

// moved returns the lane at another position.
func (l lane) moved(to inbox.StreamPosition) lane {
	l.StreamPosition = to
	l.StoredAt = to.StoredAt.UTC()
	l.Revision++
	l.movedAt = time.Now()
	return l
}

// move moves a lane to its new position, and keeps a mark there if one is due. The rule is that of inbox.MarkDue, with Inbox.MarkEvery as
// the distance.
func (i *Inbox) move(key laneKey, from inbox.StreamPosition, moved lane) {
	i.lanes[key] = moved
	if moved.Sequence/i.MarkEvery > from.Sequence/i.MarkEvery && !moved.StoredAt.IsZero() {
		marks := append(i.marks[key], moved.StreamPosition)
		i.marks[key] = marks[max(0, len(marks)-inbox.MarksKept):]
	}
}
