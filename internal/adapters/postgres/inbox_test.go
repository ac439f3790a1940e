package postgres_test

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox/inboxtest"
)

func TestInbox(t *testing.T) {
	inboxtest.TestUnitOfWork(t, func(t *testing.T) inboxtest.UnitOfWorkHarness { return desk{newHarness(t)} })
}

// desk is a harness with an inbox.
type desk struct{ *harness }

func (d desk) UnitOfWork() inbox.UnitOfWork { return postgres.NewInbox(d.db) }
func (d desk) FailNextCommit(t *testing.T)  { failNextCommit(t, d.others, "inbox") }

func (d desk) Total(t *testing.T, subscriber string, customer order.CustomerID, currency order.Currency) inboxtest.Total {
	t.Helper()
	var total inboxtest.Total
	err := d.others.QueryRowContext(t.Context(), `SELECT amount_minor, orders FROM customer_totals
		WHERE subscriber = ? AND customer_id = ? AND currency = ?`, subscriber, string(customer), string(currency)).
		Scan(&total.AmountMinor, &total.Orders)
	if !errors.Is(err, sql.ErrNoRows) {
		require.NoError(t, err)
	}
	return total
}
