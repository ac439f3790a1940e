package wording

import (
	"slices"
	"strings"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// ErrAggregate reports that a text names no aggregate.
var ErrAggregate = fault.New(fault.Invalid, "invalid_aggregate", "not an aggregate")

// ParseAggregate reads TYPE/ID, or the id of an order. People name an aggregate in this way over HTTP, on the command line and in the console.
func ParseAggregate(text string) (outbox.Key, error) {
	if kind, id, ok := strings.Cut(text, "/"); ok && kind != "" && id != "" && outbox.IsText(text) {
		return outbox.Key{Type: kind, ID: id}, nil
	}
	id, err := order.ParseID(text)
	if err != nil {
		const reason = "is neither the UUID of an order nor the TYPE/ID of another aggregate"
		return outbox.Key{}, ErrAggregate.With("%q %s", text, reason).On("aggregate", reason)
	}
	return outbox.Key{Type: orders.AggregateType, ID: string(id)}, nil
}

// ErrEventState reports that a text names no state of an event in the log.
var ErrEventState = fault.New(fault.Invalid, "invalid_event_state", "not a state of an event")

// ParseEventState reads one of operations.EventStates.
func ParseEventState(text string) (string, error) {
	if !slices.Contains(operations.EventStates(), text) {
		reason := "must be one of " + strings.Join(operations.EventStates(), ", ")
		return "", ErrEventState.With("%q is no state of an event: it %s", text, reason).On("state", reason)
	}
	return text, nil
}
