package outbox

import "fmt"

// The most bytes that a message of the log may have in each part. The schema refuses more.
const (
	MaxAggregateType = 255
	MaxAggregateID   = 1024 // an index entry holds at most 2704 bytes
	MaxType          = 255
	MaxSubject       = 2048     // NATS closes a connection that sends a longer line than 4096 bytes
	MaxHeaders       = 64 << 10 // JetStream keeps their length in 16 bits
	MaxPayload       = 64 << 20 // NATS accepts no larger max_payload
)

// headerCost is what the log needs for each header besides its name and value.
const headerCost = 8

// HeadersSize returns how many bytes headers take in the log.
func HeadersSize(headers map[string]string) int {
	size := 0
	for name, value := range headers {
		size += len(name) + len(value) + headerCost
	}
	return size
}

// oversized returns which part of m is larger than the log takes, or an empty string.
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

// TooLarge returns the reason for which an entry with so large a payload is not published: the broker takes no message
// larger than largest.
func TooLarge(payload string, largest int) string {
	return fmt.Sprintf("its payload takes %s bytes, and the broker takes at most %d", payload, largest)
}
