package memory

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// keptClaim is a claim and when it was made.
type keptClaim struct {
	claim orders.KeyClaim
	at    time.Time
}

func (r keptClaim) expired() bool { return time.Since(r.at) >= orders.KeyLifetime }

// keyName identifies a key.
type keyName struct {
	scope orders.Scope
	key   orders.Key
}

// keys holds the keys of one transaction.
type keys struct {
	*transaction
	from *UnitOfWork
	held map[keyName]keptClaim // the claim that is valid for each key
}

var _ orders.Keys = (*keys)(nil)

// Claim waits until no other transaction claims the key, or until ctx ends.
func (k *keys) Claim(ctx context.Context, mine orders.KeyClaim) (orders.KeyClaim, error) {
	if err := k.usable(ctx); err != nil {
		return orders.KeyClaim{}, err
	}
	wanted := keyName{mine.Scope, mine.Key}
	if holds, found := k.held[wanted]; found {
		return holds.claim, nil
	}
	if err := k.from.claiming.claim(ctx, wanted); err != nil {
		return orders.KeyClaim{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	holds, found := k.from.keys[wanted]
	if !found || holds.expired() {
		holds = keptClaim{mine, time.Now()}
	}
	k.held[wanted] = holds
	return holds.claim, nil
}

// Find also returns a claim that this transaction has made itself.
func (k *keys) Find(ctx context.Context, scope orders.Scope, key orders.Key) (orders.KeyClaim, bool, error) {
	if err := k.usable(ctx); err != nil {
		return orders.KeyClaim{}, false, err
	}
	wanted := keyName{scope, key}
	k.mu.Lock()
	defer k.mu.Unlock()
	holds, found := k.held[wanted]
	if !found {
		holds, found = k.from.keys[wanted]
	}
	if !found || holds.expired() {
		return orders.KeyClaim{}, false, nil
	}
	return holds.claim, true, nil
}

var _ orders.ExpiredKeys = (*UnitOfWork)(nil)

// Delete skips keys that an open transaction claims.
func (u *UnitOfWork) Delete(ctx context.Context, most int) (deleted int, err error) {
	open, err := u.begin(ctx)
	if err != nil {
		return 0, err
	}
	err = open.commit(ctx, func() error {
		for key, kept := range u.keys {
			if deleted < most && kept.expired() && !u.claiming.taken(key) {
				delete(u.keys, key)
				deleted++
			}
		}
		return nil
	})
	return deleted, err
}

// AgeKeys makes every committed claim older.
func (u *UnitOfWork) AgeKeys(by time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, kept := range u.keys {
		u.keys[key] = keptClaim{kept.claim, kept.at.Add(-by)}
	}
}
