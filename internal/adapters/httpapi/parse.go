package httpapi

import (
	"strconv"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Operators name an aggregate, or a place in the stream, in the same way over HTTP and on the command line. The command line uses the
// parsers of this file.

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

// ParseMoveTarget reads sequence:N, position:N, time:RFC3339, start or end.
func ParseMoveTarget(text string) (operations.MoveTarget, error) {
	kind, value, _ := strings.Cut(text, ":")
	number, invalid := strconv.ParseUint(value, 10, 63)
	switch {
	case text == "start":
		return operations.MoveTarget{}, nil
	case text == "end":
		return operations.MoveTarget{End: true}, nil
	case kind == "sequence" && invalid == nil:
		return operations.MoveTarget{Sequence: number}, nil
	case kind == "position" && invalid == nil:
		return operations.MoveTarget{Position: outbox.Position(number)}, nil //nolint:gosec // 63 bits
	case kind == "time":
		if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
			return operations.MoveTarget{Before: at}, nil
		}
	}
	const reason = "must be sequence:N, position:N, time:2026-11-29T10:00:00Z, start or end"
	return operations.MoveTarget{}, operations.ErrMoveTarget.With("%q is no place in the stream: it %s", text, reason).On("to", reason)
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
