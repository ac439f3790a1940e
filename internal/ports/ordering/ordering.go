// Package ordering is the order service's two sides: Service, which drives it, and UnitOfWork with Orders and Keys, which
// it drives.
//
// Package orderingtest holds the executable contract of each driven interface.
package ordering

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// The answers of Orders.
var (
	// ErrOrderNotFound : there is no such order.
	ErrOrderNotFound = fault.New(fault.NotFound, "order_not_found", "there is no such order")
	// ErrOrderExists : a new order has the id of another one.
	ErrOrderExists = fault.New(fault.Conflict, "order_exists", "there is an order of that id already")
	// ErrOrderChanged : the order was changed since it was read; read it again.
	ErrOrderChanged = fault.New(fault.Conflict, "order_changed", "the order was changed by somebody else at the same time")
	// ErrEventsNotPulled : an aggregate with recorded events must not be saved without them.
	ErrEventsNotPulled = fault.New(fault.Internal, "events_not_pulled", "the order was saved before its events were pulled")
)

// Service is what can be done with orders. Every change is durable, together with its event, when the call returns
// without an error.
type Service interface {
	// Place places a new order, unless key was used for the same request before: then it returns what it returned then, and
	// nothing happens. If it was used for another request, the answer is ErrKeyReused.
	Place(ctx context.Context, customer order.CustomerID, amount order.Money, key Key) (order.Snapshot, error)
	Pay(ctx context.Context, id order.ID) (order.Snapshot, error)
	Ship(ctx context.Context, id order.ID) (order.Snapshot, error)
	Cancel(ctx context.Context, id order.ID) (order.Snapshot, error)
	Get(ctx context.Context, id order.ID) (order.Snapshot, error)
}

// UnitOfWork is a transaction over the ports in Tx.
type UnitOfWork interface {
	// Do commits when fn returns nil, and rolls back when it returns an error or panics. A commit that fails is an error
	// of Do. fn may run again, so it has no side effects outside tx. What was refused because an order or a version exists
	// already ends the transaction: it cannot be committed, even if fn returns nil.
	Do(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error
}

// Tx is the ports of one transaction. They are dead once Do returns.
type Tx struct {
	Keys   Keys
	Orders Orders
	Outbox ports.Appender
}

// Orders keeps orders.
type Orders interface {
	// Get returns the order, or ErrOrderNotFound.
	Get(ctx context.Context, id order.ID) (*order.Order, error)
	// Save stores a new or changed order and locks it until the transaction ends. It is called once for an order in a
	// transaction, after its events were pulled (else ErrEventsNotPulled) and before they are appended. If the stored
	// version is not the one that was read, the answer is ErrOrderChanged.
	Save(ctx context.Context, o *order.Order) error
}

// Encoder turns a domain event into the message that is published for it: the public contract.
type Encoder interface {
	Encode(event order.Event) (outbox.Message, error)
}
