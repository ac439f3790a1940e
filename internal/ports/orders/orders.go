// Package orders holds the ports of the order service. The HTTP API drives Service, which package ordering in internal/app implements.
// Service drives UnitOfWork, which gives it Orders, Keys, CustomerKeys and the outbox in one transaction, and reads through OrderReader without
// one. Eraser removes the personal data of a customer, through PersonalData. Handlers of subscribers open sealed events with KeyRing.
//
// Package orderstest holds the contract suite of the driven ports.
package orders

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The errors of Service and Orders.
var (
	// ErrOrderNotFound reports that there is no such order.
	ErrOrderNotFound = fault.New(fault.NotFound, "order_not_found", "there is no such order")
	// ErrOrderExists reports that a new order has the id of another one.
	ErrOrderExists = fault.New(fault.Conflict, "order_exists", "an order with this id exists already")
	// ErrNotUnique reports that another order has a value that only one order may have, other than the id. The detail names the constraint,
	// and not the value.
	ErrNotUnique = fault.New(fault.Conflict, "not_unique", "another order has a value that only one order may have")
	// ErrOrderVersion reports that the order is not at a version that the request allows.
	ErrOrderVersion = fault.New(fault.Conflict, "order_version", "the order is at a version that the request does not allow")
	// ErrOrderChanged reports that the order was changed since the caller read it. The caller reads the order again.
	ErrOrderChanged = fault.New(fault.Conflict, "order_changed", "the order was changed by somebody else at the same time")
	// ErrEventsNotPulled reports that the caller saves an order whose recorded events it has not pulled.
	ErrEventsNotPulled = fault.New(fault.Internal, "events_not_pulled", "the order was saved before its events were pulled")
)

// AggregateType is the type of an order's key in the outbox.
const AggregateType = "order"

// Service places, changes and reads orders for a principal. When a call returns without an error, the change and its event are durable.
//
// If the principal lacks the permission for a call, or places an order for a customer whose orders it does not reach, the call fails with
// order.ErrPermission and changes nothing. Orders that the principal does not reach do not exist for it: calls about them fail with
// ErrOrderNotFound.
type Service interface {
	// Place places a new order. If key was used for the same request before, Place changes nothing and returns the first answer. If key
	// was used for another request, Place fails with ErrKeyReused.
	Place(ctx context.Context, who order.Principal, customer value.CustomerID, amount value.Money, key Key) (order.Snapshot, error)

	// Pay, Ship and Cancel change an order, and return the order as it is right after the change. If the same change was made before,
	// they change nothing and return the first answer.
	Pay(ctx context.Context, who order.Principal, id order.ID, reference value.Note, condition Precondition) (order.Snapshot, error)
	Ship(ctx context.Context, who order.Principal, id order.ID, carrier, tracking value.Note, condition Precondition) (order.Snapshot, error)
	Cancel(ctx context.Context, who order.Principal, id order.ID, reason value.Note, condition Precondition) (order.Snapshot, error)

	// Get returns an order.
	Get(ctx context.Context, who order.Principal, id order.ID) (order.Snapshot, error)
	// List returns the orders that match, the newest first. It leaves out the orders that the principal does not reach. New orders do not shift later pages.
	List(ctx context.Context, who order.Principal, filter Filter) (Page, error)
	// Events returns the events of an order that the log still holds, the oldest first, and the state of delivery of each.
	Events(ctx context.Context, who order.Principal, id order.ID) ([]Event, error)
}

// Precondition is the condition under which a request may change an order.
type Precondition struct {
	Key             Key     // must not be used for another request before; else the change fails with ErrKeyReused
	AllowedVersions []int64 // the order must be at one of these; else the change fails with ErrOrderVersion; nil: any
}

// Filter chooses orders. A field with its zero value, except Limit, excludes no order.
type Filter struct {
	Customer      value.CustomerID
	Status        order.Status
	CreatedFrom   time.Time   // only orders placed at this time or later
	CreatedBefore time.Time   // only orders placed before this time
	After         *PageCursor // the last order of the page before
	Limit         int
}

// PageCursor is the position of an order in the list.
type PageCursor struct {
	CreatedAt time.Time
	ID        order.ID
}

// Page is a part of the list.
type Page struct {
	Orders []order.Snapshot
	Next   *PageCursor // the next page begins after this order; nil: there is no next page
}

// Event is an event of an order, and the state of delivery of its message.
type Event struct {
	outbox.Entry
	Delivery    Delivery
	PublishedAt time.Time // when the stream stored the message, by the broker's clock; zero unless Delivery is Published
	Reason      string    // why the event is, or was, parked
}

// Delivery is how far the message of an event has come on its way to the stream.
type Delivery string

// The states of delivery.
const (
	// Pending means that the event is not published yet, as far as the service knows. An operator may have to repair the log first. If the
	// broker does not answer, an event that was published within the last second may still be Pending.
	Pending Delivery = "pending"
	// Published means that the stream holds the event.
	Published Delivery = "published"
	// Passed means that the relay has dealt with the event, but the stream does not hold it, or the broker does not answer. The message
	// has expired or was deleted, or an operator let the relay go on after the event.
	Passed Delivery = "passed"
	// Parked means that the broker cannot take the event, or an earlier one of the same order.
	Parked Delivery = "parked"
	// Discarded means that an operator gave the event up. The relay never publishes it.
	Discarded Delivery = "discarded"
)

// UnitOfWork is a transaction over the ports in Tx.
type UnitOfWork interface {
	// Do commits if fn returns nil, and rolls back if fn returns an error or panics. If the commit fails, Do fails. Do may run fn again, so
	// fn has no side effects outside tx. If a port fails because an order or a version exists already, the transaction cannot commit any
	// more, even if fn returns nil.
	//
	// Save and Append may wait with their write until the next call or the commit. The error of the write is then that of the call, or of Do.
	Do(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error
}

// Tx is the ports of one transaction. They cannot be used after Do returns.
type Tx struct {
	Keys         Keys
	CustomerKeys CustomerKeys
	Orders       Orders
	Outbox       relay.Appender
}

// Orders stores orders.
type Orders interface {
	// Get returns the order, or fails with ErrOrderNotFound.
	Get(ctx context.Context, id order.ID) (*order.Order, error)
	// Save stores a new or changed order and locks it until the transaction ends. The caller first pulls the order's events, then calls
	// Save, and then appends the events. It calls Save at most once for an order in a transaction. If the order has events that were not
	// pulled, Save fails with ErrEventsNotPulled. If the stored version is not the version that was read, Save fails with ErrOrderChanged. So it
	// does if the stored customer is another one: PersonalData.Erase changes the customer without a new version.
	// If another order has a value that the store keeps unique, Save or the commit fails with ErrNotUnique.
	Save(ctx context.Context, o *order.Order) error
}

// OrderReader reads committed orders, each call with one statement and without a transaction. It is safe for concurrent use.
type OrderReader interface {
	// Get returns the order, or fails with ErrOrderNotFound.
	Get(ctx context.Context, id order.ID) (order.Snapshot, error)
	// List returns the orders that match, the newest first, at most filter.Limit. If orders were placed at the same time, the
	// order with the highest id is first.
	List(ctx context.Context, filter Filter) ([]order.Snapshot, error)
}
