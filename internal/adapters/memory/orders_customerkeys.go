package memory

import (
	"context"
	"sync"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// customerKeys holds the keys of customers in one transaction.
type customerKeys struct {
	*transaction
	from *UnitOfWork
	held map[value.CustomerID]outbox.SealKey
}

var _ orders.CustomerKeys = (*customerKeys)(nil)

// Hold waits until nobody erases the customer, or until ctx ends. A key that it makes stays, even if the transaction is rolled back.
func (k *customerKeys) Hold(ctx context.Context, customer value.CustomerID) (outbox.SealKey, error) {
	if err := k.usable(ctx); err != nil {
		return outbox.SealKey{}, err
	}
	if key, found := k.held[customer]; found {
		return key, nil
	}
	if err := k.from.customers.hold(ctx, customer); err != nil {
		return outbox.SealKey{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key, found := k.from.customerKeys[customer]
	if !found {
		key = outbox.NewSealKey()
		k.from.customerKeys[customer] = key
		k.from.foundKeys[key.ID] = orders.FoundKey{SealKey: key}
	}
	k.held[customer] = key
	return key, nil
}

// release frees the held keys when the transaction has ended.
func (k *customerKeys) release() {
	for customer := range k.held {
		k.from.customers.release(customer)
	}
}

var _ orders.KeyRing = (*KeyRing)(nil)

// KeyRing reads the keys of a UnitOfWork.
type KeyRing struct{ from *UnitOfWork }

// NewKeyRing returns the key ring of a UnitOfWork.
func NewKeyRing(from *UnitOfWork) *KeyRing { return &KeyRing{from} }

// Find fails while the database is disconnected.
func (r *KeyRing) Find(ctx context.Context, ids []string) (found []orders.FoundKey, err error) {
	if _, err := r.from.begin(ctx); err != nil {
		return nil, err
	}
	r.from.mu.Lock()
	defer r.from.mu.Unlock()
	for _, id := range ids {
		if key, has := r.from.foundKeys[id]; has {
			found = append(found, key)
		}
	}
	return found, nil
}

// sharedLocks are locks that many hold at the same time, or one alone.
type sharedLocks[K comparable] struct {
	mu      sync.Mutex
	holders map[K]int     // -1: somebody has the lock alone
	changed chan struct{} // closed when somebody has released a lock
}

func newSharedLocks[K comparable]() *sharedLocks[K] {
	return &sharedLocks[K]{holders: make(map[K]int), changed: make(chan struct{})}
}

// hold shares a lock. take gets a lock alone. Both wait, and fail only if ctx ends.
func (l *sharedLocks[K]) hold(ctx context.Context, key K) error {
	return l.await(ctx, func() bool {
		free := l.holders[key] >= 0
		if free {
			l.holders[key]++
		}
		return free
	})
}

func (l *sharedLocks[K]) take(ctx context.Context, key K) error {
	return l.await(ctx, func() bool {
		free := l.holders[key] == 0
		if free {
			l.holders[key] = -1
		}
		return free
	})
}

func (l *sharedLocks[K]) await(ctx context.Context, try func() bool) error {
	for {
		l.mu.Lock()
		got, changed := try(), l.changed
		l.mu.Unlock()
		if got {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// release undoes one hold or take.
func (l *sharedLocks[K]) release(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holders[key] = max(l.holders[key]-1, 0)
	if l.holders[key] == 0 {
		delete(l.holders, key)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}
