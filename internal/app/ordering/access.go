package ordering

import (
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// author is the principal of a change, and the permission that the change needs.
type author struct {
	who   order.Principal
	needs order.Permission
}

// mayPlace returns an order.ErrPermission if the principal may not place an order for the customer.
func mayPlace(who order.Principal, customer value.CustomerID) error {
	if err := who.Require(order.MayPlace); err != nil {
		return err
	}
	if !who.Reaches(customer) {
		return order.ErrPermission.With("the token is for the orders of its own customer only; other customers need the scope %s", order.MayReachAll)
	}
	return nil
}

// notFound is the error about an order that the principal does not reach. It is the same as for an order that does not exist.
func notFound(id order.ID) error { return orders.ErrOrderNotFound.With("there is no order %s", id) }
