package httpapi

import (
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

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
