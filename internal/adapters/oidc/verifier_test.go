package oidc_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assylzhan-a/outboxie/internal/adapters/oidc"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/outboxietest/orderstest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	customer = "550e8400-e29b-41d4-a716-446655440000"
	scope    = "openid orders:read orders:place"
)

func verifier(t testing.TB, change func(*oidc.Options)) *oidc.Verifier {
	t.Helper()
	options := oidc.Options{
		Issuer: infra.IssuerName, Audience: infra.Audience, CustomerClaim: "sub", Logger: slog.New(slog.DiscardHandler),
	}
	change(&options)
	v, err := oidc.New(options)
	require.NoError(t, err)
	return v
}

func TestVerifierKeepsTheContract(t *testing.T) {
	orderstest.TestAuthenticator(t, func(t *testing.T) orderstest.TokenStore {
		t.Helper()
		issuer := infra.NewIssuer(t)
		token := func(_ *testing.T, who order.Principal) string {
			var scopes []string
			for _, permission := range who.Permissions {
				scopes = append(scopes, string(permission))
			}
			return issuer.Token(who.ID, strings.Join(scopes, " "))
		}
		valid := issuer.Token(customer, scope)
		parts := strings.Split(valid, ".")
		other := strings.Split(issuer.Token(customer, "orders:any"), ".")
		return orderstest.TokenStore{
			Authenticator: verifier(t, func(o *oidc.Options) { o.KeysFile = issuer.KeysFile() }), Token: token,
			Forged: map[string]string{
				"other claims":   parts[0] + "." + other[1] + "." + parts[2],
				"no signature":   parts[0] + "." + parts[1] + ".",
				"another issuer": infra.NewIssuer(t).Token(customer, scope),
			},
		}
	})
}

// TestTokens checks which tokens are accepted, with each algorithm, and that a refusal says why.
func TestTokens(t *testing.T) {
	issuer := infra.NewIssuer(t)
	v := verifier(t, func(o *oidc.Options) { o.KeysFile = issuer.KeysFile() })
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	claims := func(name string, value any) string { return issuer.Token(customer, scope, jwt.MapClaims{name: value}) }
	for name, c := range map[string]struct{ token, refused string }{
		"RS256":                      {issuer.Sign("RS256", "RS256", infra.Claims(customer, scope)), ""},
		"ES256":                      {issuer.Sign("ES256", "ES256", infra.Claims(customer, scope)), ""},
		"EdDSA":                      {issuer.Sign("EdDSA", "EdDSA", infra.Claims(customer, scope)), ""},
		"without a key id":           {issuer.Sign("ES256", "", infra.Claims(customer, scope)), ""},
		"several audiences":          {claims("aud", []string{"x", infra.Audience}), ""},
		"expired within the leeway":  {claims("exp", in(-20*time.Second)), ""},
		"valid from soon":            {claims("nbf", in(20*time.Second)), ""},
		"none":                       {issuer.Sign("none", "ES256", infra.Claims(customer, scope)), "algorithm"},
		"HS256":                      {issuer.Sign("HS256", "ES256", infra.Claims(customer, scope)), "algorithm"},
		"RS512":                      {issuer.Sign("RS512", "RS256", infra.Claims(customer, scope)), "algorithm"},
		"a key of another algorithm": {issuer.Sign("ES256", "RS256", infra.Claims(customer, scope)), "does not publish"},
		"an unknown key":             {issuer.Sign("ES256", "other", infra.Claims(customer, scope)), "does not publish"},
		"a critical header":          {issuer.Sign("ES256", "ES256", infra.Claims(customer, scope), "crit", "x"), "cannot be verified"},
		"expired":                    {claims("exp", in(-40*time.Second)), "expired"},
		"never expires":              {claims("exp", nil), "lacks a claim"},
		"valid later":                {claims("nbf", in(40*time.Second)), "not valid yet"},
		"another audience":           {claims("aud", "billing"), "audience"},
		"no audience":                {claims("aud", nil), "lacks a claim"},
		"another issuer":             {claims("iss", infra.IssuerName+"/"), "issuer"},
		"no issuer":                  {claims("iss", nil), "lacks a claim"},
		"no subject":                 {claims("sub", nil), "sub must"},
		"a long subject":             {claims("sub", strings.Repeat("x", 256)), "sub must"},
		"a subject with a line":      {claims("sub", "a\nNats-Msg-Id: 1"), "sub must"},
		"a number as its subject":    {claims("sub", 7), "sub must"},
	} {
		who, err := v.Authenticate(t.Context(), c.token)
		if c.refused == "" {
			require.NoError(t, err, name)
			require.Equal(t, order.Principal{
				Kind: order.KindCustomer, ID: customer, Customer: customer, Permissions: []order.Permission{order.MayPlace, order.MayRead},
			}, who, name)
			continue
		}
		require.ErrorIs(t, err, orders.ErrToken, name)
		require.ErrorContains(t, err, c.refused, name)
		require.Zero(t, who, name)
	}
}

// TestPrincipalsOfTokens checks which principal the claims name.
func TestPrincipalsOfTokens(t *testing.T) {
	issuer := infra.NewIssuer(t)
	v := verifier(t, func(o *oidc.Options) { o.KeysFile, o.CustomerClaim = issuer.KeysFile(), "customer_id" })
	read := []order.Permission{order.MayRead}
	for name, c := range map[string]struct {
		scope string
		more  jwt.MapClaims
		want  order.Principal
	}{
		"a customer":           {"orders:read", jwt.MapClaims{"customer_id": strings.ToUpper(customer)}, order.Principal{Kind: order.KindCustomer, Customer: customer, Permissions: read}},
		"without a customer":   {"orders:read", nil, order.Principal{Kind: order.KindCustomer, Permissions: read}},
		"no UUID":              {"orders:read", jwt.MapClaims{"customer_id": "me"}, order.Principal{Kind: order.KindCustomer, Permissions: read}},
		"other scopes":         {"orders orders:Read orders:readx", nil, order.Principal{Kind: order.KindCustomer}},
		"a list of scopes":     {"", jwt.MapClaims{"scope": nil, "scp": []string{"orders:read", "x"}}, order.Principal{Kind: order.KindCustomer, Permissions: read}},
		"a scope of no kind":   {"", jwt.MapClaims{"scope": 7}, order.Principal{Kind: order.KindCustomer}},
		"a service's customer": {"orders:read orders:any", jwt.MapClaims{"customer_id": customer}, order.Principal{Kind: order.KindService, Permissions: append(read, order.MayReachAll)}},
	} {
		c.want.ID = "somebody"
		who, err := v.Authenticate(t.Context(), issuer.Token("somebody", c.scope, c.more))
		require.NoError(t, err, name)
		require.Equal(t, c.want, who, name)
	}
}

// TestStartsWithoutTheIssuer checks that a verifier starts while the issuer is down, says so to clients, and accepts tokens when the issuer is
// back.
func TestStartsWithoutTheIssuer(t *testing.T) {
	issuer := infra.NewIssuer(t)
	issuer.SetDown(true)
	v, _ := fromURL(t, issuer)
	token := issuer.Token(customer, scope)
	_, err := v.Authenticate(t.Context(), token)
	require.ErrorIs(t, err, orders.ErrNoKeys)
	_, err = v.Authenticate(t.Context(), "nonsense")
	require.ErrorIs(t, err, orders.ErrToken, "nonsense needs no key")
	issuer.SetDown(false)
	require.Eventually(t, func() bool { _, err := v.Authenticate(t.Context(), token); return err == nil }, 10*time.Second, 20*time.Millisecond)

	issuer.SetDown(true)
	_, err = v.Authenticate(t.Context(), token)
	require.NoError(t, err, "known keys are used during an outage")
}

// TestNewKeys checks that a token with a new key makes the verifier read the keys again, and that tokens with unknown keys cannot make it read
// them often.
func TestNewKeys(t *testing.T) {
	issuer := infra.NewIssuer(t)
	v, logged := fromURL(t, issuer)
	logged.waitFor(t, "are read")
	before := issuer.Requests()

	issuer.AddKey("EdDSA", "new")
	issuer.Withdraw("RS256")
	_, err := v.Authenticate(t.Context(), issuer.Sign("EdDSA", "new", infra.Claims(customer, scope)))
	require.NoError(t, err)
	_, err = v.Authenticate(t.Context(), issuer.Sign("RS256", "RS256", infra.Claims(customer, scope)))
	require.ErrorIs(t, err, orders.ErrToken, "the issuer has withdrawn the key")
	for range 100 {
		_, err := v.Authenticate(t.Context(), issuer.Sign("EdDSA", "unknown", infra.Claims(customer, scope)))
		require.ErrorIs(t, err, orders.ErrToken)
	}
	require.Equal(t, before+1, issuer.Requests())
}

// fromURL returns a verifier that runs, and gets its keys from the issuer by HTTP. Its log is in the buffer.
func fromURL(t *testing.T, issuer *infra.Issuer) (*oidc.Verifier, *logBuffer) {
	t.Helper()
	server := httptest.NewServer(issuer)
	t.Cleanup(server.Close)
	logged := new(logBuffer)
	v := verifier(t, func(o *oidc.Options) { o.KeysURL, o.Logger = server.URL, slog.New(slog.NewTextHandler(logged, nil)) })
	runs(t, v)
	return v, logged
}

// runs lets the verifier run until the test ends.
func runs(t *testing.T, v *oidc.Verifier) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

// TestKeySets checks which key sets are refused: a program with such a file does not start.
func TestKeySets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	for name, text := range map[string]string{
		"empty":             "",
		"no JSON":           "keys",
		"no keys":           `{"keys": []}`,
		"a shared secret":   `{"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}`,
		"a small RSA key":   `{"keys": [{"kty": "RSA", "e": "AQAB", "n": "` + strings.Repeat("q", 171) + `"}]}`,
		"to encrypt":        strings.ReplaceAll(string(infra.NewIssuer(t).KeySet()), `"sig"`, `"enc"`),
		"another algorithm": strings.NewReplacer(`"kid":"RS256"`, `"alg":"RS512"`, `"kid":"ES256"`, `"alg":"ES384"`, `"kid":"EdDSA"`, `"alg":"RS256"`).Replace(string(infra.NewIssuer(t).KeySet())),
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := oidc.New(oidc.Options{Issuer: "i", Audience: "a", KeysFile: file, Logger: slog.New(slog.DiscardHandler)})
		require.ErrorContains(t, err, "read the keys of the issuer", name)
	}
}

// BenchmarkAuthenticate measures the check of a token with a known key, for each algorithm.
func BenchmarkAuthenticate(b *testing.B) {
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		b.Run(algorithm, func(b *testing.B) {
			issuer := infra.NewIssuer(b)
			v := verifier(b, func(o *oidc.Options) { o.KeysFile = issuer.KeysFile() })
			token := issuer.Sign(algorithm, algorithm, infra.Claims(customer, scope))
			for b.Loop() {
				if _, err := v.Authenticate(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
