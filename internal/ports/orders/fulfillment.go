package orders

import (
	"github.com/assylzhan-a/outboxie/internal/domain/fulfillment"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// The types of the events of fulfillments. A handler emits these events: see package fulfilling in internal/app.
const (
	TypeFulfillmentRequested = "outboxie.fulfillment.requested.v1"
	TypeFulfillmentWithdrawn = "outboxie.fulfillment.withdrawn.v1"
)

// FulfillmentAggregate is the type of a fulfillment's key in the outbox. The id in the key is the order's id.
const FulfillmentAggregate = "fulfillment"

// EventTypes returns the types of all events that this service publishes.
func EventTypes() []string {
	return []string{TypeCreated, TypePaid, TypeShipped, TypeCancelled, TypeFulfillmentRequested, TypeFulfillmentWithdrawn}
}

// FulfillmentEncoder turns an event of a fulfillment into a message without an id. The emitter gives the message its id.
type FulfillmentEncoder interface {
	EncodeFulfillment(event fulfillment.Event) (outbox.Message, error)
}
