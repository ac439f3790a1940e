package memory

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Total is what a customer ordered in one currency.
type Total struct{ AmountMinor, Orders int64 }

func (t Total) plus(more Total) Total {
	return Total{AmountMinor: t.AmountMinor + more.AmountMinor, Orders: t.Orders + more.Orders}
}

type totalKey struct {
	subscriber string
	customer   order.CustomerID
	currency   order.Currency
}

// Total returns what subscriber has counted.
func (i *Inbox) Total(subscriber string, customer order.CustomerID, currency order.Currency) Total {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.totals[totalKey{subscriber, customer, currency}]
}

// totals is the customer totals of one subscriber in one transaction.
type totals struct {
	*transaction
	subscriber string
	added      map[totalKey]Total
}

var _ inbox.Totals = (*totals)(nil)

// Add implements the port.
func (t *totals) Add(ctx context.Context, customer order.CustomerID, amount order.Money) error {
	if err := t.usable(ctx); err != nil {
		return err
	}
	key := totalKey{t.subscriber, customer, amount.Currency()}
	t.added[key] = t.added[key].plus(Total{AmountMinor: amount.Minor(), Orders: 1})
	return nil
}
