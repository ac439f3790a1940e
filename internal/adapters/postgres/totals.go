package postgres

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

type totalRow struct {
	bun.BaseModel `bun:"table:customer_totals"`

	Subscriber  string `bun:"subscriber"`
	CustomerID  string `bun:"customer_id"`
	Currency    string `bun:"currency"`
	AmountMinor int64  `bun:"amount_minor"`
	Orders      int64  `bun:"orders"`
}

// totals is the customer totals of one subscriber in one transaction.
type totals struct {
	tx         bun.Tx
	subscriber string
}

var _ inbox.Totals = (*totals)(nil)

// Add implements the port.
func (t *totals) Add(ctx context.Context, customer order.CustomerID, amount order.Money) error {
	_, err := t.tx.NewInsert().Model(&totalRow{
		Subscriber:  t.subscriber,
		CustomerID:  string(customer),
		Currency:    string(amount.Currency()),
		AmountMinor: amount.Minor(),
		Orders:      1,
	}).On("CONFLICT (subscriber, customer_id, currency) DO UPDATE").
		Set("amount_minor = total_row.amount_minor + EXCLUDED.amount_minor").
		Set("orders = total_row.orders + EXCLUDED.orders").
		Exec(ctx)
	return classify(ctx, err)
}
