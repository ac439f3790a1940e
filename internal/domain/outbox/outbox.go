// Package outbox has the types that a service needs to use the outbox: the Message that the service appends, the Entry that the log
// keeps of a message, and the Position that sorts entries. A service builds a Message for each event of an aggregate; the relay
// reads Entries.
package outbox

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// Key names the aggregate of an event.
type Key struct{ Type, ID string }

// String returns Type/ID.
func (k Key) String() string { return k.Type + "/" + k.ID }

// Message is an event in the form in which a service appends it to the log, in the transaction that changes the aggregate.
type Message struct {
	ID      string // UUID; the CloudEvents id, by which subscribers recognize a repeated event
	Type    string // CloudEvents type, versioned: acme.voucher.sent.v1
	Subject string // the subject to which the relay publishes the message: vouchers.sent
	Key     Key
	Version int64 // the aggregate's version after the event: 1, 2, 3 … without a gap
	Headers map[string]string
	Payload []byte // JSON, delivered byte for byte
}

// schemaPrefix is the beginning of the name of every schema. Such a name is no address: the contract of the service has the schema, under the
// event's type.
const schemaPrefix = "urn:outboxie:schema:"

// Schema returns the URI that identifies the schema of m's payload, or an empty string if m has no type. Each version of a type has a schema
// of its own. A change that old readers can read, such as a new optional field, does not change the URI. All sealed payloads have one schema.
func (m Message) Schema() string {
	switch {
	case m.Type == "":
		return ""
	case m.SealedWith() != "":
		return sealedSchema
	}
	return schemaPrefix + url.PathEscape(m.Type)
}

// Position sorts the entries of the log. Within an aggregate, positions rise in the order of commits. Transactions that roll back
// leave gaps. The first position is 1; 0 is before everything.
type Position int64

// Entry is a Message that was recorded in the log.
type Entry struct {
	Message
	Position   Position
	RecordedAt time.Time // read from the database's clock inside the transaction
	Parked     bool      // the event is in the parking lot, whatever its state there
	// Invalid is the reason why the row can never be published; empty: reading the row has found no reason. If Invalid is not
	// empty, the fields that cannot be read or are too large are zero.
	Invalid string
}

// Progress names the last entry that a reader of the log has dealt with. The id proves that the log is still the same log.
type Progress struct {
	Position Position
	EventID  string
}

// Progress returns the progress of a reader that has dealt with e.
func (e Entry) Progress() Progress { return Progress{Position: e.Position, EventID: e.ID} }

// ErrInvalidMessage reports that a message cannot be appended. Its detail names the reason.
var ErrInvalidMessage = fault.New(fault.Invalid, "invalid_message", "the message cannot be appended to the outbox")

// The headers of CloudEvents' auth context. They name the principal who caused the event. These and HeaderSealedKey are the only CloudEvents
// attributes that a writer sets; the relay sets all others. The values are percent-encoded where CloudEvents asks for it.
const (
	HeaderActorType = "ce-authtype" // the kind of the principal: app_user, user, service_account …
	HeaderActorID   = "ce-authid"   // unique among the principals of the kind
)

// ReservedHeader reports whether only the relay may set the header. A header that controls the broker, such as Nats-Msg-Id, could
// make the broker drop the event.
func ReservedHeader(name string) bool {
	begins := func(prefix string) bool {
		return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
	}
	switch name {
	case HeaderActorType, HeaderActorID, HeaderSealedKey:
		return false
	}
	return begins("nats-") || begins("ce-") || begins("outbox-") || strings.EqualFold(name, "content-type")
}

// Validate returns an ErrInvalidMessage if no broker could take m. A valid message can still be too large for a particular stream.
// Then the relay parks the event.
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
			return ErrInvalidMessage.With("message %s: header %q is reserved for the relay", m.ID, name)
		}
	}
	return nil
}

// sendable reports whether text can be a header's name or value.
func sendable(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, unicode.IsControl) < 0
}

// IsText reports whether every database and broker can store text unchanged.
func IsText(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }
