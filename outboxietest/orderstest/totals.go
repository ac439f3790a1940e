package orderstest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
)

// Total is what a customer ordered in one currency, as one subscriber counted it.
type Total struct {
	Amount string // in minor units, decimal; empty when there is nothing
	Orders int64
}

// TotalsStore has the totals under test, and the inbox in whose transactions they are counted.
type TotalsStore struct {
	Inbox  inboxtest.Store
	Totals orders.Totals
	// Total returns the committed total.
	Total func(t *testing.T, subscriber string, customer value.CustomerID, currency value.Currency) Total
}

const counting = "counting's ?0" // a subscriber

// TestTotals checks what orders.Totals promises. open returns an empty store. That totals are written with the record of their event, once, is
// checked by inboxtest: an adapter gives its totals to inboxtest as the effect of the handlers.
func TestTotals(t *testing.T, open func(t *testing.T) TotalsStore) {
	check := contracttest.Runner(t, open)
	check("totals are counted by customer and currency", countTotals)
	check("totals do not overflow", countLargeTotals)
}

func countTotals(t *testing.T, s TotalsStore) {
	one, other := value.CustomerID(newUUID()), value.CustomerID(newUUID())
	inboxtest.HandleEach(t, s.Inbox, counting, func(ctx context.Context, tx inbox.Tx) error {
		return errors.Join(s.Totals.Add(ctx, tx, one, value.NewMoney(10050, "USD")), s.Totals.Add(ctx, tx, one, value.NewMoney(10050, "USD")),
			s.Totals.Add(ctx, tx, other, value.NewMoney(7, "USD")), s.Totals.Add(ctx, tx, one, value.NewMoney(8, "JPY")))
	}, 1, 4)
	require.Equal(t, Total{"100500", 10}, s.Total(t, counting, one, "USD"))
	require.Equal(t, Total{"35", 5}, s.Total(t, counting, other, "USD"))
	require.Equal(t, Total{"40", 5}, s.Total(t, counting, one, "JPY"))
	require.Zero(t, s.Total(t, counting, other, "JPY"))
	require.Zero(t, s.Total(t, "another", other, "USD"))
}

func countLargeTotals(t *testing.T, s TotalsStore) {
	customer := value.CustomerID(newUUID())
	inboxtest.HandleEach(t, s.Inbox, counting, func(ctx context.Context, tx inbox.Tx) error {
		return s.Totals.Add(ctx, tx, customer, value.NewMoney(1<<63-1, "USD"))
	}, 1, 1, 3)
	require.Equal(t, Total{"46116860184273879035", 5}, s.Total(t, counting, customer, "USD"))
}
