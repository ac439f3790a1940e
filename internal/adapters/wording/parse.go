package wording

import (
	"strings"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
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
