package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
	"github.com/assylzhan-a/outboxie/outboxietest/orderstest"
)

// TestCheckpoints runs the cases of the contract one after the other. In parallel, the statements of a case could wait so long
// that its copies count as silent (inbox.CopySilentAfter).
func TestCheckpoints(t *testing.T) {
	inboxtest.TestCheckpoints(t, func(t *testing.T) inboxtest.Store { return newHarness(t).store() })
}

func TestInbox(t *testing.T) {
	inboxtest.TestUnitOfWork(t, func(t *testing.T) inboxtest.Store { return newHarness(t).store() })
}

// store is an inbox in the harness's database.
func (h *harness) store() inboxtest.Store {
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	return inboxtest.Store{
		Connection: h, Checkpoints: in, UnitOfWork: in, Letters: in,
		FailNextCommit: func(t *testing.T) { failNextCommit(t, h.others, "inbox") },
		WasApplied:     h.wasApplied,
		Add: func(ctx context.Context, tx inbox.Tx, key string, amount int64) error {
			return postgres.NewTotals().Add(ctx, tx, value.CustomerID(key), value.NewMoney(amount, "USD"))
		},
		Sum: func(t *testing.T, subscriber, key string) inboxtest.Sum {
			t.Helper()
			total := h.total(t, subscriber, value.CustomerID(key), "USD")
			return inboxtest.Sum{Amount: total.Amount, Count: total.Orders}
		},
	}
}

// TestTotals runs the contract of the totals.
func TestTotals(t *testing.T) {
	orderstest.TestTotals(t, func(t *testing.T) orderstest.TotalsStore {
		h := newHarness(t)
		return orderstest.TotalsStore{Inbox: h.store(), Totals: postgres.NewTotals(), Total: h.total}
	})
}

func (h *harness) wasApplied(t *testing.T, subscriber string, ids ...string) []string {
	t.Helper()
	var found []string
	require.NoError(t, h.others.NewRaw(`SELECT event_id FROM inbox
		WHERE subscriber = ? AND event_id = ANY (?::uuid[]) AND applied_at IS NOT NULL`, subscriber, pgdialect.Array(ids)).Scan(t.Context(), &found))
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !slices.Contains(found, id) })
}

func (h *harness) total(t *testing.T, subscriber string, customer value.CustomerID, currency value.Currency) (total orderstest.Total) {
	t.Helper()
	err := h.others.QueryRowContext(t.Context(), `SELECT (amount_minor + amount)::text, orders FROM customer_totals
		WHERE subscriber = ? AND customer_id = ? AND currency = ?`, subscriber, string(customer), string(currency)).
		Scan(&total.Amount, &total.Orders)
	if !errors.Is(err, sql.ErrNoRows) {
		require.NoError(t, err)
	}
	return total
}
