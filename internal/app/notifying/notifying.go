// Package notifying delivers every event to a webhook. It is the sample of a subscriber with effects outside of the database. A program
// creates one Webhook for each such subscriber, and gives its Functions to an external handler.
package notifying

import (
	"context"
	"errors"
	"log/slog"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/webhook"
)

// Name is the name of the handler.
const Name = "webhook"

// Webhook delivers the events of one subscriber.
type Webhook struct {
	subscriber string
	types      []string
	endpoint   webhook.Endpoint
	logger     *slog.Logger
}

// New returns the Webhook of one subscriber, for events of these types.
func New(subscriber string, types []string, endpoint webhook.Endpoint, logger *slog.Logger) *Webhook {
	return &Webhook{subscriber: subscriber, types: types, endpoint: endpoint, logger: logger}
}

// Functions returns the function for each type of event. All types have the same function.
func (w *Webhook) Functions() map[string]inbox.HandlerFunc {
	functions := make(map[string]inbox.HandlerFunc, len(w.types))
	for _, eventType := range w.types {
		functions[eventType] = w.deliver
	}
	return functions
}

// deliver delivers an event. A refusal by the endpoint is permanent.
func (w *Webhook) deliver(ctx context.Context, _ inbox.Tx, entry outbox.Entry) error {
	err := w.endpoint.Deliver(ctx, entry)
	if errors.Is(err, webhook.ErrRefused) {
		return inbox.ErrPermanent.Wrap(err)
	}
	return err
}

// Applied logs the event.
func (w *Webhook) Applied(ctx context.Context, entry outbox.Entry) {
	w.logger.InfoContext(ctx, "Delivered an event to the webhook", "subscriber", w.subscriber, "type", entry.Type,
		"aggregate", entry.Key.String(), "version", entry.Version, "position", int64(entry.Position), "event_id", entry.ID)
}
