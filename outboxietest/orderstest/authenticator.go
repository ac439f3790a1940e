package orderstest

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// TokenStore has the authenticator under test, and makes tokens that it accepts.
type TokenStore struct {
	Authenticator orders.Authenticator
	// Token makes a token for a principal.
	Token func(t *testing.T, who order.Principal) string
	// Forged are tokens that must not be accepted.
	Forged map[string]string
}

// TestAuthenticator checks what orders.Authenticator promises. open returns a store of its own.
func TestAuthenticator(t *testing.T, open func(t *testing.T) TokenStore) {
	check := contracttest.Runner(t, open)
	check("a token names its principal", namePrincipals)
	check("other tokens are refused", refuseTokens)
	check("callers at the same time get their own principals", nameAtTheSameTime)
}

func principals() []order.Principal {
	customer := value.CustomerID(newUUID())
	return []order.Principal{
		{Kind: order.KindCustomer, ID: string(customer), Customer: customer, Permissions: []order.Permission{order.MayPlace, order.MayRead, order.MayCancel}},
		{Kind: order.KindCustomer, ID: newUUID()},
		{Kind: order.KindService, ID: "warehouse é", Permissions: []order.Permission{order.MayShip, order.MayReachAll}},
	}
}

func namePrincipals(t *testing.T, s TokenStore) {
	for _, want := range principals() {
		if want.Kind == order.KindCustomer {
			want.Customer = value.CustomerID(want.ID)
		}
		got, err := s.Authenticator.Authenticate(t.Context(), s.Token(t, want))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func refuseTokens(t *testing.T, s TokenStore) {
	valid := s.Token(t, principals()[0])
	forged := map[string]string{"none": "", "a space": " ", "a word": "hunter2", "cut off": valid[:len(valid)/2], "too long": valid + "A", "twice": valid + " " + valid}
	for name, token := range s.Forged {
		forged[name] = token
	}
	for name, token := range forged {
		who, err := s.Authenticator.Authenticate(t.Context(), token)
		require.ErrorIs(t, err, orders.ErrToken, name)
		require.Zero(t, who, name)
		if token != "" && token != " " {
			require.NotContains(t, err.Error(), token, name)
		}
	}
}

func nameAtTheSameTime(t *testing.T, s TokenStore) {
	var group sync.WaitGroup
	for _, who := range principals() {
		token := s.Token(t, who)
		for range 10 {
			group.Go(func() {
				got, err := s.Authenticator.Authenticate(context.Background(), token)
				if err != nil || got.ID != who.ID {
					t.Errorf("got %v, %v; want %v", got, err, who)
				}
			})
		}
	}
	group.Wait()
}
