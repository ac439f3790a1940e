package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox/inboxtest"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

func TestInbox(t *testing.T) {
	inboxtest.TestUnitOfWork(t, func(t *testing.T) inboxtest.UnitOfWorkHarness { return desk{newHarness(t)} })
}

func TestDeadLetters(t *testing.T) {
	inboxtest.TestDeadLetters(t, func(t *testing.T) inboxtest.LettersHarness { return desk{newHarness(t)} })
}

// desk is a harness with an inbox.
type desk struct{ *harness }

func (d desk) UnitOfWork() inbox.UnitOfWork   { return postgres.NewInbox(d.db) }
func (d desk) DeadLetters() inboxtest.Letters { return postgres.NewInbox(d.db) }
func (d desk) FailNextCommit(t *testing.T)    { failNextCommit(t, d.others, "inbox") }

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

// TestFrozenCopyIsNotWaitedForForEver : a copy that freezes after it has taken an event keeps the others from it only until
// Postgres ends its transaction.
func TestFrozenCopyIsNotWaitedForForEver(t *testing.T) {
	h := desk{newHarness(t)}
	frozen := postgres.NewInbox(h.db)
	frozen.AbandonedAfter(200 * time.Millisecond)
	entry := outboxtest.NewEntries(0, 1)[0]
	nothing := func(context.Context, inbox.Tx) error { return nil }
	waited := make(chan error, 1)
	applied, err := frozen.Once(t.Context(), "billing", entry, func(ctx context.Context, _ inbox.Tx) error {
		go func() {
			applied, err := h.UnitOfWork().Once(context.WithoutCancel(ctx), "billing", entry, nothing)
			if !applied && err == nil {
				err = errors.New("it was not applied")
			}
			waited <- err
		}()
		require.NoError(t, <-waited)
		return nil
	})
	require.False(t, applied)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
}
