package oidc_test

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/oidc"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestOperators checks what the scopes of an access token let an operator do, that the operator has the name and the end of the token, and that
// a refusal says why without repeating the token.
func TestOperators(t *testing.T) {
	issuer := infra.NewIssuer(t)
	operators := verifier(t, func(o *oidc.Options) { o.KeysFile = issuer.KeysFile() }).Operators()
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	for granted, want := range map[string]operations.Scope{
		"outboxie:read": operations.ScopeRead, "outboxie:write": operations.ScopeWrite, "outboxie:write openid outboxie:read": operations.ScopeWrite,
		"": "", "orders:any orders:read": "", "read write": "", "outboxie:Write outboxie:writex outboxie: outboxie": "",
	} {
		who, err := operators.Authenticate(t.Context(), issuer.Token("ada é", granted, jwt.MapClaims{"exp": until.Unix()}))
		require.NoError(t, err, granted)
		require.Equal(t, operations.Operator{Name: "ada é", Scope: want, Until: until}, who, granted)
	}
	claims := infra.Claims("ada", "outboxie:write")
	valid := issuer.Sign("ES256", "ES256", claims)
	claim := func(name string, value any) string {
		return issuer.Token("ada", "outboxie:write", jwt.MapClaims{name: value})
	}
	for token, says := range map[string]string{
		"": "not a JSON Web Token", "hunter2": "not a JSON Web Token", valid + "A": "signature",
		claim("exp", time.Now().Add(-time.Minute).Unix()): "expired",
		claim("exp", nil):                                  "lacks a claim",
		claim("aud", "billing"):                            "another audience",
		claim("iss", "https://evil.example"):               "another issuer",
		claim("sub", nil):                                  "sub must be",
		claim("sub", "ada\nmsg=audit"):                     "sub must be",
		infra.NewIssuer(t).Token("ada", "outboxie:write"):  "signature",
		issuer.Sign("none", "ES256", claims):               "algorithm",
		issuer.Sign("HS256", "ES256", claims):              "algorithm",
		issuer.Sign("ES256", "unknown-key", claims):        "does not publish",
		issuer.Sign("ES256", "ES256", claims, "crit", "x"): "cannot be verified",
	} {
		who, err := operators.Authenticate(t.Context(), token)
		require.ErrorIs(t, err, operations.ErrToken, says)
		require.ErrorContains(t, err, says)
		require.Zero(t, who)
		if token != "" {
			require.NotContains(t, err.Error(), token)
		}
	}
}

// TestOperatorsBeforeTheKeysAreKnown checks that an operator learns that the issuer is the reason why no token can be checked.
func TestOperatorsBeforeTheKeysAreKnown(t *testing.T) {
	issuer := infra.NewIssuer(t)
	issuer.SetDown(true)
	v, _ := fromURL(t, issuer)
	_, err := v.Operators().Authenticate(t.Context(), issuer.Token("ada", "outboxie:read"))
	require.ErrorIs(t, err, operations.ErrNoKeys)
}

// TestDevelopmentTokenOfAnOperator checks that a development key signs tokens for operators, which let nobody use orders.
func TestDevelopmentTokenOfAnOperator(t *testing.T) {
	folder := t.TempDir()
	key, err := oidc.MakeDevelopmentKey(folder)
	require.NoError(t, err)
	token, err := key.Sign(oidc.TokenRequest{
		Issuer: infra.IssuerName, Audience: infra.Audience, Principal: order.Principal{ID: "ada"}, Scope: operations.ScopeRead, Lifetime: time.Hour,
	}, time.Now())
	require.NoError(t, err)
	v := verifier(t, func(o *oidc.Options) { o.KeysFile = folder + "/" + oidc.KeySetFile })
	who, err := v.Operators().Authenticate(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, "ada", who.Name)
	require.Equal(t, operations.ScopeRead, who.Scope)
	principal, err := v.Authenticate(t.Context(), token)
	require.NoError(t, err)
	require.Empty(t, principal.Permissions)
}
