package order_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

const (
	alice value.CustomerID = "00000000-0000-4000-8000-00000000000a"
	bob   value.CustomerID = "00000000-0000-4000-8000-00000000000b"
)

// TestPrincipals checks what each kind of principal may do, and whose orders it reaches.
func TestPrincipals(t *testing.T) {
	customer := order.Principal{Kind: order.KindCustomer, Customer: alice, Permissions: []order.Permission{order.MayPlace, order.MayRead}}
	shipper := order.Principal{Kind: order.KindService, Permissions: []order.Permission{order.MayShip, order.MayReachAll}}
	nameless := order.Principal{Permissions: []order.Permission{order.MayRead}}
	for name, c := range map[string]struct {
		who         order.Principal
		permissions []order.Permission
		alice, bob  bool
	}{
		"the zero principal":   {},
		"anyone":               {order.Anyone(), order.Permissions(), true, true},
		"an operator":          {order.Operator("admin"), order.Permissions(), true, true},
		"a customer":           {customer, customer.Permissions, true, false},
		"a service":            {shipper, shipper.Permissions, true, true},
		"nobody in particular": {who: nameless},
	} {
		require.Equal(t, c.alice, c.who.Reaches(alice), name)
		require.Equal(t, c.bob, c.who.Reaches(bob), name)
		require.False(t, order.Principal{Permissions: nameless.Permissions}.Reaches(""), "an order without a customer is nobody's")
		for _, permission := range order.Permissions() {
			err := c.who.Require(permission)
			if allowed := contains(c.permissions, permission); allowed {
				require.NoError(t, err, "%s, %s", name, permission)
				continue
			}
			require.ErrorIs(t, err, order.ErrPermission, "%s, %s", name, permission)
			require.Equal(t, fault.Refused, fault.KindOf(err))
		}
	}
	require.ErrorContains(t, shipper.Require(order.MayPay), "orders:pay")
	require.ErrorContains(t, nameless.Require(order.MayRead), "names no customer")
}

func contains(list []order.Permission, wanted order.Permission) bool {
	for _, permission := range list {
		if permission == wanted {
			return true
		}
	}
	return false
}
