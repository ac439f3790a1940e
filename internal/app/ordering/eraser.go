package ordering

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Eraser removes the personal data of customers.
type Eraser struct {
	data         orders.PersonalData
	newPseudonym func() value.CustomerID
}

var _ orders.Eraser = (*Eraser)(nil)

// NewEraser returns an Eraser. newPseudonym returns a new random id each time: nobody can find the customer by it.
func NewEraser(data orders.PersonalData, newPseudonym func() value.CustomerID) *Eraser {
	return &Eraser{data: data, newPseudonym: newPseudonym}
}

// Inspect reads.
func (e *Eraser) Inspect(ctx context.Context, customer value.CustomerID) (orders.CustomerData, error) {
	return e.data.Inspect(ctx, customer)
}

// Erase gives all orders of the customer to one new pseudonym. So they stay the orders of one customer, whose later events are consistent.
func (e *Eraser) Erase(ctx context.Context, customer value.CustomerID) (orders.CustomerData, error) {
	return e.data.Erase(ctx, customer, e.newPseudonym())
}
