package ordering

import (
	"github.com/assylzhan-a/outboxie/internal/domain/fulfilment"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// The types of the events of fulfilments. A handler emits them: see package fulfilment in internal/app.
const (
	TypeFulfilmentRequested = "outboxie.fulfilment.requested.v1"
	TypeFulfilmentWithdrawn = "outboxie.fulfilment.withdrawn.v1"
)

// FulfilmentAggregate is the type of a fulfilment's key in the outbox. The id is that of the order.
const FulfilmentAggregate = "fulfilment"

// EventTypes returns the types of all events that this service publishes.
func EventTypes() []string {
	return []string{TypeCreated, TypePaid, TypeShipped, TypeCancelled, TypeFulfilmentRequested, TypeFulfilmentWithdrawn}
}

// FulfilmentEncoder turns an event of a fulfilment into the message that is published for it, without an id: whoever emits it gets one.
type FulfilmentEncoder interface {
	EncodeFulfilment(event fulfilment.Event) (outbox.Message, error)
}
