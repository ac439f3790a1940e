package postgres

import (
	"context"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Totals keeps the customer totals of all subscribers. A transaction writes all amounts that were added in it with one statement.
type Totals struct{}

var _ orders.Totals = (*Totals)(nil)

// NewTotals returns the totals.
func NewTotals() Totals { return Totals{} }

// Add collects the amount. flush writes it.
func (Totals) Add(_ context.Context, tx inbox.Tx, customer value.CustomerID, amount value.Money) error {
	return collect(tx, func(t *totals) {
		t.customers = append(t.customers, string(customer))
		t.currencies = append(t.currencies, string(amount.Currency()))
		t.amounts = append(t.amounts, amount.Minor())
	})
}

// totals are the collected amounts, one for each order. Each field is a column.
type totals struct {
	customers  []string
	currencies []string
	amounts    []int64
}

func (*totals) rank() int { return rankTotals }

const (
	addToTotals = `
ON CONFLICT (subscriber, customer_id, currency) DO UPDATE
	SET amount = total.amount + excluded.amount, orders = total.orders + excluded.orders`

	// addStatement adds one order. Postgres plans and runs it faster than addAllStatement.
	addStatement = `
INSERT INTO customer_totals AS total (subscriber, customer_id, currency, amount_minor, amount, orders)
VALUES (?0, ?1, ?2, 0, ?3, 1)` + addToTotals

	// addAllStatement adds many orders. All transactions lock the rows in the order of their keys, so that two transactions never wait for
	// each other. The sum of bigints is a numeric, so it cannot overflow.
	addAllStatement = `
INSERT INTO customer_totals AS total (subscriber, customer_id, currency, amount_minor, amount, orders)
SELECT ?0, customer::uuid, currency, 0, sum(amount), count(*)
FROM unnest(?1::text[], ?2::text[], ?3::bigint[]) AS added (customer, currency, amount)
GROUP BY customer::uuid, currency ORDER BY customer::uuid, currency` + addToTotals
)

var addPrepared = prepare("add", addStatement)

// flush writes the collected amounts.
func (t *totals) flush(ctx context.Context, tx bun.Tx, subscriber string) error {
	if len(t.customers) == 1 {
		args := []any{subscriber, t.customers[0], t.currencies[0], t.amounts[0]}
		_, err := tx.ExecContext(addPrepared.with(ctx, args), addStatement, args...)
		return err
	}
	_, err := tx.ExecContext(ctx, addAllStatement, subscriber,
		pgdialect.Array(t.customers), pgdialect.Array(t.currencies), pgdialect.Array(t.amounts))
	return err
}
