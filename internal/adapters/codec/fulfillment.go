package codec

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fulfillment"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// The subjects of fulfillments.
const (
	SubjectFulfillmentRequested = "orders.fulfillment.requested"
	SubjectFulfillmentWithdrawn = "orders.fulfillment.withdrawn"
)

var _ orders.FulfillmentEncoder = (*Codec)(nil)

// fulfillmentBody is the JSON of the events of fulfillments, version 1. Each event has one of the two times.
type fulfillmentBody struct {
	OrderID     string    `json:"order_id"`
	CustomerID  string    `json:"customer_id"`
	Status      string    `json:"status"`
	Version     int64     `json:"version"`
	RequestedAt time.Time `json:"requested_at,omitzero"`
	WithdrawnAt time.Time `json:"withdrawn_at,omitzero"`
}

// EncodeFulfillment returns the message for event, without id and headers.
func (c *Codec) EncodeFulfillment(event fulfillment.Event) (outbox.Message, error) {
	body := fulfillmentBody{OrderID: event.Order, CustomerID: event.Customer, Status: string(event.Status), Version: event.Version}
	message := outbox.Message{
		Key: outbox.Key{Type: orders.FulfillmentAggregate, ID: event.Order}, Version: event.Version,
	}
	switch event.Status {
	case fulfillment.Requested:
		message.Type, message.Subject = orders.TypeFulfillmentRequested, SubjectFulfillmentRequested
		body.RequestedAt = event.At.UTC()
	case fulfillment.Withdrawn:
		message.Type, message.Subject = orders.TypeFulfillmentWithdrawn, SubjectFulfillmentWithdrawn
		body.WithdrawnAt = event.At.UTC()
	default:
		return outbox.Message{}, fmt.Errorf("codec: no message is defined for a fulfillment that is %q", event.Status)
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return outbox.Message{}, fmt.Errorf("codec: encode %s of %s: %w", message.Type, message.Key, err)
	}
	message.Payload = payload
	return message, nil
}
