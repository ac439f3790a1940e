package memory

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Operator carries out what operators decide about the subscribers of an Inbox.
type Operator struct{ inbox *Inbox }

var _ inbox.Operator = (*Operator)(nil)

// NewOperator returns an operator for the subscribers of an inbox.
func NewOperator(kept *Inbox) *Operator { return &Operator{kept} }

// known reports whether there is a subscriber with this name.
func (i *Inbox) known(name string) bool {
	_, found := i.subscribers[name]
	return found || slices.Contains(i.names(), name)
}

// names returns the names of all subscribers that have lanes, records or letters.
func (i *Inbox) names() (names []string) {
	for key := range i.lanes {
		names = append(names, key.subscriber)
	}
	for key := range i.records {
		names = append(names, key.subscriber)
	}
	for key := range i.letters {
		names = append(names, key.subscriber)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// decide changes an operator's decisions about a subscriber, while no batch and no redelivery of the subscriber is open. It gives each lane
// a new revision.
func (o *Operator) decide(
	ctx context.Context, name string, change func(ctx context.Context, s *session, row subscriber, lanes []inbox.Checkpoint) error,
) error {
	s, done, err := o.inbox.openYielding(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	if err := s.lockAll(ctx, name); err != nil {
		return err
	}
	var row subscriber
	var lanes []inbox.Checkpoint
	err = s.do(ctx, "read what is decided", func() error {
		row, lanes = o.inbox.subscribers[name], o.inbox.lanesOf(name)
		for n := range lanes {
			lanes[n].Idle = 0
		}
		switch {
		case !o.inbox.known(name):
			return inbox.ErrNoSubscriber.With("there is no subscriber %s", name)
		case !row.Forgotten.IsZero():
			return forgot(name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := change(ctx, s, row, lanes); err != nil {
		return err
	}
	s.change(func() { o.inbox.revise(name) })
	return s.commit(ctx)
}

// putSubscriber writes the row of a subscriber.
func (s *session) putSubscriber(ctx context.Context, name string, row subscriber) error {
	return s.do(ctx, "decide", func() error {
		s.change(func() { s.inbox.put(name, row) })
		return nil
	})
}

// put writes the row of a subscriber, except for yieldsUntil.
func (i *Inbox) put(name string, row subscriber) {
	row.yieldsUntil = i.subscribers[name].yieldsUntil
	i.subscribers[name] = row
}

// Pause waits until the open batches and redeliveries have ended.
func (o *Operator) Pause(ctx context.Context, name string) error {
	return o.decide(ctx, name, func(ctx context.Context, s *session, row subscriber, _ []inbox.Checkpoint) error {
		if !row.Paused {
			row.Paused, row.pausedAt = true, time.Now()
		}
		return s.putSubscriber(ctx, name, row)
	})
}

// Resume lets batches and redeliveries go on.
func (o *Operator) Resume(ctx context.Context, name string) error {
	return o.decide(ctx, name, func(ctx context.Context, s *session, row subscriber, _ []inbox.Checkpoint) error {
		row.Paused, row.pausedAt = false, time.Time{}
		return s.putSubscriber(ctx, name, row)
	})
}

// Move moves the lanes, and makes the new position a mark.
func (o *Operator) Move(ctx context.Context, name string, move inbox.Move, proof inbox.LaneCheck) (before []inbox.Checkpoint, err error) {
	err = o.decide(ctx, name, func(ctx context.Context, s *session, _ subscriber, lanes []inbox.Checkpoint) error {
		before = lanes
		if err := inbox.RequireStream(name, move.Stream, lanes); err != nil {
			return err
		}
		moved := move.Affected(lanes)
		if len(moved) == 0 {
			return nil
		}
		if err := proof(ctx, moved); err != nil {
			return err
		}
		return s.do(ctx, "move the lanes", func() error {
			for _, at := range moved {
				s.change(func() { o.inbox.send(laneKey{name, at.Lane}, move.To) })
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return before, nil
}

// send moves a lane, and makes the new position a mark.
func (i *Inbox) send(key laneKey, to inbox.StreamPosition) {
	row := i.lanes[key]
	row.StreamPosition, row.movedAt = to, time.Now()
	row.StoredAt = to.StoredAt.UTC()
	i.lanes[key] = row
	marks := slices.DeleteFunc(slices.Clone(i.marks[key]), func(mark inbox.StreamPosition) bool { return mark.Sequence >= to.Sequence })
	if !to.StoredAt.IsZero() {
		marks = append(marks, row.StreamPosition)
	}
	i.marks[key] = marks
}

// SetLanes replaces the lanes.
func (o *Operator) SetLanes(ctx context.Context, name string, lanes int, proof inbox.LaneCheck) (before []inbox.Checkpoint, err error) {
	err = o.decide(ctx, name, func(ctx context.Context, s *session, _ subscriber, present []inbox.Checkpoint) error {
		before = present
		if len(present) == 0 {
			return inbox.RequireStream(name, "", present)
		}
		if err := inbox.RequireStream(name, present[0].Stream, present); err != nil {
			return err
		}
		if err := proof(ctx, present); err != nil {
			return err
		}
		return s.do(ctx, "replace the lanes", func() error {
			s.change(func() { o.inbox.replaceLanes(name, present, lanes) })
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return before, nil
}

// replaceLanes replaces the lanes. The new lanes begin at the position up to which every old lane has handled its events. They keep the
// marks up to this position.
func (i *Inbox) replaceLanes(name string, present []inbox.Checkpoint, lanes int) {
	from := inbox.Checkpoint{Stream: present[0].Stream, StreamPosition: inbox.HandledByAll(present)}
	kept := make(map[uint64]inbox.StreamPosition)
	for _, at := range present {
		key := laneKey{name, at.Lane}
		from.Revision = max(from.Revision, at.Revision)
		for _, mark := range i.marks[key] {
			if other, has := kept[mark.Sequence]; mark.Sequence <= from.Sequence && (!has || mark.Progress < other.Progress) {
				kept[mark.Sequence] = mark
			}
		}
		delete(i.lanes, key)
		delete(i.marks, key)
	}
	var marks []inbox.StreamPosition
	for _, sequence := range slices.Sorted(maps.Keys(kept)) {
		mark := kept[sequence]
		if from.Progress > 0 {
			mark.Progress = min(mark.Progress, from.Progress)
		}
		marks = append(marks, mark)
	}
	marks = marks[max(0, len(marks)-inbox.MarksKept):]
	for n := range lanes {
		key := laneKey{name, n}
		i.lanes[key] = lane{inbox.Checkpoint{
			Lane: n, Lanes: lanes, Stream: from.Stream, StreamPosition: from.StreamPosition, Revision: from.Revision,
		}, time.Now()}
		i.marks[key] = slices.Clone(marks)
	}
}

// Ignore discards the pending letters of the type.
func (o *Operator) Ignore(ctx context.Context, name, eventType string) (discarded int, err error) {
	err = o.decide(ctx, name, func(ctx context.Context, s *session, row subscriber, _ []inbox.Checkpoint) error {
		if !row.types[eventType] {
			return inbox.ErrNotWanted.With("subscriber %s does not want events of the type %s", name, eventType)
		}
		row.types = maps.Clone(row.types)
		delete(row.types, eventType)
		if err := s.putSubscriber(ctx, name, row); err != nil {
			return err
		}
		discarded, err = s.discardType(ctx, name, eventType)
		return err
	})
	if err != nil {
		return 0, err
	}
	return discarded, nil
}

// discardType locks the pending letters of a type, in order, and discards them.
func (s *session) discardType(ctx context.Context, name, eventType string) (discarded int, err error) {
	var found []letterKey
	err = s.do(ctx, "read the letters of a type", func() error {
		for key, l := range s.inbox.letters {
			if key.subscriber == name && l.Type == eventType && l.Readable() && l.pending() {
				found = append(found, key)
			}
		}
		slices.SortFunc(found, func(a, b letterKey) int { return int(s.inbox.letters[a].Position - s.inbox.letters[b].Position) })
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, key := range found {
		if err := s.lock(ctx, key); err != nil {
			return 0, err
		}
	}
	err = s.do(ctx, "discard the letters of a type", func() error {
		for _, key := range found {
			if l, has := s.inbox.letters[key]; has && l.pending() {
				discarded++
				s.change(func() { s.inbox.discard(key, s.inbox.records[recordKey(key)].applied) })
			}
		}
		return nil
	})
	return discarded, err
}

// Overviews runs as one statement.
func (o *Operator) Overviews(ctx context.Context) (overviews []inbox.Overview, err error) {
	i := o.inbox
	err = i.once(ctx, "overviews", func(*session) error {
		names := append(i.names(), slices.Collect(maps.Keys(i.subscribers))...)
		slices.SortFunc(names, strings.Compare)
		for _, name := range slices.Compact(names) {
			overviews = append(overviews, i.overview(name))
		}
		return nil
	})
	return overviews, err
}

func (i *Inbox) overview(name string) inbox.Overview {
	row := i.subscribers[name]
	seen := inbox.Overview{
		Subscriber: name, Subscription: row.subscription(), Lanes: i.lanesOf(name), FilledEvents: row.filled, MissedMessages: row.missed,
	}
	if row.Paused {
		seen.PausedFor = time.Since(row.pausedAt)
	}
	for key, at := range i.copies {
		if key.subscriber == name && time.Since(at) < inbox.CopyTimeout {
			seen.Copies = append(seen.Copies, key.instance)
		}
	}
	slices.Sort(seen.Copies)
	for key, l := range i.letters {
		switch {
		case key.subscriber != name:
		case l.State == inbox.Dead:
			seen.Dead++
		case l.tried():
			seen.Waiting++
		}
	}
	for key, r := range i.records {
		if key.subscriber != name || !r.applied {
			continue
		}
		if r.at.After(seen.Applied) {
			seen.Applied = r.at
		}
		if time.Since(r.at) < inbox.RateWindow {
			seen.Rate += 1 / inbox.RateWindow.Seconds()
		}
	}
	return seen
}
