package memory

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/ordering"
)

// remembered is a claim and when it was made.
type remembered struct {
	claim ordering.Claim
	at    time.Time
}

func (r remembered) expired() bool { return time.Since(r.at) >= ordering.KeyLifetime }

// keys is the keys of one transaction.
type keys struct {
	*transaction
	from *UnitOfWork
	held map[ordering.Key]remembered // with the claim that holds for each
}

var _ ordering.Keys = (*keys)(nil)

// Claim implements the port.
func (k *keys) Claim(ctx context.Context, mine ordering.Claim) (ordering.Claim, error) {
	if err := k.usable(ctx); err != nil {
		return ordering.Claim{}, err
	}
	if holds, found := k.held[mine.Key]; found {
		return holds.claim, nil
	}
	if err := k.from.claiming.claim(ctx, mine.Key); err != nil {
		return ordering.Claim{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	holds, found := k.from.keys[mine.Key]
	if !found || holds.expired() {
		holds = remembered{mine, time.Now()}
	}
	k.held[mine.Key] = holds
	return holds.claim, nil
}

var _ ordering.ExpiredKeys = (*UnitOfWork)(nil)

// Delete implements the port.
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
		u.keys[key] = remembered{kept.claim, kept.at.Add(-by)}
	}
}
