package memory

import (
	"context"
	"crypto/rand"
	"sync"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// Authenticator remembers the tokens that it has made.
type Authenticator struct {
	mu     sync.Mutex
	tokens map[string]order.Principal
}

var _ orders.Authenticator = (*Authenticator)(nil)

// NewAuthenticator returns an authenticator without tokens.
func NewAuthenticator() *Authenticator {
	return &Authenticator{tokens: make(map[string]order.Principal)}
}

// Token makes a token for a principal.
func (a *Authenticator) Token(who order.Principal) string {
	token := rand.Text()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens[token] = who
	return token
}

// Authenticate never fails with orders.ErrNoKeys.
func (a *Authenticator) Authenticate(_ context.Context, token string) (order.Principal, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	who, known := a.tokens[token]
	if !known {
		return order.Principal{}, orders.ErrToken
	}
	return who, nil
}
