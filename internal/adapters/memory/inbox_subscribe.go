package memory

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// subscriber is a row of the subscribers, with the types that it wants.
type subscriber struct {
	inbox.Subscription
	counts
	types       map[string]bool
	pausedAt    time.Time
	yieldsUntil time.Time // until then an operator or Subscribe waits for open transactions
}

// subscriberKey is the key of a subscriber's row.
type subscriberKey string

func (s subscriber) subscription() inbox.Subscription {
	subscription := s.Subscription
	subscription.Types = slices.Sorted(maps.Keys(s.types))
	return subscription
}

// allows returns why a copy with this handler cannot work, or nil.
func (s subscriber) allows(name, handler string) error {
	switch {
	case !s.Forgotten.IsZero():
		return forgot(name)
	case s.Handler != "" && s.Handler != handler:
		return inbox.ErrOtherHandler.With("subscriber %s has the handler %s, not %s", name, s.Handler, handler)
	}
	return nil
}

func forgot(subscriber string) error {
	return inbox.ErrForgotten.With("subscriber %s was forgotten", subscriber)
}

// Subscribe locks the subscriber's row, and then the lanes in order, if there is anything to change.
func (i *Inbox) Subscribe(ctx context.Context, name, handler string, types []string) error {
	unchanged := false
	err := i.once(ctx, "look at the types", func(*session) error {
		row := i.subscribers[name]
		unchanged = row.Handler != "" && len(row.missing(types)) == 0
		return row.allows(name, handler)
	})
	if err != nil || unchanged {
		return err
	}
	s, done, err := i.openYielding(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	if err := s.lockAll(ctx, name); err != nil {
		return err
	}
	err = s.do(ctx, "subscribe", func() error {
		row := i.subscribers[name]
		if err := row.allows(name, handler); err != nil {
			return err
		}
		missing := row.missing(types)
		row.Handler, row.types = handler, maps.Clone(row.types)
		if row.types == nil {
			row.types = make(map[string]bool)
		}
		for _, eventType := range missing {
			row.types[eventType] = true
		}
		s.change(func() {
			i.put(name, row)
			if len(missing) > 0 {
				i.revise(name)
			}
		})
		return nil
	})
	if err != nil {
		return err
	}
	return s.commit(ctx)
}

// yieldsFor bounds how long a subscriber yields. So the subscriber goes on even if the process for which it yields has died.
const yieldsFor = 15 * time.Second

// openYielding makes the subscriber yield, and then opens a transaction. In this transaction, the caller locks the subscriber
// and its lanes. Until done is called, or until yieldsFor is over, no redelivery begins, and copies release their lanes.
func (i *Inbox) openYielding(ctx context.Context, name string) (s *session, done func(), err error) {
	until := time.Now().Add(yieldsFor)
	if err := i.once(ctx, "ask for way", func(*session) error {
		i.yield(name, until)
		return nil
	}); err != nil {
		return nil, nil, err
	}
	if s, err = i.open(ctx); err != nil {
		return nil, nil, err
	}
	return s, func() {
		s.close()
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.subscribers[name].yieldsUntil.Equal(until) {
			i.yield(name, time.Time{})
		}
	}, nil
}

func (i *Inbox) yield(name string, until time.Time) {
	if row, found := i.subscribers[name]; found && row.Forgotten.IsZero() {
		row.yieldsUntil = until
		i.subscribers[name] = row
	}
}

// missing returns the types that the subscriber does not want yet.
func (s subscriber) missing(types []string) (missing []string) {
	for _, eventType := range types {
		if !s.types[eventType] {
			missing = append(missing, eventType)
		}
	}
	return missing
}

// lockSubscriber locks the row of a subscriber. A transaction that changes a decision about a subscriber locks this row first, then locks
// the lanes, and then gives them new revisions.
func (s *session) lockSubscriber(ctx context.Context, name string) error {
	return s.lock(ctx, subscriberKey(name))
}

// lockAll locks the row of a subscriber, and then its lanes in order.
func (s *session) lockAll(ctx context.Context, name string) error {
	if err := s.lockSubscriber(ctx, name); err != nil {
		return err
	}
	var lanes []inbox.Checkpoint
	err := s.do(ctx, "read the lanes", func() error {
		lanes = s.inbox.lanesOf(name)
		return nil
	})
	if err != nil {
		return err
	}
	for _, lane := range lanes {
		if err := s.lock(ctx, laneKey{name, lane.Lane}); err != nil {
			return err
		}
	}
	return nil
}

// revise gives each lane of a subscriber a new revision.
func (i *Inbox) revise(name string) {
	for key, row := range i.lanes {
		if key.subscriber == name {
			row.Revision++
			i.lanes[key] = row
		}
	}
}
