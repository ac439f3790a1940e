package ordering_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// TestAKeyGivesTheFirstAnswerAgain checks that a repeated request changes nothing and gets the first answer, even if the order has changed
// since.
func TestAKeyGivesTheFirstAnswerAgain(t *testing.T) {
	s := newFixture()
	first, err := s.Place(t.Context(), order.Anyone(), customer, amount, "k")
	require.NoError(t, err)
	for _, change := range []func(context.Context, order.ID) (order.Snapshot, error){s.get, s.pay, s.ship} {
		changed, err := change(t.Context(), first.ID)
		require.NoError(t, err)
		again, err := s.Place(t.Context(), order.Anyone(), customer, amount, "k")
		require.NoError(t, err)
		require.Equal(t, first, again)
		now, err := s.Get(t.Context(), order.Anyone(), first.ID)
		require.NoError(t, err)
		require.Equal(t, changed, now)
	}
	require.Equal(t, []string{orders.TypeCreated, orders.TypePaid, orders.TypeShipped}, s.eventTypes())
	require.Equal(t, 6, s.notifier.count, "the process of the first request may have died before it notified")

	for _, key := range []orders.Key{"K", "", ""} {
		other, err := s.Place(t.Context(), order.Anyone(), customer, amount, key)
		require.NoError(t, err)
		require.NotEqual(t, first.ID, other.ID)
		first = other
	}
}

func TestAKeyIsForOneRequest(t *testing.T) {
	s := newFixture()
	first, err := s.Place(t.Context(), order.Anyone(), customer, amount, "k")
	require.NoError(t, err)
	for _, other := range []value.Money{value.NewMoney(10051, "USD"), value.NewMoney(10050, "EUR"), value.NewMoney(value.MaxAmount+1, "USD")} {
		_, err := s.Place(t.Context(), order.Anyone(), customer, other, "k")
		require.ErrorIs(t, err, orders.ErrKeyReused)
	}
	require.Len(t, s.eventTypes(), 1)

	s.uow.AgeKeys(orders.KeyLifetime)
	second, err := s.Place(t.Context(), order.Anyone(), customer, value.NewMoney(1, "JPY"), "k")
	require.NoError(t, err)
	require.NotEqual(t, first.ID, second.ID)
	_, err = s.Place(t.Context(), order.Anyone(), customer, amount, "k")
	require.ErrorIs(t, err, orders.ErrKeyReused)
}

// TestAKeyIsOneCustomers checks that two customers can use the same key, for equal and for different requests.
func TestAKeyIsOneCustomers(t *testing.T) {
	s := newFixture()
	first, err := s.Place(t.Context(), order.Anyone(), customer, amount, "k")
	require.NoError(t, err)
	second, err := s.Place(t.Context(), order.Anyone(), "550e8400-e29b-41d4-a716-446655440001", amount, "k")
	require.NoError(t, err)
	require.NotEqual(t, first.ID, second.ID)
	for customer, want := range map[value.CustomerID]order.Snapshot{first.CustomerID: first, second.CustomerID: second} {
		again, err := s.Place(t.Context(), order.Anyone(), customer, amount, "k")
		require.NoError(t, err)
		require.Equal(t, want, again)
	}

	guard := orders.Precondition{Key: "p"}
	_, err = s.Pay(t.Context(), order.Anyone(), first.ID, "P-1", guard)
	require.NoError(t, err)
	_, err = s.Pay(t.Context(), order.Anyone(), second.ID, "P-2", guard)
	require.NoError(t, err, "the key is that of the other order's customer")
	_, err = s.Cancel(t.Context(), order.Anyone(), second.ID, "", guard)
	require.ErrorIs(t, err, orders.ErrKeyReused)
}

// claims is a unit of work that counts calls of Keys.Claim.
type claims struct {
	orders.UnitOfWork
	made int
}

func (c *claims) Do(ctx context.Context, fn func(ctx context.Context, tx orders.Tx) error) error {
	return c.UnitOfWork.Do(ctx, func(ctx context.Context, tx orders.Tx) error {
		tx.Keys = countedKeys{tx.Keys, c}
		return fn(ctx, tx)
	})
}

type countedKeys struct {
	orders.Keys
	claims *claims
}

func (k countedKeys) Claim(ctx context.Context, mine orders.KeyClaim) (orders.KeyClaim, error) {
	k.claims.made++
	return k.Keys.Claim(ctx, mine)
}

// TestOnlyAChangeClaimsAKey checks that a request that changes nothing stores no key.
func TestOnlyAChangeClaimsAKey(t *testing.T) {
	log := memory.NewLog()
	uow := memory.NewUnitOfWork(log)
	counted := &claims{UnitOfWork: uow}
	s := newFixtureOver(log, uow, counted, codec.New(nil))
	id := s.placed(t).ID
	_, err := s.Pay(t.Context(), order.Anyone(), id, "P-1", orders.Precondition{Key: "k"})
	require.NoError(t, err)
	require.Equal(t, 1, counted.made)
	for n := range 20 {
		guard := orders.Precondition{Key: orders.Key(fmt.Sprintf("k%d", n))}
		_, err := s.Pay(t.Context(), order.Anyone(), id, "P-1", guard)
		require.NoError(t, err, "it was made before")
		_, err = s.Pay(t.Context(), order.Anyone(), id, "P-2", guard)
		require.ErrorIs(t, err, order.ErrDiffers)
		_, err = s.Pay(t.Context(), order.Anyone(), "00000000-0000-7000-8000-999999999999", "P-1", guard)
		require.ErrorIs(t, err, orders.ErrOrderNotFound)
		_, err = s.Ship(t.Context(), order.Anyone(), id, "", "", orders.Precondition{Key: guard.Key, AllowedVersions: []int64{1}})
		require.ErrorIs(t, err, orders.ErrOrderVersion)
		_, err = s.Place(t.Context(), order.Anyone(), customer, value.NewMoney(value.MaxAmount+1, "USD"), guard.Key)
		require.ErrorIs(t, err, value.ErrTooLarge)
	}
	require.Equal(t, 1, counted.made)
}

// TestAKeyOutlivesANewLimit checks that a repeated request gets its first answer, also if the amount of its order is above a newer limit.
func TestAKeyOutlivesANewLimit(t *testing.T) {
	s := newFixture()
	tooMuch := value.NewMoney(value.MaxAmount+1, "USD")
	before := order.Rehydrate(order.Snapshot{
		ID: "00000000-0000-7000-8000-000000000099", CustomerID: customer, Amount: tooMuch, Status: order.StatusCreated, CreatedAt: stored,
	})
	require.NoError(t, s.uow.Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		_, err := tx.Keys.Claim(ctx, orders.KeyClaim{
			Scope: orders.ScopeOf(order.Anyone(), customer), Key: "k", Order: before.Snapshot().ID,
			Digest: orders.DigestOf(fmt.Sprintf("place %s %d USD", customer, tooMuch.Minor())),
		})
		require.NoError(t, err)
		return tx.Orders.Save(ctx, before)
	}))
	again, err := s.Place(t.Context(), order.Anyone(), customer, tooMuch, "k")
	require.NoError(t, err)
	require.Equal(t, before.AsPlaced(), again)
	_, err = s.Place(t.Context(), order.Anyone(), customer, tooMuch, "another")
	require.ErrorIs(t, err, value.ErrTooLarge)
}

// TestAFailureLeavesTheKeyFree checks that a key of a failed request can be used again, also for another request.
func TestAFailureLeavesTheKeyFree(t *testing.T) {
	s := newFixture()
	_, err := s.Place(t.Context(), order.Anyone(), customer, value.NewMoney(0, "USD"), "k")
	require.ErrorIs(t, err, value.ErrMoney)
	s.uow.FailNextCommit()
	_, err = s.Place(t.Context(), order.Anyone(), customer, value.NewMoney(1, "USD"), "k")
	require.Error(t, err)
	_, err = s.Place(t.Context(), order.Anyone(), customer, amount, "k")
	require.NoError(t, err)
	require.Len(t, s.eventTypes(), 1)
	require.Equal(t, 1, s.notifier.count)
}

func TestConcurrentPlacesWithOneKeyAreOneOrder(t *testing.T) {
	s := newFixture()
	const clients = 16
	answers := make(chan order.Snapshot, clients)
	var placing sync.WaitGroup
	for range clients {
		placing.Go(func() {
			placed, err := s.Place(context.Background(), order.Anyone(), customer, amount, "k")
			if err != nil {
				t.Error(err)
			}
			answers <- placed
		})
	}
	placing.Wait()
	close(answers)
	first := <-answers
	for answer := range answers {
		require.Equal(t, first, answer)
	}
	require.Equal(t, []string{orders.TypeCreated}, s.eventTypes())
}
