package postgres_test

import (
	"database/sql"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
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
		Totals:     postgres.NewTotals(),
		Connection: h, Checkpoints: in, UnitOfWork: in, Letters: in,
		FailNextCommit: func(t *testing.T) { failNextCommit(t, h.others, "inbox") },
		WasApplied:     h.wasApplied,
		Total:          h.total,
	}
}

func (h *harness) wasApplied(t *testing.T, subscriber string, ids ...string) []string {
	t.Helper()
	var found []string
	require.NoError(t, h.others.NewRaw(`SELECT event_id FROM inbox
		WHERE subscriber = ? AND event_id = ANY (?::uuid[]) AND applied_at IS NOT NULL`, subscriber, pgdialect.Array(ids)).Scan(t.Context(), &found))
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !slices.Contains(found, id) })
}

func (h *harness) total(t *testing.T, subscriber string, customer value.CustomerID, currency value.Currency) (total inboxtest.Total) {
	t.Helper()
	err := h.others.QueryRowContext(t.Context(), `SELECT (amount_minor + amount)::text, orders FROM customer_totals
		WHERE subscriber = ? AND customer_id = ? AND currency = ?`, subscriber, string(customer), string(currency)).
		Scan(&total.Amount, &total.Orders)
	if !errors.Is(err, sql.ErrNoRows) {
		require.NoError(t, err)
	}
	return total
}
