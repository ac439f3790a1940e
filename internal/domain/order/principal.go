package order

import (
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

// ErrPermission reports that the principal lacks the permission for a request.
var ErrPermission = fault.New(fault.Refused, "insufficient_scope", "the token does not allow this")

// Permission allows one kind of request. A scope of an access token with the same name grants it.
type Permission string

// The permissions.
const (
	MayPlace  Permission = "orders:place"
	MayRead   Permission = "orders:read"
	MayCancel Permission = "orders:cancel"
	MayPay    Permission = "orders:pay"
	MayShip   Permission = "orders:ship"
	// MayReachAll extends the other permissions to the orders of all customers.
	MayReachAll Permission = "orders:any"
)

// Permissions returns all permissions.
func Permissions() []Permission {
	return []Permission{MayPlace, MayRead, MayCancel, MayPay, MayShip, MayReachAll}
}

// PrincipalKind is the kind of a principal, in the words of CloudEvents' auth context.
type PrincipalKind string

// The kinds of principals.
const (
	KindAnyone   PrincipalKind = "unauthenticated" // nobody checks who sends requests
	KindCustomer PrincipalKind = "app_user"        // reaches the orders of one customer
	KindService  PrincipalKind = "service_account" // reaches the orders of all customers
	KindOperator PrincipalKind = "user"            // a person who operates this service
	KindShared   PrincipalKind = "api_key"         // somebody with a token that does not tell its holders apart
)

// Principal is who sends a request, and what the principal may do. The zero Principal may do nothing.
type Principal struct {
	Kind        PrincipalKind
	ID          string           // unique among the principals of its kind; empty: not known
	Customer    value.CustomerID // the customer whose orders the principal reaches; not used with MayReachAll
	Permissions []Permission
}

// Anyone returns the principal of every request if nobody checks who sends requests. It may do everything.
func Anyone() Principal { return Principal{Kind: KindAnyone, Permissions: Permissions()} }

// Operator returns the principal of a person who operates this service. It may do everything.
func Operator(id string) Principal {
	return Principal{Kind: KindOperator, ID: id, Permissions: Permissions()}
}

// SharedToken returns the principal of somebody who has the token that all operators share. id says where it is used. It may do everything.
func SharedToken(id string) Principal {
	return Principal{Kind: KindShared, ID: id, Permissions: Permissions()}
}

// May reports whether the principal has a permission.
func (p Principal) May(permission Permission) bool { return slices.Contains(p.Permissions, permission) }

// Require returns an ErrPermission if the principal lacks the permission, or reaches no orders at all.
func (p Principal) Require(permission Permission) error {
	switch {
	case !p.May(permission):
		return ErrPermission.With("the request needs the scope %s, which the token does not have", permission)
	case !p.May(MayReachAll) && p.Customer == "":
		return ErrPermission.With("the token names no customer, and does not have the scope %s", MayReachAll)
	}
	return nil
}

// Reaches reports whether the orders of a customer exist for the principal.
func (p Principal) Reaches(customer value.CustomerID) bool {
	return p.May(MayReachAll) || p.Customer != "" && p.Customer == customer
}
