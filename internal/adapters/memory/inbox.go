package memory

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Inbox applies effects once.
type Inbox struct {
	keeper
	applied  map[appliedKey]bool
	totals   map[totalKey]Total
	applying *claims[appliedKey]
}

type appliedKey struct{ subscriber, eventID string }

var _ inbox.UnitOfWork = (*Inbox)(nil)

// NewInbox returns an inbox that has seen nothing.
func NewInbox() *Inbox {
	return &Inbox{
		applied:  make(map[appliedKey]bool),
		totals:   make(map[totalKey]Total),
		applying: newClaims[appliedKey](),
	}
}

// Once implements the port.
func (i *Inbox) Once(
	ctx context.Context, subscriber string, entry outbox.Entry, fn func(ctx context.Context, tx inbox.Tx) error,
) (applied bool, err error) {
	open, err := i.begin(ctx)
	if err != nil {
		return false, err
	}
	key := appliedKey{subscriber, entry.ID}
	if err := i.applying.claim(ctx, key); err != nil {
		return false, err
	}
	defer func() {
		open.over = true
		i.applying.release(key)
	}()
	if err := open.usable(ctx); err != nil || i.Applied(subscriber, entry.ID) {
		return false, err
	}
	added := &totals{transaction: open, subscriber: subscriber, added: make(map[totalKey]Total)}
	if err := fn(ctx, inbox.Tx{Totals: added}); err != nil {
		return false, err
	}
	err = open.commit(ctx, func() error {
		i.applied[key] = true
		for key, more := range added.added {
			i.totals[key] = i.totals[key].plus(more)
		}
		return nil
	})
	return err == nil, err
}

// Applied reports whether subscriber has applied the event.
func (i *Inbox) Applied(subscriber, eventID string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.applied[appliedKey{subscriber, eventID}]
}
