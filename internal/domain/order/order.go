// Package order is the order aggregate: its state, the changes that it allows, and the events that report the changes. An application
// places or rehydrates an Order, changes it by a method, pulls its events, and saves both.
package order

import (
	"slices"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

// The reasons to refuse a change.
var (
	// ErrStatus reports that the order's status does not allow the change. The detail names the statuses that allow it.
	ErrStatus = fault.New(fault.Conflict, "order_status", "the order's status does not allow this")
	// ErrDiffers reports that the change was made before with other notes.
	ErrDiffers = fault.New(fault.Conflict, "order_change_differs", "the change was made before, in another way")
)

// Status is the state of an order: created -> paid -> shipped. An order that is created or paid can be cancelled.
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
	CustomerID value.CustomerID
	Amount     value.Money
	Status     Status
	Version    int64 // rises by one with every event
	CreatedAt  time.Time

	PaymentReference  value.Note
	Carrier, Tracking value.Note
	CancelReason      value.Note
}

// Order is the aggregate. Pay, Ship and Cancel change it. Each records one event, and returns the order as it is right after the
// change. If the same change was made before, the method records nothing and returns what it returned the first time, even if the
// order has changed since. An Order is not safe for concurrent use.
type Order struct {
	state  Snapshot
	stored int64 // version of the order when it was read; 0 for a new order
	events []Event
}

// Place creates an order. The amount must be greater than zero, and at most value.MaxAmount. An order that was placed before this limit
// existed may have a larger amount.
func Place(id ID, customer value.CustomerID, amount value.Money, now time.Time) (*Order, error) {
	if err := amount.Check(); err != nil {
		return nil, err
	}
	o := &Order{state: Snapshot{
		ID: id, CustomerID: customer, Amount: amount, Status: StatusCreated, Version: 1, CreatedAt: now,
	}}
	o.events = append(o.events, Created{EventData{Order: o.state, At: now}})
	return o, nil
}

// Rehydrate returns a stored order. It does not validate the state again.
func Rehydrate(state Snapshot) *Order { return &Order{state: state, stored: state.Version} }

// Pay marks a created order as paid.
func (o *Order) Pay(reference value.Note, now time.Time) (Snapshot, error) {
	if before, paid := o.asPaid(); paid {
		return repeat(before, before.PaymentReference == reference, "paid before, with another reference or none")
	}
	if err := o.transition("pay", StatusPaid, StatusCreated); err != nil {
		return Snapshot{}, err
	}
	o.state.PaymentReference = reference
	o.events = append(o.events, Paid{EventData{Order: o.state, At: now}})
	return o.state, nil
}

// Ship marks a paid order as shipped.
func (o *Order) Ship(carrier, tracking value.Note, now time.Time) (Snapshot, error) {
	if o.state.Status == StatusShipped {
		same := o.state.Carrier == carrier && o.state.Tracking == tracking
		return repeat(o.state, same, "shipped before, with another carrier or tracking number or none")
	}
	if err := o.transition("ship", StatusShipped, StatusPaid); err != nil {
		return Snapshot{}, err
	}
	o.state.Carrier, o.state.Tracking = carrier, tracking
	o.events = append(o.events, Shipped{EventData{Order: o.state, At: now}})
	return o.state, nil
}

// Cancel marks a created or paid order as cancelled.
func (o *Order) Cancel(reason value.Note, now time.Time) (Snapshot, error) {
	if o.state.Status == StatusCancelled {
		return repeat(o.state, o.state.CancelReason == reason, "cancelled before, for another reason or none")
	}
	if err := o.transition("cancel", StatusCancelled, StatusCreated, StatusPaid); err != nil {
		return Snapshot{}, err
	}
	o.state.CancelReason = reason
	o.events = append(o.events, Cancelled{EventData{Order: o.state, At: now}})
	return o.state, nil
}

// transition moves the order to a status and the next version. It fails with ErrStatus if the present status is not one of from.
func (o *Order) transition(verb string, to Status, from ...Status) error {
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

// repeat answers a request for a change that was made before. It returns the first answer, or ErrDiffers if the change is not the same.
// difference says how the two changes differ.
func repeat(first Snapshot, same bool, difference string) (Snapshot, error) {
	if !same {
		return Snapshot{}, ErrDiffers.With("the order was %s", difference)
	}
	return first, nil
}

// AsPlaced returns the order as it was when it was placed.
func (o *Order) AsPlaced() Snapshot {
	return Snapshot{
		ID: o.state.ID, CustomerID: o.state.CustomerID, Amount: o.state.Amount, Status: StatusCreated, Version: 1,
		CreatedAt: o.state.CreatedAt,
	}
}

// asPaid returns the order as it was when it was paid, or false if it was never paid. A cancelled order at version 3 was paid before. A
// cancelled order at version 2 was not.
func (o *Order) asPaid() (Snapshot, bool) {
	switch {
	case o.state.Status == StatusCreated, o.state.Status == StatusCancelled && o.state.Version < 3:
		return Snapshot{}, false
	}
	before := o.AsPlaced()
	before.Status, before.Version, before.PaymentReference = StatusPaid, 2, o.state.PaymentReference
	return before, true
}

// Snapshot returns the current state.
func (o *Order) Snapshot() Snapshot { return o.state }

// StoredVersion returns the version that the order had when it was read, or 0 if the order is new. A save takes effect only if the stored
// order still has this version.
func (o *Order) StoredVersion() int64 { return o.stored }

// PullEvents returns the recorded events, in order, and removes them from the order. The caller appends them to the outbox in the
// transaction that saves the order.
func (o *Order) PullEvents() []Event {
	events := o.events
	o.events = nil
	return events
}

// HasEvents reports whether the order has recorded events that were not pulled.
func (o *Order) HasEvents() bool { return len(o.events) > 0 }
