package oidc

import (
	"context"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// operators accepts the access tokens of operators.
type operators struct{ verifier *Verifier }

var _ operations.Authenticator = operators{}

// Operators returns an authenticator of operators. It accepts the tokens that v accepts. What the operator may do is in the same claims as the
// scopes of principals.
func (v *Verifier) Operators() operations.Authenticator { return operators{v} }

func (o operators) Authenticate(ctx context.Context, token string) (operations.Operator, error) {
	claims, known, err := o.verifier.verify(ctx, token)
	switch {
	case err != nil && !known:
		return operations.Operator{}, operations.ErrNoKeys
	case err != nil:
		return operations.Operator{}, operations.ErrToken.With("%s", reason(err)).Wrap(err)
	}
	name, valid := subject(claims)
	if !valid {
		return operations.Operator{}, operations.ErrToken.With("%s", wrongSubject)
	}
	until, err := claims.GetExpirationTime()
	if err != nil || until == nil {
		return operations.Operator{}, operations.ErrToken.With("the token's exp cannot be read")
	}
	who := operations.Operator{Name: name, Until: until.Time}
	granted := scopes(claims)
	for _, scope := range []operations.Scope{operations.ScopeRead, operations.ScopeWrite} { // the last one includes the first one
		if slices.Contains(granted, scope.Claim()) {
			who.Scope = scope
		}
	}
	return who, nil
}
