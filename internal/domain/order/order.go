// Package order is the order aggregate: what an order is, what may happen to it, and the events that tell of it.
package order

import (
	"slices"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrStatus : the order's status does not allow the change. The detail says which status would.
var ErrStatus = fault.New(fault.Conflict, "order_status", "the order's status does not allow this")

// Status is where an order stands: created -> paid -> shipped, and cancelled from created or paid.
type Status string

// The statuses of an order.
const (
	StatusCreated   Status = "created"
	StatusPaid      Status = "paid"
	StatusShipped   Status = "shipped"
	StatusCancelled Status = "cancelled"
)

// Snapshot is an order's state at one moment, for reading only.
type Snapshot struct {
	ID         ID
	CustomerID CustomerID
	Amount     Money
	Status     Status
	Version    int64 // rises by one with every event
	CreatedAt  time.Time
}

// Order is the aggregate. It is changed only by its verbs, each of which records one event. It is not safe for
// concurrent use.
type Order struct {
	state  Snapshot
	stored int64 // version when it was read; 0 for a new order
	events []Event
}

// Place makes a new order. Amount must be positive.
func Place(id ID, customer CustomerID, amount Money, now time.Time) (*Order, error) {
	if !amount.IsPositive() {
		return nil, ErrMoney.With("the amount must be greater than zero").On("amount", "must be greater than zero")
	}
	o := &Order{state: Snapshot{
		ID: id, CustomerID: customer, Amount: amount, Status: StatusCreated, Version: 1, CreatedAt: now,
	}}
	o.events = append(o.events, Created{Fact{Order: o.state, At: now}})
	return o, nil
}

// Rehydrate rebuilds a stored order. What was stored once is not judged again.
func Rehydrate(state Snapshot) *Order { return &Order{state: state, stored: state.Version} }

// Pay records that the order was paid.
func (o *Order) Pay(now time.Time) error {
	if err := o.move("pay", StatusPaid, StatusCreated); err != nil {
		return err
	}
	o.events = append(o.events, Paid{Fact{Order: o.state, At: now}})
	return nil
}

// Ship records that the order left the house.
func (o *Order) Ship(now time.Time) error {
	if err := o.move("ship", StatusShipped, StatusPaid); err != nil {
		return err
	}
	o.events = append(o.events, Shipped{Fact{Order: o.state, At: now}})
	return nil
}

// Cancel records that the order will not be carried out.
func (o *Order) Cancel(now time.Time) error {
	if err := o.move("cancel", StatusCancelled, StatusCreated, StatusPaid); err != nil {
		return err
	}
	o.events = append(o.events, Cancelled{Fact{Order: o.state, At: now}})
	return nil
}

func (o *Order) move(verb string, to Status, from ...Status) error {
	if !slices.Contains(from, o.state.Status) {
		names := make([]string, len(from))
		for i, status := range from {
			names[i] = string(status)
		}
		return ErrStatus.With("cannot %s an order that is %s; it must be %s", verb, o.state.Status, strings.Join(names, " or "))
	}
	o.state.Status = to
	o.state.Version++
	return nil
}

// Snapshot returns the present state.
func (o *Order) Snapshot() Snapshot { return o.state }

// Placed returns the state as it was when the order was placed, whatever happened to it since.
func (o *Order) Placed() Snapshot {
	placed := o.state
	placed.Status, placed.Version = StatusCreated, 1
	return placed
}

// StoredVersion is the version that the order had when it was read, 0 if it is new: what a save compares with.
func (o *Order) StoredVersion() int64 { return o.stored }

// PullEvents hands over the recorded events, in order, and forgets them. Whoever pulls them appends them to the outbox in
// the transaction that saves the order.
func (o *Order) PullEvents() []Event {
	events := o.events
	o.events = nil
	return events
}

// HasEvents reports whether there are recorded events which nobody pulled.
func (o *Order) HasEvents() bool { return len(o.events) > 0 }
