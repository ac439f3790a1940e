package memory

import (
	"cmp"
	"context"
	"maps"
	"math/big"
	"slices"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Total is what a customer ordered in one currency.
type Total struct {
	AmountMinor *big.Int
	Orders      int64
}

func (t Total) plus(more Total) Total {
	sum := new(big.Int)
	for _, amount := range []*big.Int{t.AmountMinor, more.AmountMinor} {
		if amount != nil {
			sum.Add(sum, amount)
		}
	}
	return Total{AmountMinor: sum, Orders: t.Orders + more.Orders}
}

type totalKey struct {
	subscriber string
	customer   value.CustomerID
	currency   value.Currency
}

func (k totalKey) compare(other totalKey) int {
	return cmp.Or(cmp.Compare(k.customer, other.customer), cmp.Compare(k.currency, other.currency))
}

// Total returns what subscriber has counted.
func (i *Inbox) Total(subscriber string, customer value.CustomerID, currency value.Currency) Total {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.totals[totalKey{subscriber, customer, currency}].plus(Total{})
}

// Totals keeps the customer totals of all subscribers of an Inbox.
type Totals struct{}

var _ orders.Totals = (*Totals)(nil)

// NewTotals returns the totals.
func NewTotals() Totals { return Totals{} }

// Add collects an order. It sends nothing to the database.
func (Totals) Add(_ context.Context, tx inbox.Tx, customer value.CustomerID, amount value.Money) error {
	return collect(tx, func(t *totals) {
		key := totalKey{tx.Subscriber(), customer, amount.Currency()}
		if t.added == nil {
			t.added = make(map[totalKey]Total)
		}
		t.added[key] = t.added[key].plus(Total{AmountMinor: big.NewInt(amount.Minor()), Orders: 1})
	})
}

// totals collects the orders that handlers add in a transaction.
type totals struct{ added map[totalKey]Total }

// flush locks the rows in the order of their keys. Like the column in Postgres, it takes only customers whose id is a UUID.
func (t *totals) flush(ctx context.Context, s *session, _ string) error {
	for _, key := range slices.SortedFunc(maps.Keys(t.added), totalKey.compare) {
		if uuid.Validate(string(key.customer)) != nil {
			return inbox.ErrPermanent.With("customer %q is not a UUID", key.customer)
		}
		if err := s.lock(ctx, key); err != nil {
			return err
		}
	}
	return s.do(ctx, "flush", func() error {
		s.change(func() {
			for key, more := range t.added {
				s.inbox.totals[key] = s.inbox.totals[key].plus(more)
			}
		})
		return nil
	})
}
