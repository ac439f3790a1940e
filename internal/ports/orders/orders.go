// Package ordering is the order service's two sides: Service, which drives it, and UnitOfWork with Orders and Keys, which
// it drives.
//
// Package orderstest holds the executable contract of each driven interface.
package orders

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The answers of Orders.
var (
	// ErrOrderNotFound : there is no such order.
	ErrOrderNotFound = fault.New(fault.NotFound, "order_not_found", "there is no such order")
	// ErrOrderExists : a new order has the id of another one.
	ErrOrderExists = fault.New(fault.Conflict, "order_exists", "there is an order of that id already")
	// ErrOrderVersion : the order is not at a version that the request is meant for.
	ErrOrderVersion = fault.New(fault.Conflict, "order_version", "the order is not at the version that the request is meant for")
	// ErrOrderChanged : the order was changed since it was read; read it again.
	ErrOrderChanged = fault.New(fault.Conflict, "order_changed", "the order was changed by somebody else at the same time")
	// ErrEventsNotPulled : an aggregate with recorded events must not be saved without them.
	ErrEventsNotPulled = fault.New(fault.Internal, "events_not_pulled", "the order was saved before its events were pulled")
)

// AggregateType is the type of an order's key in the outbox.
const AggregateType = "order"

// Service is what can be done with orders. Every change is durable, together with its event, when the call returns
// without an error.
type Service interface {
	// Place places a new order, unless key was used for the same request before: then it returns what it returned then, and
	// nothing happens. If it was used for another request, the answer is ErrKeyReused.
	Place(ctx context.Context, customer order.CustomerID, amount order.Money, key Key) (order.Snapshot, error)

	// Pay, Ship and Cancel change an order, and return it as the change left it. One that was made before, in the same way,
	// is not made again: it is answered as it was then.
	Pay(ctx context.Context, id order.ID, reference order.Note, guard Precondition) (order.Snapshot, error)
	Ship(ctx context.Context, id order.ID, carrier, tracking order.Note, guard Precondition) (order.Snapshot, error)
	Cancel(ctx context.Context, id order.ID, reason order.Note, guard Precondition) (order.Snapshot, error)

	Get(ctx context.Context, id order.ID) (order.Snapshot, error)
	// List returns the orders that match, the newest first. What is placed while somebody reads page after page moves nothing
	// that he has not read yet.
	List(ctx context.Context, filter Filter) (Page, error)
	// Events returns the events of an order that the log still holds, oldest first, and where each stands.
	Events(ctx context.Context, id order.ID) ([]Event, error)
}

// Precondition keeps a change from happening to an order that is not as the caller knows it.
type Precondition struct {
	Key      Key     // if it was used for another request before, the answer is ErrKeyReused
	AllowedVersions []int64 // one of which the order is at, else the answer is ErrOrderVersion; nil: any
}

// Filter chooses orders. Each zero value, but that of Limit, chooses all.
type Filter struct {
	Customer      order.CustomerID
	Status        order.Status
	CreatedFrom   time.Time // it was placed then or later
	CreatedBefore time.Time
	After         *PageCursor // in the list, of the last one that was read
	Limit         int
}

// Place is where an order stands in the list of all orders, the newest first.
type PageCursor struct {
	CreatedAt time.Time
	ID        order.ID
}

// Page is a part of the list.
type Page struct {
	Orders []order.Snapshot
	Next   *PageCursor // what the next page comes after; nil: there is none
}

// Event is something that happened to an order, and where its message stands.
type Event struct {
	outbox.Entry
	Delivery    Delivery
	PublishedAt time.Time // when the stream stored it, on the broker's clock; known only of what is Published
	Reason      string    // why it is, or was, Parked
}

// Delivery is where a message stands.
type Delivery string

// The states of delivery.
const (
	// Pending means that the event was not published, as far as is known; an operator may have to repair the log first. If the broker cannot be asked, what was published within the last
	// second may still be shown as Pending.
	Pending Delivery = "pending"
	// Published : the stream holds it.
	Published Delivery = "published"
	// Passed : the relay has dealt with it, and the stream does not hold it, or cannot be asked. It has expired there, or
	// was deleted; or an operator let the relay go on after it.
	Passed Delivery = "passed"
	// Parked : the broker cannot take it, or one before it of the same order.
	Parked Delivery = "parked"
	// Discarded : an operator gave it up; it will never be published.
	Discarded Delivery = "discarded"
)

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
	Outbox relay.Appender
}

// Orders keeps orders.
type Orders interface {
	// Get returns the order, or ErrOrderNotFound.
	Get(ctx context.Context, id order.ID) (*order.Order, error)
	// Save stores a new or changed order and locks it until the transaction ends. It is called once for an order in a
	// transaction, after its events were pulled (else ErrEventsNotPulled) and before they are appended. If the stored
	// version is not the one that was read, the answer is ErrOrderChanged.
	Save(ctx context.Context, o *order.Order) error
	// List returns the orders that match, the newest first, and of those placed at the same time the one with the highest id
	// first; at most filter.Limit.
	List(ctx context.Context, filter Filter) ([]order.Snapshot, error)
}
