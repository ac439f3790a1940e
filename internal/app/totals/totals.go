// Package totals counts what each customer ordered, per currency. It is the sample effect of a subscriber. A program creates one Totals for each
// such subscriber, and gives its Functions to the subscriber's handler.
package totals

import (
	"context"
	"log/slog"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Name is the name of the handler.
const Name = "totals"

// Totals counts the orders of one subscriber.
type Totals struct {
	subscriber string
	decoder    orders.Decoder
	totals     orders.Totals
	logger     *slog.Logger
}

// New returns the Totals of one subscriber.
func New(subscriber string, decoder orders.Decoder, totals orders.Totals, logger *slog.Logger) *Totals {
	return &Totals{subscriber: subscriber, decoder: decoder, totals: totals, logger: logger}
}

// Functions returns the function for each type of event. Events that change no total have a function too, so that each event is logged.
func (t *Totals) Functions() map[string]inbox.HandlerFunc {
	return map[string]inbox.HandlerFunc{
		orders.TypeCreated:   t.created,
		orders.TypePaid:      t.changed,
		orders.TypeShipped:   t.changed,
		orders.TypeCancelled: t.changed,
	}
}

// created adds an order to its customer's total.
func (t *Totals) created(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	event, err := t.decoder.Decode(entry.Message)
	if err != nil {
		return err
	}
	placed := order.DataOf(event).Order
	return t.totals.Add(ctx, tx, placed.CustomerID, placed.Amount)
}

// changed decodes the event and does nothing else. An event that cannot be read fails.
func (t *Totals) changed(_ context.Context, _ inbox.Tx, entry outbox.Entry) error {
	_, err := t.decoder.Decode(entry.Message)
	return err
}

// Applied logs the event.
func (t *Totals) Applied(ctx context.Context, entry outbox.Entry) {
	event, err := t.decoder.Decode(entry.Message)
	if err != nil {
		return // cannot happen: the event was decoded before
	}
	placed := order.DataOf(event).Order
	t.logger.InfoContext(ctx, received(event),
		"subscriber", t.subscriber, "order_id", string(placed.ID), "customer_id", string(placed.CustomerID),
		"amount", placed.Amount.Decimal(), "currency", placed.Amount.Currency().String(),
		"position", int64(entry.Position), "event_id", entry.ID)
}

// received returns the text of the log line that scripts wait for.
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
