package postgres

import (
	"context"
	"database/sql"
	"sync"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// totals collects the customer totals of one subscriber in one transaction, and writes them with one statement. A handler may have kept
// it when the transaction is over, so it is safe for concurrent use.
type totals struct {
	tx         bun.Tx
	subscriber string

	mu         sync.Mutex
	ended      bool
	customers  []string
	currencies []string
	amounts    []int64
}

var _ inbox.Totals = (*totals)(nil)

// Add collects.
func (t *totals) Add(_ context.Context, customer order.CustomerID, amount order.Money) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return sql.ErrTxDone
	}
	t.customers = append(t.customers, string(customer))
	t.currencies = append(t.currencies, string(amount.Currency()))
	t.amounts = append(t.amounts, amount.Minor())
	return nil
}

const (
	addToTotals = `
ON CONFLICT (subscriber, customer_id, currency) DO UPDATE
	SET amount = total.amount + excluded.amount, orders = total.orders + excluded.orders`

	// addStatement adds one order. Postgres plans and runs it faster than addAllStatement.
	addStatement = `
INSERT INTO customer_totals AS total (subscriber, customer_id, currency, amount_minor, amount, orders)
VALUES (?0, ?1, ?2, 0, ?3, 1)` + addToTotals

	// addAllStatement adds many orders. All transactions lock the rows in the order of their keys, so that none waits for another one
	// that waits for it. The sum of bigints is a numeric: it cannot overflow.
	addAllStatement = `
INSERT INTO customer_totals AS total (subscriber, customer_id, currency, amount_minor, amount, orders)
SELECT ?0, customer::uuid, currency, 0, sum(amount), count(*)
FROM unnest(?1::text[], ?2::text[], ?3::bigint[]) AS added (customer, currency, amount)
GROUP BY customer::uuid, currency ORDER BY customer::uuid, currency` + addToTotals
)

var addPrepared = prepare("add", addStatement)

// flush writes what was collected. What was collected is dropped even if that fails: the transaction, or its savepoint, is undone then.
func (t *totals) flush(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	customers, currencies, amounts := t.customers, t.currencies, t.amounts
	t.customers, t.currencies, t.amounts = nil, nil, nil
	switch len(customers) {
	case 0:
		return nil
	case 1:
		args := []any{t.subscriber, customers[0], currencies[0], amounts[0]}
		_, err := t.tx.ExecContext(addPrepared.with(ctx, args), addStatement, args...)
		return err
	}
	_, err := t.tx.ExecContext(ctx, addAllStatement, t.subscriber,
		pgdialect.Array(customers), pgdialect.Array(currencies), pgdialect.Array(amounts))
	return err
}

func (t *totals) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.customers, t.currencies, t.amounts = nil, nil, nil
}
