// Package webhook hands every event to an endpoint outside: it is the handler of a subscriber with external effects. A program makes a
// Webhook for each such subscriber, and gives its Functions to the subscriber's handler, which is an external one.
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

// Webhook hands events over for one subscriber.
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

// Functions returns what is done for each type of event: the same.
func (w *Webhook) Functions() map[string]inbox.Function {
	functions := make(map[string]inbox.Function, len(w.types))
	for _, eventType := range w.types {
		functions[eventType] = w.deliver
	}
	return functions
}

// deliver hands an event over. What the endpoint refuses can never be handled.
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
