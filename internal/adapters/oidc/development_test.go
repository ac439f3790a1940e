package oidc_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/oidc"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestDevelopmentKey checks that the key is made once, that only its user can read it, and that a verifier accepts its tokens until they expire.
func TestDevelopmentKey(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data")
	_, err := oidc.MakeDevelopmentKey(folder)
	require.NoError(t, err)
	key, err := oidc.MakeDevelopmentKey(folder)
	require.NoError(t, err)
	info, err := os.Stat(filepath.Join(folder, "auth-key.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	public, err := os.ReadFile(filepath.Join(folder, oidc.KeySetFile))
	require.NoError(t, err)
	require.NotContains(t, string(public), `"d"`, "the public file has no secret")

	v := verifier(t, func(o *oidc.Options) {
		o.KeysFile, o.CustomerClaim = filepath.Join(folder, oidc.KeySetFile), "customer_id"
	})
	who := order.Principal{Kind: order.KindCustomer, ID: "me", Customer: customer, Permissions: []order.Permission{order.MayPlace, order.MayRead}}
	request := oidc.TokenRequest{
		Issuer: infra.IssuerName, Audience: infra.Audience, CustomerClaim: "customer_id", Principal: who, Lifetime: time.Hour,
	}
	token, err := key.Sign(request, time.Now())
	require.NoError(t, err)
	read, err := v.Authenticate(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, who, read)
	token, err = key.Sign(request, time.Now().Add(-2*time.Hour))
	require.NoError(t, err)
	_, err = v.Authenticate(t.Context(), token)
	require.ErrorIs(t, err, orders.ErrToken)
}

// TestDevelopmentKeyOfOthers checks that a file that others can read, or that holds no key, is not used.
func TestDevelopmentKeyOfOthers(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "auth-key.json")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	_, err := oidc.MakeDevelopmentKey(folder)
	require.ErrorContains(t, err, "does not hold a key")
	require.NoError(t, os.Remove(file))
	_, err = oidc.MakeDevelopmentKey(folder)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(file, 0o644))
	_, err = oidc.MakeDevelopmentKey(folder)
	require.ErrorContains(t, err, "other users may read")
}
