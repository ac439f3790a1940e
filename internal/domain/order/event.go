package order

import "time"

// Event is what happened to an order: one of Created, Paid, Shipped, Cancelled.
//
//sumtype:decl
type Event interface {
	// Fact is what every event tells.
	fact() Fact
}

// Fact is what every event tells: the order right after it, and when it happened.
type Fact struct {
	Order Snapshot
	At    time.Time
}

// FactOf returns what event tells.
func FactOf(event Event) Fact { return event.fact() }

// The events of an order.
type (
	// Created : the order was placed.
	Created struct{ Fact }
	// Paid : the order was paid.
	Paid struct{ Fact }
	// Shipped : the order left the house.
	Shipped struct{ Fact }
	// Cancelled : the order will not be carried out.
	Cancelled struct{ Fact }
)

func (e Created) fact() Fact   { return e.Fact }
func (e Paid) fact() Fact      { return e.Fact }
func (e Shipped) fact() Fact   { return e.Fact }
func (e Cancelled) fact() Fact { return e.Fact }
