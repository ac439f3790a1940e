package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Forget leaves a tombstone, and removes the lanes.
func (o *Operator) Forget(ctx context.Context, name string) error {
	i := o.inbox
	s, done, err := i.openYielding(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	if err := s.lockAll(ctx, name); err != nil {
		return err
	}
	err = s.do(ctx, "forget the subscriber", func() error {
		if !i.known(name) {
			return inbox.ErrNoSubscriber.With("there is no subscriber %s", name)
		}
		row := subscriber{Subscription: inbox.Subscription{Forgotten: i.subscribers[name].Forgotten}}
		if row.Forgotten.IsZero() {
			row.Forgotten = time.Now()
		}
		s.change(func() {
			i.subscribers[name] = row
			for _, lane := range i.lanesOf(name) {
				delete(i.lanes, laneKey{name, lane.Lane})
				delete(i.marks, laneKey{name, lane.Lane})
			}
			for key := range i.copies {
				if key.subscriber == name {
					delete(i.copies, key)
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

// Erase removes letters first, in order.
func (o *Operator) Erase(ctx context.Context, name string, limit int) (erased int, err error) {
	i := o.inbox
	s, err := i.open(ctx)
	if err != nil {
		return 0, err
	}
	defer s.close()
	if err := s.share(ctx, subscriberKey(name)); err != nil {
		return 0, err
	}
	var rows []any
	err = s.do(ctx, "choose what is erased", func() error {
		if i.subscribers[name].Forgotten.IsZero() {
			return inbox.ErrNotForgotten.With("subscriber %s is not forgotten", name)
		}
		rows = i.erasable(name)
		rows = rows[:min(len(rows), limit)]
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, key := range rows {
		if err := s.lock(ctx, key); err != nil {
			return 0, err
		}
	}
	err = s.do(ctx, "erase", func() error {
		for _, key := range rows {
			s.change(func() {
				switch key := key.(type) {
				case letterKey:
					delete(i.letters, key)
				case recordKey:
					delete(i.records, key)
				}
			})
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(rows), s.commit(ctx)
}

// erasable returns the keys of a subscriber's letters. If there are none, it returns the keys of the subscriber's records.
func (i *Inbox) erasable(name string) (keys []any) {
	var letters []letterKey
	for key := range i.letters {
		if key.subscriber == name {
			letters = append(letters, key)
		}
	}
	slices.SortFunc(letters, func(a, b letterKey) int { return cmp.Compare(i.letters[a].Position, i.letters[b].Position) })
	for _, key := range letters {
		keys = append(keys, key)
	}
	if len(keys) > 0 {
		return keys
	}
	for key := range i.records {
		if key.subscriber == name {
			keys = append(keys, key)
		}
	}
	return keys
}

// RemoveTombstone locks only the subscriber's row.
func (o *Operator) RemoveTombstone(ctx context.Context, name string) error {
	i := o.inbox
	s, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.lockSubscriber(ctx, name); err != nil {
		return err
	}
	err = s.do(ctx, "lift the tombstone", func() error {
		row, found := i.subscribers[name]
		switch {
		case !found && !i.known(name):
			return inbox.ErrNoSubscriber.With("there is no subscriber %s", name)
		case row.Forgotten.IsZero():
			return inbox.ErrNotForgotten.With("subscriber %s is not forgotten", name)
		case slices.Contains(i.names(), name):
			return inbox.ErrNotErased.With("rows of the forgotten subscriber %s are left", name)
		}
		s.change(func() { delete(i.subscribers, name) })
		return nil
	})
	if err != nil {
		return err
	}
	return s.commit(ctx)
}
