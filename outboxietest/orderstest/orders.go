package orderstest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

func orderContent(t *testing.T, h Harness) {
	requireSame := func(want order.Snapshot) {
		t.Helper()
		do(t, h, func(ctx context.Context, tx orders.Tx) error {
			o, err := tx.Orders.Get(ctx, want.ID)
			require.NoError(t, err)
			require.Equal(t, want, o.Snapshot())
			require.Equal(t, want.Version, o.StoredVersion())
			require.False(t, o.HasEvents())
			return nil
		})
		read, err := h.OrderReader().Get(t.Context(), want.ID)
		require.NoError(t, err)
		require.Equal(t, want, read)
	}
	for text, currency := range map[string]value.Currency{"0.001": "KWD", "7": "JPY", "9999999999.99": "USD"} {
		amount, err := value.ParseMoney(text, currency)
		require.NoError(t, err)
		now := time.Date(2024, 2, 29, 23, 59, 59, 999_999_000, time.UTC)
		o, err := order.Place(order.ID(newUUID()), value.CustomerID(newUUID()), amount, now)
		require.NoError(t, err)
		do(t, h, saving(o))
		requireSame(o.Snapshot())
		state := o.Snapshot()
		do(t, h, changing(state.ID, pay))
		state.Status, state.Version, state.PaymentReference = order.StatusPaid, 2, "P-1"
		requireSame(state)
		do(t, h, changing(state.ID, ship))
		state.Status, state.Version = order.StatusShipped, 3
		state.Carrier, state.Tracking = "UPS", `'1Z' "?0" \`
		requireSame(state)
	}
	cancelled := placed(t, h)
	do(t, h, changing(cancelled.ID, cancel))
	cancelled.Status, cancelled.Version, cancelled.CancelReason = order.StatusCancelled, 2, "слишком поздно"
	requireSame(cancelled)
}

func orderNotFound(t *testing.T, h Harness) {
	kept := placed(t, h)
	do(t, h, func(ctx context.Context, tx orders.Tx) error {
		o, err := tx.Orders.Get(ctx, order.ID(newUUID()))
		require.ErrorIs(t, err, orders.ErrOrderNotFound)
		require.Nil(t, o)
		return changing(kept.ID, pay)(ctx, tx) // the transaction can go on
	})
	_, err := h.OrderReader().Get(t.Context(), order.ID(newUUID()))
	require.ErrorIs(t, err, orders.ErrOrderNotFound)
	lost := order.Rehydrate(order.Snapshot{ID: order.ID(newUUID()), CustomerID: kept.CustomerID, Version: 1})
	require.ErrorIs(t, h.UnitOfWork().Do(t.Context(), saving(lost)), orders.ErrOrderChanged)
}

func orderExists(t *testing.T, h Harness) {
	kept := placed(t, h)
	again, err := order.Place(kept.ID, kept.CustomerID, kept.Amount, time.Now())
	require.NoError(t, err)
	err = h.UnitOfWork().Do(t.Context(), saving(again))
	require.ErrorIs(t, err, orders.ErrOrderExists)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	requireOnly(t, h, kept)
}

func orderUnpulled(t *testing.T, h Harness) {
	kept, o := placed(t, h), newOrder(t)
	err := h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error { return tx.Orders.Save(ctx, o) })
	require.ErrorIs(t, err, orders.ErrEventsNotPulled)
	err = h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		read, err := tx.Orders.Get(ctx, kept.ID)
		require.NoError(t, err)
		require.NoError(t, pay(read, time.Now()))
		return tx.Orders.Save(ctx, read)
	})
	require.ErrorIs(t, err, orders.ErrEventsNotPulled)
	requireOnly(t, h, kept)
	requireNoOrder(t, h, o.Snapshot().ID)
}

// orderRace checks that one of several savers wins. All of them read the order before the first one saves it.
func orderRace(t *testing.T, h Harness) {
	const savers = 8
	for range 5 {
		kept := placed(t, h)
		before := len(h.Entries(t))
		var read, all sync.WaitGroup
		read.Add(savers)
		answers := make(chan error, savers)
		for range savers {
			all.Go(func() {
				answers <- h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
					o, err := tx.Orders.Get(ctx, kept.ID)
					read.Done()
					read.Wait()
					if err = errors.Join(err, pay(o, time.Now())); err != nil {
						return err
					}
					return save(ctx, tx, o)
				})
			})
		}
		all.Wait()
		close(answers)
		won := 0
		for err := range answers {
			if err == nil {
				won++
				continue
			}
			require.ErrorIs(t, err, orders.ErrOrderChanged)
		}
		require.Equal(t, 1, won)
		require.Len(t, h.Entries(t), before+1)
		stored, _ := h.Order(t, kept.ID)
		require.Equal(t, int64(2), stored.Version)
	}
}

// orderLocked checks that a second transaction waits when it saves an order that a first transaction has saved. If the first one rolls back,
// the second one succeeds. If the first one commits, the second one fails.
func orderLocked(t *testing.T, h Harness) {
	for _, outcome := range []struct{ first, second error }{{errMine, nil}, {nil, orders.ErrOrderChanged}} {
		first, second := outcome.first, outcome.second
		kept, other := placed(t, h), placed(t, h)
		answer := make(chan error, 1)
		err := h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
			require.NoError(t, changing(kept.ID, pay)(ctx, tx))
			read := make(chan struct{}) // closed when the second transaction has read the order
			go func() {
				answer <- h.UnitOfWork().Do(t.Context(), changing(kept.ID, func(o *order.Order, now time.Time) error {
					close(read)
					return cancel(o, now)
				}))
			}()
			select {
			case <-read:
			case <-time.After(patience):
				require.Fail(t, "a saved order cannot be read")
			}
			do(t, h, changing(other.ID, pay)) // another order is free
			impatient, giveUp := context.WithTimeout(ctx, soon)
			defer giveUp()
			waited := h.UnitOfWork().Do(impatient, changing(kept.ID, cancel))
			require.ErrorIs(t, waited, context.DeadlineExceeded)
			require.Empty(t, answer)
			return first
		})
		require.Equal(t, first, err)
		select {
		case err := <-answer:
			require.ErrorIs(t, err, second)
		case <-time.After(patience):
			require.Fail(t, "the lock outlived the transaction")
		}
	}
}

// appendVersions checks that the versions of each order ascend without a gap, with ascending positions. Several writers pay and ship the same
// orders.
func appendVersions(t *testing.T, h Harness) {
	const orders, writers = 6, 4
	var ids []order.ID
	for range orders {
		ids = append(ids, placed(t, h).ID)
	}
	failures := make(chan error, writers)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for _, verb := range []func(*order.Order, time.Time) error{pay, ship} {
				for _, id := range ids {
					err := h.UnitOfWork().Do(t.Context(), changing(id, verb))
					if err != nil && fault.KindOf(err) != fault.Conflict {
						failures <- err
						return
					}
				}
			}
		})
	}
	all.Wait()
	close(failures)
	require.NoError(t, <-failures)
	versions := make(map[string]int64)
	last := outbox.Position(0)
	for _, entry := range h.Entries(t) {
		require.Greater(t, entry.Position, last)
		last = entry.Position
		versions[entry.Key.ID]++
		require.Equal(t, versions[entry.Key.ID], entry.Version, "in order and without a gap")
	}
	for _, id := range ids {
		stored, _ := h.Order(t, id)
		require.Equal(t, stored.Version, versions[string(id)])
		require.GreaterOrEqual(t, stored.Version, int64(2))
	}
}
