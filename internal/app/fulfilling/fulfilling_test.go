package fulfilling_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/fulfilling"
	"github.com/assylzhan-a/outboxie/internal/domain/fulfillment"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

const (
	orderID  = order.ID("018f0000-0000-7000-8000-000000000001")
	customer = value.CustomerID("018f5e4c-0000-7000-8000-000000000001")
)

// ports implements the ports of a Fulfillment, and records the emitted events.
type ports struct {
	event   order.Event
	decoded error
	encoded error
	failed  error
	causes  []string
	emitted []fulfillment.Event
	last    fulfillment.Event
	tx      inbox.Tx
}

func (p *ports) Decode(outbox.Message) (order.Event, error) { return p.event, p.decoded }

func (p *ports) EncodeFulfillment(event fulfillment.Event) (outbox.Message, error) {
	p.last = event
	return outbox.Message{}, p.encoded
}

func (p *ports) Emit(_ context.Context, tx inbox.Tx, cause outbox.Entry, messages ...outbox.Message) error {
	if len(messages) == 1 && p.failed == nil {
		p.tx, p.causes, p.emitted = tx, append(p.causes, cause.ID), append(p.emitted, p.last)
	}
	return p.failed
}

type transaction struct{}

func (transaction) Subscriber() string { return "warehouse" }

func newFulfillment(p *ports) (*fulfilling.Fulfillment, *bytes.Buffer) {
	log := &bytes.Buffer{}
	return fulfilling.New("warehouse", fulfilling.Ports{Decoder: p, Encoder: p, Emitter: p}, slog.New(slog.NewTextHandler(log, nil))), log
}

// TestWhatFollows checks which fulfillment event follows from each event of an order. It also checks the transaction and the cause of the
// emitted event, and the log line.
func TestWhatFollows(t *testing.T) {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	fact := func(version int64) order.EventData {
		return order.EventData{Order: order.Snapshot{ID: orderID, CustomerID: customer, Version: version}, At: at}
	}
	following := func(status fulfillment.Status, version int64) []fulfillment.Event {
		return []fulfillment.Event{{Status: status, Order: string(orderID), Customer: string(customer), Version: version, At: at}}
	}
	for name, c := range map[string]struct {
		event order.Event
		of    string
		want  []fulfillment.Event
	}{
		"paid":                          {order.Paid{EventData: fact(2)}, orders.TypePaid, following(fulfillment.Requested, 1)},
		"cancelled when paid":           {order.Cancelled{EventData: fact(3)}, orders.TypeCancelled, following(fulfillment.Withdrawn, 2)},
		"cancelled before":              {order.Cancelled{EventData: fact(2)}, orders.TypeCancelled, nil},
		"a type with a body of another": {order.Shipped{EventData: fact(3)}, orders.TypePaid, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := &ports{event: c.event}
			f, log := newFulfillment(p)
			entry := outbox.Entry{Message: outbox.Message{ID: "cause", Type: c.of}}
			require.NoError(t, f.Functions()[c.of](t.Context(), transaction{}, entry))
			require.Equal(t, c.want, p.emitted)
			f.Applied(t.Context(), entry)
			if c.want == nil {
				require.Empty(t, log.String())
				return
			}
			require.Equal(t, []string{"cause"}, p.causes)
			require.Equal(t, transaction{}, p.tx)
			require.Contains(t, log.String(), "Emitted a fulfillment event")
			require.Contains(t, log.String(), "because_of=cause")
		})
	}
}

// TestFailures checks that the handler returns the error of each port, and that nothing is logged as emitted if the event cannot be read.
func TestFailures(t *testing.T) {
	errMine := errors.New("mine")
	paid := order.Paid{EventData: order.EventData{Order: order.Snapshot{Version: 2}}}
	for name, p := range map[string]*ports{
		"read": {decoded: errMine}, "encode": {event: paid, encoded: errMine}, "emit": {event: paid, failed: errMine},
	} {
		f, log := newFulfillment(p)
		require.ErrorIs(t, f.Functions()[orders.TypePaid](t.Context(), transaction{}, outbox.Entry{}), errMine, name)
		require.Empty(t, p.emitted)
		if name == "read" {
			f.Applied(t.Context(), outbox.Entry{})
			require.Empty(t, log.String())
		}
	}
}
