package order

import "time"

// Event is what happened to an order: one of Created, Paid, Shipped, Cancelled.
//
//sumtype:decl
type Event interface {
	// EventData is what every event tells.
	fact() EventData
}

// EventData is what every event tells: the order right after it, and when it happened.
type EventData struct {
	Order Snapshot
	At    time.Time
}

// FactOf returns what event tells.
func FactOf(event Event) EventData { return event.fact() }

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

func (e Created) fact() EventData   { return e.EventData }
func (e Paid) fact() EventData      { return e.EventData }
func (e Shipped) fact() EventData   { return e.EventData }
func (e Cancelled) fact() EventData { return e.EventData }
