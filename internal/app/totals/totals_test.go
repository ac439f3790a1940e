package totals_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/totals"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

const (
	subscriber = "billing"
	customer   = value.CustomerID("018f5e4c-0000-7000-8000-000000000001")
	orderID    = order.ID("018f0000-0000-7000-8000-000000000001")
)

// decoderOf reads messages by their ids. A message with an unknown id is unreadable.
type decoderOf map[string]order.Event

func (d decoderOf) Decode(message outbox.Message) (order.Event, error) {
	if event, known := d[message.ID]; known {
		return event, nil
	}
	return nil, inbox.ErrUnreadable
}

// entriesOf returns an entry for each event, and a decoder for these entries.
func entriesOf(events ...order.Event) ([]outbox.Entry, decoderOf) {
	entries, decoder := relaytest.NewEntries(0, len(events)), make(decoderOf)
	for i, event := range events {
		decoder[entries[i].ID] = event
	}
	return entries, decoder
}

func placed(t *testing.T, amount string, currency value.Currency) order.EventData {
	t.Helper()
	money, err := value.ParseMoney(amount, currency)
	require.NoError(t, err)
	placed, err := order.Place(orderID, customer, money, time.Now())
	require.NoError(t, err)
	return order.EventData{Order: placed.Snapshot(), At: time.Now()}
}

// added records the amounts that a handler adds, or fails with err.
type added struct {
	tx      inbox.Tx // transaction in which Add must be called
	amounts []string
	err     error
}

func (a *added) Add(_ context.Context, tx inbox.Tx, _ value.CustomerID, amount value.Money) error {
	if tx != a.tx {
		return errors.New("another transaction")
	}
	a.amounts = append(a.amounts, amount.Decimal()+" "+amount.Currency().String())
	return a.err
}

type transaction struct{}

func (*transaction) Subscriber() string { return subscriber }

// TestTotalsCountCreatedOrders checks that only created orders are added, and that each applied event is logged with the text that scripts
// look for.
func TestTotalsCountCreatedOrders(t *testing.T) {
	fact := placed(t, "100.50", "USD")
	events := []order.Event{
		order.Created{EventData: fact},
		order.Paid{EventData: fact},
		order.Shipped{EventData: fact},
		order.Cancelled{EventData: fact},
		order.Created{EventData: placed(t, "700", "JPY")},
	}
	entries, decoder := entriesOf(events...)
	var log bytes.Buffer
	sum := &added{tx: &transaction{}}
	counted := totals.New(subscriber, decoder, sum, slog.New(slog.NewTextHandler(&log, nil)))
	for i, kind := range []string{orders.TypeCreated, orders.TypePaid, orders.TypeShipped, orders.TypeCancelled, orders.TypeCreated} {
		verb := strings.Split(kind, ".")[2]
		require.NoError(t, counted.Functions()[kind](t.Context(), sum.tx, entries[i]))
		require.Empty(t, log.String(), "nothing is logged before the commit")
		counted.Applied(t.Context(), entries[i])
		require.Contains(t, log.String(), `level=INFO msg="Received order `+verb+` event" subscriber=billing order_id=`+string(orderID))
		log.Reset()
	}
	require.Equal(t, []string{"100.50 USD", "700 JPY"}, sum.amounts)
}

// TestTotalsPassFailuresOn checks that the handler fails if a message cannot be read, or if a total cannot be written.
func TestTotalsPassFailuresOn(t *testing.T) {
	entries, decoder := entriesOf(order.Created{EventData: placed(t, "1", "USD")})
	full := &added{err: errors.New("full")}
	counted := totals.New(subscriber, decoder, full, slog.New(slog.DiscardHandler))
	for _, function := range counted.Functions() {
		require.ErrorIs(t, function(t.Context(), nil, relaytest.NewEntries(7, 1)[0]), inbox.ErrUnreadable)
	}
	require.Empty(t, full.amounts)
	require.ErrorIs(t, counted.Functions()[orders.TypeCreated](t.Context(), nil, entries[0]), full.err)
}
