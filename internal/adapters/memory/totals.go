package memory

import (
	"cmp"
	"context"
	"maps"
	"math/big"
	"slices"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
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
	customer   order.CustomerID
	currency   order.Currency
}

func (k totalKey) compare(other totalKey) int {
	return cmp.Or(cmp.Compare(k.customer, other.customer), cmp.Compare(k.currency, other.currency))
}

// Total returns what subscriber has counted.
func (i *Inbox) Total(subscriber string, customer order.CustomerID, currency order.Currency) Total {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.totals[totalKey{subscriber, customer, currency}].plus(Total{})
}

// totals collects the customer totals of one subscriber in one transaction.
type totals struct {
	session    *session
	subscriber string
	added      map[totalKey]Total // since the last flush
	ended      bool
}

var _ inbox.Totals = (*totals)(nil)

// Add collects. It sends nothing to the database.
func (t *totals) Add(_ context.Context, customer order.CustomerID, amount order.Money) error {
	t.session.inbox.mu.Lock()
	defer t.session.inbox.mu.Unlock()
	if t.ended {
		return errDead
	}
	key := totalKey{t.subscriber, customer, amount.Currency()}
	t.added[key] = t.added[key].plus(Total{AmountMinor: big.NewInt(amount.Minor()), Orders: 1})
	return nil
}

// flush writes what was collected, and locks the rows in the order of their keys. Like the column in Postgres, it takes only
// customers whose id is a UUID.
func (t *totals) flush(ctx context.Context) error {
	added := t.drop()
	for _, key := range slices.SortedFunc(maps.Keys(added), totalKey.compare) {
		if uuid.Validate(string(key.customer)) != nil {
			return inbox.ErrPermanent.With("customer %q is not a UUID", key.customer)
		}
		if err := t.session.lock(ctx, key); err != nil {
			return err
		}
	}
	if len(added) == 0 {
		return nil
	}
	return t.session.do(ctx, "flush", func() error {
		t.session.change(func() {
			for key, more := range added {
				t.session.inbox.totals[key] = t.session.inbox.totals[key].plus(more)
			}
		})
		return nil
	})
}

// drop forgets what was collected, and returns it.
func (t *totals) drop() map[totalKey]Total {
	t.session.inbox.mu.Lock()
	defer t.session.inbox.mu.Unlock()
	added := t.added
	t.added = make(map[totalKey]Total)
	return added
}

// end makes the transaction's Tx dead.
func (t *totals) end() {
	t.session.inbox.mu.Lock()
	defer t.session.inbox.mu.Unlock()
	t.ended = true
}
