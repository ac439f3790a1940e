// Package webhook holds the port through which a subscriber delivers events to another system. Package notifying drives the port. A call is
// outside of every transaction; docs/external-effects.md describes the consequences.
package webhook

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

var (
	// ErrDown reports that the endpoint accepts nothing at the moment, whatever the event.
	ErrDown = fault.New(fault.Unavailable, "webhook_down", "the webhook cannot be reached")
	// ErrRefused reports that the endpoint will never accept the event.
	ErrRefused = fault.New(fault.Refused, "webhook_refused", "the webhook refuses the event")
)

// Endpoint accepts events. It is safe for concurrent use.
type Endpoint interface {
	// Deliver sends an event, and returns nil if the endpoint has accepted it. The endpoint recognizes a repeated call by the event's id.
	// Deliver fails with ErrDown, with ErrRefused, or with another error if a later attempt may succeed. After any failure the endpoint may
	// have accepted the event nevertheless. Deliver returns when ctx ends.
	Deliver(ctx context.Context, entry outbox.Entry) error
}
