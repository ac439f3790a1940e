package outbox

import "fmt"

// The largest size in bytes of each part of a message. The log refuses more.
const (
	MaxAggregateType = 255
	MaxAggregateID   = 1024 // an index entry holds at most 2704 bytes
	MaxType          = 255
	MaxSubject       = 2048     // a broker may close a connection that sends a line of more than 4096 bytes
	MaxHeaders       = 64 << 10 // a stream may store the length of the headers in 16 bits
	MaxPayload       = 64 << 20 // the largest message size to which a broker can be set
)

// headerCost is how many bytes the log needs for each header besides its name and value.
const headerCost = 8

// HeadersSize returns how many bytes headers take in the log.
func HeadersSize(headers map[string]string) int {
	size := 0
	for name, value := range headers {
		size += len(name) + len(value) + headerCost
	}
	return size
}

// oversized names the part of m that is too large for the log, or returns an empty string.
func (m Message) oversized() string {
	for _, part := range []struct {
		name       string
		size, most int
	}{
		{"aggregate type", len(m.Key.Type), MaxAggregateType},
		{"aggregate id", len(m.Key.ID), MaxAggregateID},
		{"event type", len(m.Type), MaxType},
		{"subject", len(m.Subject), MaxSubject},
		{"headers", HeadersSize(m.Headers), MaxHeaders - headerCost},
		{"payload", len(m.Payload), MaxPayload},
	} {
		if part.size > part.most {
			return fmt.Sprintf("its %s: %d bytes, and the outbox takes at most %d", part.name, part.size, part.most)
		}
	}
	return ""
}

// TooLargeReason returns the reason why the relay does not publish an entry: its payload takes payload bytes, and the broker takes at most
// largest.
func TooLargeReason(payload string, largest int) string {
	return fmt.Sprintf("its payload takes %s bytes, and the broker takes at most %d", payload, largest)
}
