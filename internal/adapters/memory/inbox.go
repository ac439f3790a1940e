package memory

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Inbox applies effects once, and keeps dead letters.
type Inbox struct {
	keeper
	taken   map[eventKey]taken
	letters map[eventKey]*letter
	totals  map[totalKey]Total
	working *claims[eventKey]

	history      []effect
	holdsNothing bool
	knowsNothing bool
}

type effect struct {
	subscriber string
	entry      outbox.Entry
}

type eventKey struct{ subscriber, id string }

// taken is the decision about an event: it was applied, or else set aside.
type taken struct {
	applied bool
	at      time.Time
}

var _ inbox.UnitOfWork = (*Inbox)(nil)

// NewInbox returns an inbox that has seen nothing.
func NewInbox() *Inbox {
	return &Inbox{
		taken:   make(map[eventKey]taken),
		letters: make(map[eventKey]*letter),
		totals:  make(map[totalKey]Total),
		working: newClaims[eventKey](),
	}
}

// Once implements the port.
func (i *Inbox) Once(
	ctx context.Context, subscriber string, entry outbox.Entry, fn func(ctx context.Context, tx inbox.Tx) error,
) (applied bool, err error) {
	key := eventKey{subscriber, entry.ID}
	open, done, err := i.claim(ctx, key)
	if err != nil {
		return false, err
	}
	defer done()
	if err := open.usable(ctx); err != nil {
		return false, err
	}
	if free, err := i.free(key, entry); err != nil || !free {
		return false, err
	}
	added := &totals{transaction: open, subscriber: subscriber, added: make(map[totalKey]Total)}
	if err := fn(ctx, inbox.Tx{Totals: added}); err != nil {
		return false, err
	}
	err = open.commit(ctx, func() error {
		i.taken[key] = taken{applied: true, at: time.Now()}
		for key, more := range added.added {
			i.totals[key] = i.totals[key].plus(more)
		}
		i.history = append(i.history, effect{subscriber, entry})
		i.end(key)
		return nil
	})
	return err == nil, err
}

// claim begins a transaction that holds the event. Whoever else wants it waits until done.
func (i *Inbox) claim(ctx context.Context, key eventKey) (open *transaction, done func(), err error) {
	if open, err = i.begin(ctx); err != nil {
		return nil, nil, err
	}
	if err := i.working.claim(ctx, key); err != nil {
		return nil, nil, err
	}
	return open, func() {
		open.over = true
		i.working.release(key)
	}, nil
}

// free reports whether the event is to be applied now, or ErrHeld.
func (i *Inbox) free(key eventKey, entry outbox.Entry) (bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if l, found := i.letters[key]; found && l.State == inbox.Retrying {
		return true, nil
	}
	if _, known := i.taken[key]; known && !i.knowsNothing {
		return false, nil
	}
	if i.before(key.subscriber, entry) != nil && !i.holdsNothing {
		return false, inbox.ErrHeld
	}
	return true, nil
}

// Sweep implements the port.
func (i *Inbox) Sweep(ctx context.Context, subscriber string, age time.Duration, limit int) (int, error) {
	open, err := i.begin(ctx)
	if err != nil {
		return 0, err
	}
	swept := 0
	err = open.commit(ctx, func() error {
		cutoff := time.Now().Add(-age)
		for key, decision := range i.taken {
			l := i.letters[key]
			discarded := l != nil && l.State == inbox.Discarded && l.changed.Before(cutoff)
			old := discarded || decision.applied && decision.at.Before(cutoff)
			if swept == limit || key.subscriber != subscriber || !old {
				continue
			}
			delete(i.taken, key)
			delete(i.letters, key)
			swept++
		}
		return nil
	})
	return swept, err
}

// Applied reports whether subscriber has applied the event.
func (i *Inbox) Applied(subscriber, eventID string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.taken[eventKey{subscriber, eventID}].applied
}

// History returns what subscriber has applied, in the order in which it did.
func (i *Inbox) History(subscriber string) []outbox.Entry {
	i.mu.Lock()
	defer i.mu.Unlock()
	var applied []outbox.Entry
	for _, effect := range i.history {
		if effect.subscriber == subscriber {
			applied = append(applied, effect.entry)
		}
	}
	return applied
}

// HoldNothing lets events overtake the dead ones of their aggregate. It exists for the mutant that proves that tests notice.
func (i *Inbox) HoldNothing() { i.holdsNothing = true }

// KnowNothing applies events again that were applied. It exists for the mutant that proves that tests notice.
func (i *Inbox) KnowNothing() { i.knowsNothing = true }
