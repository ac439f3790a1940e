// Package webhook is what the handler webhook needs from the outside: an endpoint that events are handed to. It is outside of every
// transaction; docs/external-effects.md says what follows from that.
package webhook

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

var (
	// ErrDown reports that the endpoint takes nothing at the moment. It says nothing about the event.
	ErrDown = fault.New(fault.Unavailable, "webhook_down", "the webhook cannot be reached")
	// ErrRefused reports that the endpoint will never take the event.
	ErrRefused = fault.New(fault.Refused, "webhook_refused", "the webhook refuses the event")
)

// Endpoint takes events. It is safe for concurrent use.
type Endpoint interface {
	// Deliver hands an event over, and returns nil if the endpoint has taken it. The endpoint can tell a repeated call by the event's
	// id. Deliver fails with ErrDown, with ErrRefused, or with another error if the event may be taken later; in each case the endpoint
	// may have taken it nevertheless. Deliver ends with ctx.
	Deliver(ctx context.Context, entry outbox.Entry) error
}
