package order

import "time"

// Event reports that an order changed: one of Created, Paid, Shipped, Cancelled.
//
//sumtype:decl
type Event interface {
	// data returns what every event contains.
	data() EventData
}

// EventData is what every event contains: the order right after the change, and the time of the change.
type EventData struct {
	Order Snapshot
	At    time.Time
}

// DataOf returns the data of an event.
func DataOf(event Event) EventData { return event.data() }

// The events of an order.
type (
	// Created reports that the order was placed.
	Created struct{ EventData }
	// Paid reports that the order was paid.
	Paid struct{ EventData }
	// Shipped reports that the order was shipped.
	Shipped struct{ EventData }
	// Cancelled reports that the order was cancelled.
	Cancelled struct{ EventData }
)

func (e Created) data() EventData   { return e.EventData }
func (e Paid) data() EventData      { return e.EventData }
func (e Shipped) data() EventData   { return e.EventData }
func (e Cancelled) data() EventData { return e.EventData }
