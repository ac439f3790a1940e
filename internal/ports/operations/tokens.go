package operations

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
)

// Tokens accepts one token for each scope, which all operators with that scope share. An empty token is accepted from nobody. All other tokens
// are the issuer's to judge, if there is one.
type Tokens struct {
	write, read *[sha256.Size]byte // a hash has a fixed length, so a comparison tells nothing about the token; nil: there is no such token
	issuer      Authenticator
}

var _ Authenticator = Tokens{}

// NewTokens returns an Authenticator for the two tokens. issuer may be nil.
func NewTokens(write, read string, issuer Authenticator) Tokens {
	return Tokens{write: hashed(write), read: hashed(read), issuer: issuer}
}

func hashed(token string) *[sha256.Size]byte {
	if token == "" {
		return nil
	}
	hash := sha256.Sum256([]byte(token))
	return &hash
}

// HasIssuer reports whether access tokens are accepted, too.
func (t Tokens) HasIssuer() bool { return t.issuer != nil }

// AcceptsNothing reports whether every token is refused.
func (t Tokens) AcceptsNothing() bool { return t.write == nil && t.read == nil && t.issuer == nil }

// Authenticate takes the same time for every token that is not an access token.
func (t Tokens) Authenticate(ctx context.Context, token string) (Operator, error) {
	sent := sha256.Sum256([]byte(token))
	write, read := equal(sent, t.write), equal(sent, t.read)
	switch {
	case write:
		return Operator{Scope: ScopeWrite}, nil
	case read:
		return Operator{Scope: ScopeRead}, nil
	case t.issuer == nil:
		return Operator{}, ErrToken
	}
	return t.issuer.Authenticate(ctx, token)
}

func equal(sent [sha256.Size]byte, kept *[sha256.Size]byte) bool {
	return kept != nil && subtle.ConstantTimeCompare(sent[:], kept[:]) == 1
}
