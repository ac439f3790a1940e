package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

var (
	// ErrToken reports that a token is not accepted. The detail says why, without repeating the token.
	ErrToken = fault.New(fault.Refused, "invalid_token", "the token is not accepted")
	// ErrNoKeys reports that no access token can be checked at the moment, because the keys of the issuer are not known yet.
	ErrNoKeys = fault.New(fault.Unavailable, "issuer_unavailable", "no access token can be checked, because the keys of the issuer are not known yet")
	// ErrScope reports that a token is accepted, and lacks the scope that the request needs.
	ErrScope = fault.New(fault.Refused, "insufficient_scope", "the token does not allow this")
)

// Scope is what an operator may do. The empty Scope allows nothing.
type Scope string

// The scopes.
const (
	ScopeRead  Scope = "read"  // see everything except profiles, and change nothing
	ScopeWrite Scope = "write" // see and change everything
)

// Allows reports whether an operator with the scope s may do what needs another scope. ScopeWrite includes ScopeRead.
func (s Scope) Allows(needed Scope) bool {
	return s == ScopeWrite || s == ScopeRead && needed == ScopeRead
}

// Claim returns the name that the scope has in access tokens.
func (s Scope) Claim() string { return "outboxie:" + string(s) }

// Operator is who sends a request to operate the relay and its subscribers, and what the operator may do. The zero Operator may do nothing.
type Operator struct {
	Name  string // unique at the issuer; empty: the token does not tell its holders apart
	Scope Scope
	Until time.Time // when the token expires; zero: never
}

// Actor names the operator for the audit. The kinds are those of CloudEvents' auth context. Only a name of the issuer has the kind user, so no
// name can be taken for another kind.
func (o Operator) Actor() (kind, name string) {
	switch {
	case o.Name != "":
		return "user", o.Name
	case o.Scope == ScopeWrite:
		return "api_key", "holder of the admin token"
	case o.Scope == ScopeRead:
		return "api_key", "holder of the read token"
	}
	return "unauthenticated", "nobody"
}

// Authenticator finds out which operator sends a request. It is safe for concurrent use.
type Authenticator interface {
	// Authenticate returns the operator for whom a token was made. If the token has no scope for operators, the operator has the empty
	// Scope. It fails with ErrToken, also if token is empty, or with ErrNoKeys. If ctx ends while Authenticate waits for the issuer,
	// Authenticate fails with ErrNoKeys or with the error of ctx.
	Authenticate(ctx context.Context, token string) (Operator, error)
}
