// Package fulfilling emits the events that ask the warehouse to pick paid orders, and to put back those that are cancelled later. It is the
// sample of a subscriber that emits events. A program creates one Fulfillment for each such subscriber, and gives its Functions to the
// subscriber's handler.
//
// A function decodes the event, lets the domain decide which fulfillment event follows, and emits it through a port that takes the
// transaction. All events of a fulfillment follow from events of one order, which are handled one after the other. So the versions of a
// fulfillment need no lock.
package fulfilling

import (
	"context"
	"log/slog"

	"github.com/assylzhan-a/outboxie/internal/domain/fulfillment"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Name is the name of the handler.
const Name = "fulfillment"

// Ports are what a Fulfillment drives.
type Ports struct {
	Decoder orders.Decoder
	Encoder orders.FulfillmentEncoder
	Emitter inbox.Emitter
}

// Fulfillment emits the events of fulfillments for one subscriber.
type Fulfillment struct {
	subscriber string
	ports      Ports
	logger     *slog.Logger
}

// New returns the Fulfillment of one subscriber.
func New(subscriber string, ports Ports, logger *slog.Logger) *Fulfillment {
	return &Fulfillment{subscriber: subscriber, ports: ports, logger: logger}
}

// Functions returns the function for each type of event.
func (f *Fulfillment) Functions() map[string]inbox.HandlerFunc {
	return map[string]inbox.HandlerFunc{orders.TypePaid: f.emit, orders.TypeCancelled: f.emit}
}

// emit emits the fulfillment event that follows from an event of an order, if there is one.
func (f *Fulfillment) emit(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	next, ok, err := f.nextEvent(entry)
	if err != nil || !ok {
		return err
	}
	message, err := f.ports.Encoder.EncodeFulfillment(next)
	if err != nil {
		return err
	}
	return f.ports.Emitter.Emit(ctx, tx, entry, message)
}

// nextEvent returns the fulfillment event that follows from an event of an order. If there is none, ok is false.
func (f *Fulfillment) nextEvent(entry outbox.Entry) (next fulfillment.Event, ok bool, err error) {
	event, err := f.ports.Decoder.Decode(entry.Message)
	if err != nil {
		return fulfillment.Event{}, false, err
	}
	fact := order.DataOf(event)
	changed := fulfillment.Order{
		ID: string(fact.Order.ID), Customer: string(fact.Order.CustomerID), Version: fact.Order.Version, At: fact.At,
	}
	switch event.(type) {
	case order.Paid:
		return fulfillment.Paid(changed), true, nil
	case order.Created, order.Shipped: // nothing follows
	case order.Cancelled:
		next, ok = fulfillment.Cancelled(changed)
	}
	return next, ok, nil
}

// Applied logs the event that was emitted.
func (f *Fulfillment) Applied(ctx context.Context, entry outbox.Entry) {
	next, ok, err := f.nextEvent(entry)
	if err != nil || !ok {
		return
	}
	f.logger.InfoContext(ctx, "Emitted a fulfillment event", "subscriber", f.subscriber, "status", string(next.Status),
		"order_id", next.Order, "version", next.Version, "because_of", entry.ID)
}
