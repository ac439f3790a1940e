package orders

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
)

var (
	// ErrToken reports that a token is not accepted. The detail says why, without repeating the token.
	ErrToken = fault.New(fault.Refused, "invalid_token", "the token is not accepted")
	// ErrNoKeys reports that no token can be checked at the moment, because the keys of the issuer are not known yet.
	ErrNoKeys = fault.New(fault.Unavailable, "issuer_unavailable", "no token can be checked, because the keys of the issuer are not known yet")
)

// Authenticator finds out who sends a request. It is safe for concurrent use.
type Authenticator interface {
	// Authenticate returns the principal for whom the issuer made the token. It fails with ErrToken, also if token is empty, or with
	// ErrNoKeys. If ctx ends while Authenticate waits for the issuer, Authenticate fails with ErrNoKeys or with the error of ctx.
	Authenticate(ctx context.Context, token string) (order.Principal, error)
}
