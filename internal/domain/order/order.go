// Package order is the order aggregate: what an order is, what may happen to it, and the events that tell of it.
package order

import (
	"slices"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// The changes that are refused.
var (
	// ErrStatus : the order's status does not allow the change. The detail says which status would.
	ErrStatus = fault.New(fault.Conflict, "order_status", "the order's status does not allow this")
	// ErrDiffers : the change was made before, and not as it is asked for now.
	ErrDiffers = fault.New(fault.Conflict, "order_change_differs", "the change was made before, in another way")
)

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

	PaymentReference  Note
	Carrier, Tracking Note
	CancelReason      Note
}

// Order is the aggregate. It is changed only by its verbs, each of which records one event and returns the order as it was
// right after it. A change that was made before, in the same way, is not made again: the verb records nothing, and returns
// what it returned then, whatever happened to the order since. An Order is not safe for concurrent use.
type Order struct {
	state  Snapshot
	stored int64 // version when it was read; 0 for a new order
	events []Event
}

// Place makes a new order. The amount must be greater than zero, and at most MaxAmount; orders that were stored before there
// was such a limit may have more.
func Place(id ID, customer CustomerID, amount Money, now time.Time) (*Order, error) {
	if !amount.IsPositive() {
		return nil, ErrMoney.With("the amount must be greater than zero").On("amount", "must be greater than zero")
	}
	if amount.Minor() > MaxAmount {
		return nil, tooLarge(amount.Currency())
	}
	o := &Order{state: Snapshot{
		ID: id, CustomerID: customer, Amount: amount, Status: StatusCreated, Version: 1, CreatedAt: now,
	}}
	o.events = append(o.events, Created{EventData{Order: o.state, At: now}})
	return o, nil
}

// Rehydrate rebuilds a stored order. What was stored once is not judged again.
func Rehydrate(state Snapshot) *Order { return &Order{state: state, stored: state.Version} }

// Pay records that the order was paid.
func (o *Order) Pay(reference Note, now time.Time) (Snapshot, error) {
	if before, paid := o.asPaid(); paid {
		return again(before, before.PaymentReference == reference, "paid before, with another reference or none")
	}
	if err := o.transition("pay", StatusPaid, StatusCreated); err != nil {
		return Snapshot{}, err
	}
	o.state.PaymentReference = reference
	o.events = append(o.events, Paid{EventData{Order: o.state, At: now}})
	return o.state, nil
}

// Ship records that the order left the house.
func (o *Order) Ship(carrier, tracking Note, now time.Time) (Snapshot, error) {
	if o.state.Status == StatusShipped {
		same := o.state.Carrier == carrier && o.state.Tracking == tracking
		return again(o.state, same, "shipped before, with another carrier or tracking number or none")
	}
	if err := o.transition("ship", StatusShipped, StatusPaid); err != nil {
		return Snapshot{}, err
	}
	o.state.Carrier, o.state.Tracking = carrier, tracking
	o.events = append(o.events, Shipped{EventData{Order: o.state, At: now}})
	return o.state, nil
}

// Cancel records that the order will not be carried out.
func (o *Order) Cancel(reason Note, now time.Time) (Snapshot, error) {
	if o.state.Status == StatusCancelled {
		return again(o.state, o.state.CancelReason == reason, "cancelled before, for another reason or none")
	}
	if err := o.transition("cancel", StatusCancelled, StatusCreated, StatusPaid); err != nil {
		return Snapshot{}, err
	}
	o.state.CancelReason = reason
	o.events = append(o.events, Cancelled{EventData{Order: o.state, At: now}})
	return o.state, nil
}

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

// again answers a change that left the order as before, or refuses it if it is not the same.
func again(before Snapshot, same bool, differently string) (Snapshot, error) {
	if !same {
		return Snapshot{}, ErrDiffers.With("the order was %s", differently)
	}
	return before, nil
}

// Placed returns the state as it was when the order was placed, whatever happened to it since.
func (o *Order) AsPlaced() Snapshot {
	return Snapshot{
		ID: o.state.ID, CustomerID: o.state.CustomerID, Amount: o.state.Amount, Status: StatusCreated, Version: 1,
		CreatedAt: o.state.CreatedAt,
	}
}

// paid returns the state as it was when the order was paid, if it ever was: one that was cancelled has two events, or three
// if it was paid between them.
func (o *Order) asPaid() (Snapshot, bool) {
	switch {
	case o.state.Status == StatusCreated, o.state.Status == StatusCancelled && o.state.Version < 3:
		return Snapshot{}, false
	}
	before := o.AsPlaced()
	before.Status, before.Version, before.PaymentReference = StatusPaid, 2, o.state.PaymentReference
	return before, true
}

// Snapshot returns the present state.
func (o *Order) Snapshot() Snapshot { return o.state }

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
