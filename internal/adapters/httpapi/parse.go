package httpapi

import (
	"strings"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Operators name an aggregate in the same way over HTTP and on the command line. The command line uses ParseAggregate too. Package wording has
// the parser of places in the stream.

// ErrAggregate reports that a text names no aggregate.
var ErrAggregate = fault.New(fault.Invalid, "invalid_aggregate", "not an aggregate")

// ParseAggregate reads TYPE/ID, or the id of an order.
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

// keyHeader is the header in which a client gives its idempotency key.
const keyHeader = "Idempotency-Key"

// errKey reports that a text is not an idempotency key.
var errKey = fault.New(fault.Invalid, "invalid_idempotency_key", "not an idempotency key")

// maxKeyLength is the length of the longest key in bytes. Every character of a key is one byte.
const maxKeyLength = 255

// parseKey accepts 1 to 255 visible ASCII characters.
func parseKey(text string) (orders.Key, error) {
	valid := text != "" && len(text) <= maxKeyLength
	for i := 0; valid && i < len(text); i++ {
		valid = text[i] > ' ' && text[i] <= '~'
	}
	if !valid {
		const reason = "must be 1 to 255 visible ASCII characters, such as a UUID"
		return "", errKey.With("%s %s", keyHeader, reason).On(keyHeader, reason)
	}
	return orders.Key(text), nil
}
