// Package fulfillment is what a warehouse is asked to do for an order: pick it once it is paid, and put it back if it is cancelled after
// that.
package fulfillment

import "time"

// Status is what the warehouse is asked for.
type Status string

// The statuses of a fulfillment.
const (
	Requested Status = "requested" // the order was paid: pick it
	Withdrawn Status = "withdrawn" // the order was cancelled after that: put it back
)

// Order is what a fulfillment depends on: an order right after one of its events.
type Order struct {
	ID, Customer string
	Version      int64
	At           time.Time // of the event
}

// Event is what happened to a fulfillment.
type Event struct {
	Status   Status
	Order    string // which it belongs to; a fulfillment has no id of its own
	Customer string
	// Version is that of the fulfillment. It begins with the second event of the order, so it is always one behind, and nothing has to
	// keep it.
	Version int64
	At      time.Time
}

// Paid returns what follows when an order is paid.
func Paid(o Order) Event { return follow(o, Requested) }

// Cancelled returns what follows when an order is cancelled; false: nothing, because it was never paid.
func Cancelled(o Order) (Event, bool) {
	const createdAndCancelled = 2
	return follow(o, Withdrawn), o.Version > createdAndCancelled
}

func follow(o Order, status Status) Event {
	return Event{Status: status, Order: o.ID, Customer: o.Customer, Version: o.Version - 1, At: o.At}
}
