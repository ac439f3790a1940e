package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// TestAnotherUniqueColumnIsAConflict checks that a unique constraint that a service adds to its orders answers with a conflict that names the
// constraint and not the value: on insert, on update, and at the commit if the constraint is deferred. The same id stays ErrOrderExists.
func TestAnotherUniqueColumnIsAConflict(t *testing.T) {
	const secret = "P-4711"
	for name, deferred := range map[string]string{"at once": "", "at the commit": " DEFERRABLE INITIALLY DEFERRED"} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			work := postgres.NewUnitOfWork(h.db)
			do := func(fn func(ctx context.Context, tx orders.Tx) error) error { return work.Do(t.Context(), fn) }
			requireConflict := func(err error, constraint string) {
				t.Helper()
				require.ErrorIs(t, err, orders.ErrNotUnique)
				require.Equal(t, fault.Conflict, fault.KindOf(err))
				require.ErrorContains(t, err, constraint)
				require.NotContains(t, err.Error(), secret)
			}
			one, other := newOrder(t), newOrder(t)
			for _, o := range []*order.Order{one, other} {
				require.NoError(t, do(func(ctx context.Context, tx orders.Tx) error { return save(ctx, tx, o) }))
			}
			exec(t, h.others, "UPDATE orders SET payment_reference = id::text")
			exec(t, h.others, "ALTER TABLE orders ADD CONSTRAINT one_payment UNIQUE (payment_reference)"+deferred)
			exec(t, h.others, "ALTER TABLE orders ADD CONSTRAINT one_order UNIQUE (customer_id)"+deferred)
			exec(t, h.others, "UPDATE orders SET payment_reference = ? WHERE id = ?", secret, string(one.Snapshot().ID))

			requireConflict(do(func(ctx context.Context, tx orders.Tx) error {
				read, err := tx.Orders.Get(ctx, other.Snapshot().ID)
				require.NoError(t, err)
				_, err = read.Pay(secret, read.Snapshot().CreatedAt)
				require.NoError(t, err)
				return save(ctx, tx, read)
			}), "one_payment")

			exec(t, h.others, "ALTER TABLE orders DROP CONSTRAINT one_payment")
			requireConflict(do(func(ctx context.Context, tx orders.Tx) error {
				same, err := order.Place(newOrder(t).Snapshot().ID, one.Snapshot().CustomerID, value.NewMoney(1, "USD"), time.Now())
				require.NoError(t, err)
				return save(ctx, tx, same)
			}), "one_order")
			err := do(func(ctx context.Context, tx orders.Tx) error { return save(ctx, tx, one) })
			require.ErrorIs(t, err, orders.ErrOrderExists)
		})
	}
}
