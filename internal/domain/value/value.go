// Package value holds the value types that any aggregate may have: Money with its Currency, a Note, and the ids of customers. An aggregate
// imports this package instead of another aggregate.
package value
