package outboxie

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Aggregate names whose event an event is: the unit that the service changes in one transaction, such as invoice 7.
type Aggregate struct{ Type, ID string }

// Event is a fact about an aggregate.
type Event struct {
	ID        string // UUID by which subscribers recognize a repeated event; empty: Append sets one (version 7)
	Type      string // CloudEvents type with its version: acme.invoice.issued.v1
	Subject   string // to which the relay publishes the event; one of the stream's: invoices.issued
	Aggregate Aggregate
	Version   int64             // of the aggregate after the event: 1, 2, 3 … without a gap
	Headers   map[string]string // further headers; only ce-authtype, ce-authid and ce-sealedkey may begin with ce-, none with Nats- or Outbox-, and content-type is refused
	Payload   []byte            // JSON, delivered byte for byte
}

// NewEvent returns an event whose payload is data as JSON.
func NewEvent(eventType, subject string, aggregate Aggregate, version int64, data any) (Event, error) {
	payload, err := json.Marshal(data)
	if err != nil {
		return Event{}, fmt.Errorf("encode %s: %w", eventType, err)
	}
	return Event{Type: eventType, Subject: subject, Aggregate: aggregate, Version: version, Payload: payload}, nil
}

// Received is an event as a subscriber gets it.
type Received struct {
	Event
	Position   int64     // of the event in the outbox
	RecordedAt time.Time // by the database's clock, in the transaction that appended the event
}

// messages returns the messages for events. An event without an id gets one.
func messages(events []Event) ([]outbox.Message, error) {
	converted := make([]outbox.Message, len(events))
	for i, e := range events {
		converted[i] = message(e)
		if e.ID != "" {
			continue
		}
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("make an event's id: %w", err)
		}
		converted[i].ID = id.String()
	}
	return converted, nil
}

func message(e Event) outbox.Message {
	return outbox.Message{
		ID: e.ID, Type: e.Type, Subject: e.Subject, Key: outbox.Key(e.Aggregate), Version: e.Version, Headers: e.Headers, Payload: e.Payload,
	}
}

func received(entry outbox.Entry) Received {
	return Received{
		Event: Event{
			ID: entry.ID, Type: entry.Type, Subject: entry.Subject, Aggregate: Aggregate(entry.Key), Version: entry.Version,
			Headers: entry.Headers, Payload: entry.Payload,
		},
		Position: int64(entry.Position), RecordedAt: entry.RecordedAt,
	}
}
