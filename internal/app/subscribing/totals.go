package subscribing

import (
	"context"
	"log/slog"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Totals is the sample handler: it keeps what each customer ordered, per currency, as one subscriber has seen it.
type Totals struct {
	subscriber string
	decoder    inbox.Decoder
	logger     *slog.Logger
}

var _ inbox.Handler = (*Totals)(nil)

// NewTotals returns the handler of one subscriber.
func NewTotals(subscriber string, decoder inbox.Decoder, logger *slog.Logger) *Totals {
	return &Totals{subscriber: subscriber, decoder: decoder, logger: logger}
}

// Handle adds a created order to its customer's total. Other events change no total.
func (t *Totals) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	event, err := t.decoder.Decode(entry.Message)
	if err != nil {
		return err
	}
	if _, created := event.(order.Created); !created {
		return nil
	}
	placed := order.FactOf(event).Order
	return tx.Totals.Add(ctx, placed.CustomerID, placed.Amount)
}

// Applied logs the event.
func (t *Totals) Applied(ctx context.Context, entry outbox.Entry) {
	event, err := t.decoder.Decode(entry.Message)
	if err != nil {
		return // it was decoded before
	}
	placed := order.FactOf(event).Order
	t.logger.InfoContext(ctx, received(event),
		"subscriber", t.subscriber, "order_id", string(placed.ID), "customer_id", string(placed.CustomerID),
		"amount", placed.Amount.Decimal(), "currency", placed.Amount.Currency().String(),
		"position", int64(entry.Position), "event_id", entry.ID)
}

// received is the log line that scripts wait for.
func received(event order.Event) string {
	switch event.(type) {
	case order.Created:
		return "Received order created event"
	case order.Paid:
		return "Received order paid event"
	case order.Shipped:
		return "Received order shipped event"
	case order.Cancelled:
		return "Received order cancelled event"
	}
	return "Received an event"
}
