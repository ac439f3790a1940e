package codec

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fulfilment"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/ordering"
)

// The subjects of fulfilments.
const (
	SubjectFulfilmentRequested = "orders.fulfilment.requested"
	SubjectFulfilmentWithdrawn = "orders.fulfilment.withdrawn"
)

var _ ordering.FulfilmentEncoder = (*Codec)(nil)

// fulfilmentBody is the JSON of the events of fulfilments, version 1. Each has one of the times.
type fulfilmentBody struct {
	OrderID     string    `json:"order_id"`
	CustomerID  string    `json:"customer_id"`
	Status      string    `json:"status"`
	Version     int64     `json:"version"`
	RequestedAt time.Time `json:"requested_at,omitzero"`
	WithdrawnAt time.Time `json:"withdrawn_at,omitzero"`
}

// EncodeFulfilment returns the message for event, without id and headers.
func (c *Codec) EncodeFulfilment(event fulfilment.Event) (outbox.Message, error) {
	body := fulfilmentBody{OrderID: event.Order, CustomerID: event.Customer, Status: string(event.Status), Version: event.Version}
	message := outbox.Message{
		Key: outbox.Key{Type: ordering.FulfilmentAggregate, ID: event.Order}, Version: event.Version,
	}
	switch event.Status {
	case fulfilment.Requested:
		message.Type, message.Subject = ordering.TypeFulfilmentRequested, SubjectFulfilmentRequested
		body.RequestedAt = event.At.UTC()
	case fulfilment.Withdrawn:
		message.Type, message.Subject = ordering.TypeFulfilmentWithdrawn, SubjectFulfilmentWithdrawn
		body.WithdrawnAt = event.At.UTC()
	default:
		return outbox.Message{}, fmt.Errorf("codec: no message is defined for a fulfilment that is %q", event.Status)
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return outbox.Message{}, fmt.Errorf("codec: encode %s of %s: %w", message.Type, message.Key, err)
	}
	message.Payload = payload
	return message, nil
}
