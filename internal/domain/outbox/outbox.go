// Package outbox holds the words of the engine: messages, their place in the log, and how far a stream has come. It
// knows no aggregate, no database and no broker.
package outbox

import (
	"encoding/json"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// Key names the aggregate that an event belongs to. Order is kept per Key and over all of them.
type Key struct{ Type, ID string }

// String is Type/ID.
func (k Key) String() string { return k.Type + "/" + k.ID }

// Message is an event ready to travel: what a writer appends to the log in the transaction that changes the aggregate.
type Message struct {
	ID      string // UUID; the CloudEvents id, and what subscribers de-duplicate by
	Type    string // CloudEvents type, versioned: outboxie.order.created.v1
	Subject string // where it is published: orders.created
	Key     Key
	Version int64 // the aggregate's version after the event: 1, 2, 3 … without a gap
	Headers map[string]string
	Payload []byte // JSON, delivered byte for byte
}

// Position is an event's place in the log. Positions ascend in commit order within an aggregate; they have gaps where
// transactions rolled back. The first is 1, so 0 is "before everything".
type Position int64

// Entry is a Message that was recorded in the log.
type Entry struct {
	Message
	Position   Position
	RecordedAt time.Time // on the database's clock, while the transaction was running
	Parked     bool      // read from the log: it is in the parking lot, whatever its state there
	// Invalid is why the row can never be published, as the log says when it is read. What cannot be read of such a row, or is
	// too large to be read, is zero.
	Invalid string
}

// Progress names a place in the log that was dealt with. The id makes sure that it still is the same log.
type Progress struct {
	Position Position
	EventID  string
}

// Progress is the progress of a stream whose last message is e.
func (e Entry) Progress() Progress { return Progress{Position: e.Position, EventID: e.ID} }

// ErrInvalidMessage says why a message cannot be appended.
var ErrInvalidMessage = fault.New(fault.Invalid, "invalid_message", "the message cannot be appended to the outbox")

// ReservedHeader reports whether a header belongs to the engine, so that no writer may set it: a stray Nats-Msg-Id,
// for example, would make the broker call the event a duplicate and drop it.
func ReservedHeader(name string) bool {
	begins := func(prefix string) bool {
		return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
	}
	return begins("nats-") || begins("ce-") || begins("outbox-") || strings.EqualFold(name, "content-type")
}

// Validate returns an ErrInvalidMessage that says what is wrong with m. It judges what holds for every broker; whether
// the stream takes the message is known only when it is published.
func (m Message) Validate() error {
	switch {
	case m.ID == "":
		return ErrInvalidMessage.With("message without an id")
	case m.Type == "":
		return ErrInvalidMessage.With("message %s without a type", m.ID)
	case m.Subject == "":
		return ErrInvalidMessage.With("message %s without a subject", m.ID)
	case m.Key.Type == "" || m.Key.ID == "":
		return ErrInvalidMessage.With("message %s without an aggregate", m.ID)
	case m.Version < 1:
		return ErrInvalidMessage.With("message %s has version %d; versions start at 1", m.ID, m.Version)
	case m.oversized() != "":
		return ErrInvalidMessage.With("message %.36s: %s", m.ID, m.oversized())
	case !json.Valid(m.Payload) || !utf8.Valid(m.Payload):
		return ErrInvalidMessage.With("the payload of message %s is not JSON in UTF-8", m.ID)
	}
	for _, text := range []string{m.ID, m.Type, m.Subject, m.Key.Type, m.Key.ID} {
		if !IsText(text) {
			return ErrInvalidMessage.With("message %q: %q is not text", m.ID, text)
		}
	}
	for name, value := range m.Headers {
		if name == "" || strings.ContainsAny(name, ": ") || !sendable(name) || !sendable(value) {
			return ErrInvalidMessage.With("message %s: header %q cannot be sent", m.ID, name)
		}
		if ReservedHeader(name) {
			return ErrInvalidMessage.With("message %s: header %q is reserved for the engine", m.ID, name)
		}
	}
	return nil
}

// sendable reports whether text can stand in a header line.
func sendable(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, unicode.IsControl) < 0
}

// IsText reports whether every database and broker can keep text as it is.
func IsText(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }
