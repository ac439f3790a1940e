package orders

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// The types of the orders' events, as CloudEvents names them.
const (
	TypeCreated   = "outboxie.order.created.v1"
	TypePaid      = "outboxie.order.paid.v1"
	TypeShipped   = "outboxie.order.shipped.v1"
	TypeCancelled = "outboxie.order.cancelled.v1"
)

// Encoder turns a domain event, and the principal who caused it, into the message that the relay publishes. The message is a public contract.
type Encoder interface {
	Encode(event order.Event, who order.Principal) (outbox.Message, error)
}

// Decoder reads the order event from a message, or fails with inbox.ErrUnreadable.
type Decoder interface {
	Decode(message outbox.Message) (order.Event, error)
}

// Totals sums up what each customer ordered, per currency and subscriber.
type Totals interface {
	// Add counts one order of the given amount, for the subscriber of tx and in the transaction of tx. Add may collect several calls in one
	// write, so an error does not name the event.
	Add(ctx context.Context, tx inbox.Tx, customer value.CustomerID, amount value.Money) error
}
