package main

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/oidc"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// TestToken checks that the command makes tokens that the API accepts with the settings in its help, and refuses flags that it cannot use.
func TestToken(t *testing.T) {
	const customer = "550e8400-e29b-41d4-a716-446655440000"
	folder := t.TempDir()
	environment := []string{"OUTBOXIE_DATA_DIR=" + folder}
	own := []order.Permission{order.MayPlace, order.MayRead, order.MayCancel}
	for name, c := range map[string]struct {
		args []string
		want order.Principal
	}{
		"a customer": {[]string{"--customer", strings.ToUpper(customer)}, order.Principal{Kind: order.KindCustomer, ID: customer, Customer: customer, Permissions: own}},
		"a service":  {[]string{"--service", "warehouse"}, order.Principal{Kind: order.KindService, ID: "warehouse", Permissions: order.Permissions()}},
		"few scopes": {
			[]string{"--service", "warehouse", "--scope", "orders:ship,orders:any"},
			order.Principal{Kind: order.KindService, ID: "warehouse", Permissions: []order.Permission{order.MayShip, order.MayReachAll}},
		},
	} {
		code, stdout, stderr := command(t, environment, append([]string{"token"}, c.args...)...)
		require.Equal(t, exitClean, code, stderr)
		verifier, err := oidc.New(oidc.Options{
			Issuer: developmentIssuer, Audience: developmentAudience, CustomerClaim: "sub", KeysFile: filepath.Join(folder, oidc.KeySetFile),
			Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		who, err := verifier.Authenticate(t.Context(), strings.TrimSpace(stdout))
		require.NoError(t, err, name)
		require.Equal(t, c.want, who, name)
	}
	for says, args := range map[string][]string{
		"--service NAME or --operator NAME": {},
		"--operator must be":                {"--operator", "ada lovelace"},
		`no scope "write,read"`:             {"--operator", "ada", "--scope", "write,read"},
		`no scope "outboxie:admin"`:         {"--operator", "ada", "--scope", "outboxie:admin"},
		"whom the token is for":             {"--customer", customer, "--service", "x"},
		"must be a UUID":                    {"--customer", "me"},
		"there is no scope":                 {"--service", "x", "--scope", "admin"},
		"at most 24h":                       {"--service", "x", "--lifetime", "25h"},
	} {
		code, stdout, stderr := command(t, environment, append([]string{"token"}, args...)...)
		require.Equal(t, exitUsage, code)
		require.Contains(t, stderr, says)
		require.Empty(t, stdout)
	}
}

// TestTokenOfAnOperator checks that the command makes tokens that the admin listener accepts, which may only read unless a flag says otherwise.
func TestTokenOfAnOperator(t *testing.T) {
	folder := t.TempDir()
	for scope, want := range map[string]operations.Scope{"": operations.ScopeRead, "--scope=read": operations.ScopeRead, "--scope=write": operations.ScopeWrite} {
		args := []string{"token", "--operator", "ada", "--lifetime", "10m"}
		if scope != "" {
			args = append(args, scope)
		}
		code, stdout, stderr := command(t, []string{"OUTBOXIE_DATA_DIR=" + folder}, args...)
		require.Equal(t, exitClean, code, stderr)
		verifier, err := oidc.New(oidc.Options{
			Issuer: developmentIssuer, Audience: developmentAudience, CustomerClaim: "sub", KeysFile: filepath.Join(folder, oidc.KeySetFile),
			Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		who, err := verifier.Operators().Authenticate(t.Context(), strings.TrimSpace(stdout))
		require.NoError(t, err)
		require.Equal(t, "ada", who.Name)
		require.Equal(t, want, who.Scope, scope)
		require.WithinDuration(t, time.Now().Add(10*time.Minute), who.Until, time.Minute)
	}
}

// TestServeNeedsAccess checks that an instance whose API others can reach does not start without an issuer or AUTH=off, and changes nothing.
func TestServeNeedsAccess(t *testing.T) {
	environment := []string{"DATABASE_URL=postgres://nobody@127.0.0.1:1/none", "HTTP_ADDR=0.0.0.0:0"}
	code, _, stderr := command(t, environment, "serve")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "AUTH is not set")
}
