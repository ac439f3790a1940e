package httpapi

import (
	"strconv"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// ParseMoveTarget reads sequence:N, position:N, time:RFC3339, start or end. The command line uses it too, so that operators name a place in the
// stream in one way.
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
