package orderstest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// scope is the scope of the keys in tests that do not compare scopes.
const scope = orders.Scope("550e8400-e29b-41d4-a716-446655440000")

func newClaim(key orders.Key, request string) orders.KeyClaim {
	return orders.KeyClaim{Scope: scope, Key: key, Digest: orders.DigestOf(request), Order: order.ID(newUUID())}
}

// claim returns the body of a transaction that claims a key. The transaction fails unless the claim want holds the key.
func claim(mine, want orders.KeyClaim) work {
	return func(ctx context.Context, tx orders.Tx) error {
		holds, err := tx.Keys.Claim(ctx, mine)
		if err == nil && holds != want {
			err = fmt.Errorf("%+v holds, not %+v", holds, want)
		}
		return err
	}
}

// claimed commits a claim of a key, and returns the claim.
func claimed(t *testing.T, h Harness, key orders.Key) orders.KeyClaim {
	t.Helper()
	mine := newClaim(key, "first")
	do(t, h, claim(mine, mine))
	return mine
}

func requireHolds(t *testing.T, h Harness, want orders.KeyClaim) {
	t.Helper()
	asking := newClaim(want.Key, "who holds it?")
	asking.Scope = want.Scope
	do(t, h, holding(want.Scope, want.Key, &want))
	do(t, h, claim(asking, want))
}

// holding returns the body of a transaction that looks up a key. It fails unless the claim want holds the key; nil: no claim may hold it.
func holding(scope orders.Scope, key orders.Key, want *orders.KeyClaim) work {
	return func(ctx context.Context, tx orders.Tx) error {
		holds, found, err := tx.Keys.Find(ctx, scope, key)
		switch {
		case err != nil:
			return err
		case found != (want != nil):
			return fmt.Errorf("that a claim holds is %t", found)
		case found && holds != *want:
			return fmt.Errorf("%+v holds, not %+v", holds, *want)
		}
		return nil
	}
}

// claimScopes checks that the same key in another scope is another key.
func claimScopes(t *testing.T, h Harness) {
	all := []orders.KeyClaim{claimed(t, h, "k")}
	for _, scope := range []orders.Scope{"K", "550e8400-e29b-41d4-a716-446655440001", `'"\?0`, "a k", orders.Scope(strings.Repeat("s", 255))} {
		mine := newClaim("k", "first")
		mine.Scope = scope
		do(t, h, holding(scope, "k", nil))
		do(t, h, func(ctx context.Context, tx orders.Tx) error { // another scope's claim waits for nobody
			do(t, h, claim(mine, mine))
			other := newClaim("k", "first")
			other.Scope = orders.Scope(newUUID())
			return claim(other, other)(ctx, tx)
		})
		all = append(all, mine)
	}
	for _, mine := range all {
		requireHolds(t, h, mine)
	}
}

// claimHeld checks that looking up the holder of a key neither waits nor claims the key.
func claimHeld(t *testing.T, h Harness) {
	mine := newClaim("k", "first")
	do(t, h, func(ctx context.Context, tx orders.Tx) error {
		require.NoError(t, holding(scope, "k", nil)(ctx, tx))
		require.NoError(t, claim(mine, mine)(ctx, tx))
		require.NoError(t, holding(scope, "k", &mine)(ctx, tx), "its own")
		do(t, h, holding(scope, "k", nil)) // and does not wait
		return nil
	})
	do(t, h, holding(scope, "k", &mine))
	do(t, h, holding(scope, "K", nil))
	h.AgeKeys(t, orders.KeyLifetime-time.Minute)
	do(t, h, holding(scope, "k", &mine))
	h.AgeKeys(t, time.Minute)
	do(t, h, holding(scope, "k", nil))
	second := newClaim("k", "second")
	do(t, h, claim(second, second))
	do(t, h, holding(scope, "k", &second))
}

func claimHolds(t *testing.T, h Harness) {
	var all []orders.KeyClaim
	visible := ""
	for c := '!'; c <= '~'; c++ {
		visible += string(c)
	}
	for _, key := range []orders.Key{"k", "K", `'"\?0`, "'); DROP TABLE orders; --", orders.Key(visible)} {
		mine := newClaim(key, `it's ?0 "asked" \`)
		do(t, h, func(ctx context.Context, tx orders.Tx) error {
			require.NoError(t, claim(mine, mine)(ctx, tx))
			return claim(newClaim(key, "again"), mine)(ctx, tx)
		})
		all = append(all, mine)
	}
	for _, mine := range all {
		do(t, h, claim(newClaim(mine.Key, `it's ?0 "asked" \`), mine))
		requireHolds(t, h, mine)
	}
}

func claimGivenUp(t *testing.T, h Harness) {
	given := newClaim("k", "given up")
	require.Equal(t, errMine, h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		require.NoError(t, claim(given, given)(ctx, tx))
		return errMine
	}))
	h.FailNextCommit(t)
	require.Error(t, h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		require.NoError(t, claim(given, given)(ctx, tx))
		return save(ctx, tx, newOrder(t))
	}))
	claimed(t, h, "k")
}

// claimRace checks that exactly one of several claims holds a key, even if some of the claimers roll back.
func claimRace(t *testing.T, h Harness) {
	const claimers = 16
	for giveUp := range 4 {
		for _, expired := range []bool{false, true} {
			key := orders.Key(fmt.Sprintf("%d-%t", giveUp, expired))
			if expired {
				claimed(t, h, key)
				h.AgeKeys(t, orders.KeyLifetime)
			}
			raceFor(t, h, key, claimers, giveUp)
		}
	}
}

func raceFor(t *testing.T, h Harness, key orders.Key, claimers, giveUp int) {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	var held []orders.KeyClaim
	mine, givenUp := 0, 0
	for range claimers {
		all.Go(func() {
			claim := newClaim(key, "race")
			err := h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
				holds, err := tx.Keys.Claim(ctx, claim)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				if holds == claim && givenUp < giveUp {
					givenUp++
					return errMine
				}
				if holds == claim {
					mine++
				}
				held = append(held, holds)
				return nil
			})
			if err != nil && err != errMine { //nolint:errorlint // as fn returned it
				t.Errorf("claim: %v", err)
			}
		})
	}
	all.Wait()
	require.Equal(t, giveUp, givenUp)
	require.Equal(t, 1, mine)
	require.Len(t, held, claimers-giveUp)
	for _, claim := range held {
		require.Equal(t, held[0], claim)
	}
	requireHolds(t, h, held[0])
}

// claimWaits checks that a second claim of a key waits for the transaction of the first. If that transaction rolls back, the second claim
// holds. If it commits, the first claim holds.
func claimWaits(t *testing.T, h Harness) {
	for _, expired := range []bool{false, true} {
		for _, outcome := range []error{errMine, nil} {
			key := orders.Key(fmt.Sprintf("%t-%v", expired, outcome))
			if expired {
				claimed(t, h, key)
				h.AgeKeys(t, orders.KeyLifetime)
			}
			first, second := newClaim(key, "first"), newClaim(key, "second")
			want := map[error]orders.KeyClaim{errMine: second, nil: first}[outcome]
			answer := make(chan error, 1)
			require.Equal(t, outcome, h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
				require.NoError(t, claim(first, first)(ctx, tx))
				claimed(t, h, "another one than "+key)
				impatient, cancel := context.WithTimeout(ctx, soon)
				defer cancel()
				waited := h.UnitOfWork().Do(impatient, func(ctx context.Context, tx orders.Tx) error {
					_, err := tx.Keys.Claim(ctx, newClaim(key, "impatient"))
					return err
				})
				require.ErrorIs(t, waited, context.DeadlineExceeded)
				go func() { answer <- h.UnitOfWork().Do(t.Context(), claim(second, want)) }()
				return outcome
			}))
			select {
			case err := <-answer:
				require.NoError(t, err)
			case <-time.After(patience):
				require.Fail(t, "the claim outlived the transaction")
			}
		}
	}
}

func claimExpires(t *testing.T, h Harness) {
	first := claimed(t, h, "k")
	h.AgeKeys(t, orders.KeyLifetime-time.Minute)
	requireHolds(t, h, first)
	h.AgeKeys(t, time.Minute)
	given := newClaim("k", "given up")
	require.Equal(t, errMine, h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		require.NoError(t, claim(given, given)(ctx, tx))
		return errMine
	}))
	second := claimed(t, h, "k")
	h.AgeKeys(t, orders.KeyLifetime-time.Minute)
	requireHolds(t, h, second)
}

func claimsDeleted(t *testing.T, h Harness) {
	remove := func(most, want int) {
		t.Helper()
		deleted, err := h.ExpiredKeys().Delete(t.Context(), most)
		require.NoError(t, err)
		require.Equal(t, want, deleted)
	}
	remove(10, 0)
	for n := range 25 {
		claimed(t, h, orders.Key(fmt.Sprintf("old-%d", n)))
	}
	h.AgeKeys(t, time.Minute)
	young := claimed(t, h, "young")
	h.AgeKeys(t, orders.KeyLifetime-time.Minute)
	for _, want := range []int{10, 10, 5, 0} {
		remove(10, want)
	}
	requireHolds(t, h, young)

	h.AgeKeys(t, time.Minute)
	renewed := newClaim("young", "taken over")
	do(t, h, func(ctx context.Context, tx orders.Tx) error {
		require.NoError(t, claim(renewed, renewed)(ctx, tx))
		remove(10, 0) // and does not wait
		return nil
	})
	remove(10, 0)
	requireHolds(t, h, renewed)
}

// claimsDeletedAtOnce checks that several callers may delete at the same time, and that they do not disturb a claim.
func claimsDeletedAtOnce(t *testing.T, h Harness) {
	const old, deleters = 60, 4
	for n := range old {
		claimed(t, h, orders.Key(fmt.Sprintf("old-%d", n)))
	}
	h.AgeKeys(t, orders.KeyLifetime)
	var all sync.WaitGroup
	renewed := make([]orders.KeyClaim, old/2)
	for n := range renewed {
		renewed[n] = newClaim(orders.Key(fmt.Sprintf("old-%d", n)), "taken over")
		all.Go(func() {
			if err := h.UnitOfWork().Do(t.Context(), claim(renewed[n], renewed[n])); err != nil {
				t.Errorf("claim: %v", err)
			}
		})
	}
	counts := make(chan int, deleters)
	for range deleters {
		all.Go(func() {
			sum := 0
			for range old { // some may find everything locked at first
				deleted, err := h.ExpiredKeys().Delete(t.Context(), 7)
				if err != nil || deleted > 7 {
					t.Errorf("deleted %d: %v", deleted, err)
				}
				sum += deleted
			}
			counts <- sum
		})
	}
	all.Wait()
	close(counts)
	sum := 0
	for count := range counts {
		sum += count
	}
	require.GreaterOrEqual(t, sum, old-len(renewed), "what nobody claimed is gone")
	require.LessOrEqual(t, sum, old)
	for _, claim := range renewed {
		requireHolds(t, h, claim)
	}
}

func claimsDeletedInAnOutage(t *testing.T, h Harness) {
	claimed(t, h, "k")
	h.AgeKeys(t, orders.KeyLifetime)
	h.Disconnect(t)
	_, err := h.ExpiredKeys().Delete(t.Context(), 10)
	requireOutage(t, err, "disconnected")
	h.Reconnect(t)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err = h.ExpiredKeys().Delete(ended, 10)
	require.ErrorIs(t, err, context.Canceled)
	deleted, err := h.ExpiredKeys().Delete(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, 1, deleted)
}
