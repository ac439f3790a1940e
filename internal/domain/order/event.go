package order

import "time"

// Event is what happened to an order: one of Created, Paid, Shipped, Cancelled.
//
//sumtype:decl
type Event interface {
	// EventData is what every event tells.
	data() EventData
}

// EventData is what every event tells: the order right after it, and when it happened.
type EventData struct {
	Order Snapshot
	At    time.Time
}

// FactOf returns what event tells.
func DataOf(event Event) EventData { return event.data() }

// The events of an order.
type (
	// Created : the order was placed.
	Created struct{ EventData }
	// Paid : the order was paid.
	Paid struct{ EventData }
	// Shipped : the order left the house.
	Shipped struct{ EventData }
	// Cancelled : the order will not be carried out.
	Cancelled struct{ EventData }
)

func (e Created) data() EventData   { return e.EventData }
func (e Paid) data() EventData      { return e.EventData }
func (e Shipped) data() EventData   { return e.EventData }
func (e Cancelled) data() EventData { return e.EventData }
