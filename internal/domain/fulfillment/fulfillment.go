// Package fulfillment decides what a warehouse is asked to do for an order: to pick the order when it is paid, and to put the order back
// if it is cancelled after the payment. Paid and Cancelled return the event that follows from a change of the order.
package fulfillment

import "time"

// Status is what the warehouse is asked to do.
type Status string

// The statuses of a fulfillment.
const (
	Requested Status = "requested" // the order was paid: pick it
	Withdrawn Status = "withdrawn" // the order was cancelled after the payment: put it back
)

// Order is the part of an order that a fulfillment needs. It describes the order right after one of the events of the order.
type Order struct {
	ID, Customer string
	Version      int64
	At           time.Time // time of the event
}

// Event is what happened to a fulfillment.
type Event struct {
	Status   Status
	Order    string // id of the order; a fulfillment has no id of its own
	Customer string
	// Version is the version of the fulfillment. A fulfillment begins with the second event of the order. So its version is the order's
	// version minus one, and nobody has to store it.
	Version int64
	At      time.Time
}

// Paid returns the event that follows when an order is paid.
func Paid(o Order) Event { return follow(o, Requested) }

// Cancelled returns the event that follows when an order is cancelled, or false if no event follows because the order was never paid.
func Cancelled(o Order) (Event, bool) {
	const createdAndCancelled = 2
	return follow(o, Withdrawn), o.Version > createdAndCancelled
}

func follow(o Order, status Status) Event {
	return Event{Status: status, Order: o.ID, Customer: o.Customer, Version: o.Version - 1, At: o.At}
}
