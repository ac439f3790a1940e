// Package orders holds the ports of the order service. The HTTP API drives Service, which package ordering in internal/app implements;
// the service drives UnitOfWork with Orders, Keys and the outbox in one transaction.
//
// Package orderstest holds the contract suite of the driven ports.
package orders

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The errors of Service and Orders.
var (
	// ErrOrderNotFound reports that there is no such order.
	ErrOrderNotFound = fault.New(fault.NotFound, "order_not_found", "there is no such order")
	// ErrOrderExists reports that a new order has the id of another one.
	ErrOrderExists = fault.New(fault.Conflict, "order_exists", "there is an order of that id already")
	// ErrOrderVersion reports that the order is not at a version that the request allows.
	ErrOrderVersion = fault.New(fault.Conflict, "order_version", "the order is not at the version that the request is meant for")
	// ErrOrderChanged reports that the order was changed since it was read. Read it again.
	ErrOrderChanged = fault.New(fault.Conflict, "order_changed", "the order was changed by somebody else at the same time")
	// ErrEventsNotPulled reports that an order was to be saved without its recorded events.
	ErrEventsNotPulled = fault.New(fault.Internal, "events_not_pulled", "the order was saved before its events were pulled")
)

// AggregateType is the type of an order's key in the outbox.
const AggregateType = "order"

// Service places, changes and reads orders. When a call returns without an error, the change and its event are durable.
type Service interface {
	// Place places a new order. If key was used for the same request before, Place changes nothing and returns its first answer. If key
	// was used for another request, Place fails with ErrKeyReused.
	Place(ctx context.Context, customer order.CustomerID, amount order.Money, key Key) (order.Snapshot, error)

	// Pay, Ship and Cancel change an order, and return it as it is right after the change. If the same change was made before, they
	// change nothing and return their first answer.
	Pay(ctx context.Context, id order.ID, reference order.Note, condition Precondition) (order.Snapshot, error)
	Ship(ctx context.Context, id order.ID, carrier, tracking order.Note, condition Precondition) (order.Snapshot, error)
	Cancel(ctx context.Context, id order.ID, reason order.Note, condition Precondition) (order.Snapshot, error)

	Get(ctx context.Context, id order.ID) (order.Snapshot, error)
	// List returns the orders that match, the newest first. New orders do not shift later pages.
	List(ctx context.Context, filter Filter) (Page, error)
	// Events returns the events of an order that the log still holds, the oldest first, and where each stands.
	Events(ctx context.Context, id order.ID) ([]Event, error)
}

// Precondition says when a change may happen.
type Precondition struct {
	Key             Key     // not used for another request before, else the change fails with ErrKeyReused
	AllowedVersions []int64 // the order is at one of these, else the change fails with ErrOrderVersion; nil: any
}

// Filter chooses orders. Each zero value, but that of Limit, chooses all.
type Filter struct {
	Customer      order.CustomerID
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
	Next   *PageCursor // the next page comes after it; nil: there is none
}

// Event is an event of an order, and where its message stands.
type Event struct {
	outbox.Entry
	Delivery    Delivery
	PublishedAt time.Time // when the stream stored it, by the broker's clock; zero unless Delivery is Published
	Reason      string    // why it is, or was, Parked
}

// Delivery is where a message stands.
type Delivery string

// The states of delivery.
const (
	// Pending means that the event was not published, as far as is known. An operator may have to repair the log first. If the broker
	// cannot be asked, an event that was published within the last second may still be Pending.
	Pending Delivery = "pending"
	// Published means that the stream holds the event.
	Published Delivery = "published"
	// Passed means that the relay has dealt with the event, and the stream does not hold it or cannot be asked. The message has expired
	// there or was deleted; or an operator let the relay go on after it.
	Passed Delivery = "passed"
	// Parked means that the broker cannot take the event, or an earlier one of the same order.
	Parked Delivery = "parked"
	// Discarded means that an operator gave the event up: it is never published.
	Discarded Delivery = "discarded"
)

// UnitOfWork is a transaction over the ports in Tx.
type UnitOfWork interface {
	// Do commits if fn returns nil, and rolls back if fn returns an error or panics. If the commit fails, Do fails. fn may run again, so
	// it has no side effects outside tx. After an error because an order or a version exists already, the transaction cannot be committed,
	// even if fn returns nil.
	Do(ctx context.Context, fn func(ctx context.Context, tx Tx) error) error
}

// Tx is the ports of one transaction. They cannot be used after Do returns.
type Tx struct {
	Keys   Keys
	Orders Orders
	Outbox relay.Appender
}

// Orders stores orders.
type Orders interface {
	// Get returns the order, or fails with ErrOrderNotFound.
	Get(ctx context.Context, id order.ID) (*order.Order, error)
	// Save stores a new or changed order and locks it until the transaction ends. In one transaction it is called once for an order:
	// after its events were pulled, else it fails with ErrEventsNotPulled, and before they are appended. If the stored version is not
	// the one that was read, Save fails with ErrOrderChanged.
	Save(ctx context.Context, o *order.Order) error
	// List returns the orders that match, the newest first, at most filter.Limit. Of orders placed at the same time the one with the
	// highest id is first.
	List(ctx context.Context, filter Filter) ([]order.Snapshot, error)
}
