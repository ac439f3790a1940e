package operations_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// onlyIssued is an issuer with one token.
type onlyIssued struct{}

var issued = operations.Operator{Name: "ada", Scope: operations.ScopeRead, Until: time.Unix(1_000_000_000, 0)}

func (onlyIssued) Authenticate(_ context.Context, token string) (operations.Operator, error) {
	if token == "issued" {
		return issued, nil
	}
	return operations.Operator{}, operations.ErrToken
}

// TestTokens checks which token gives which scope, also if some tokens are missing: an empty token is accepted from nobody.
func TestTokens(t *testing.T) {
	read, write, none := operations.Operator{Scope: operations.ScopeRead}, operations.Operator{Scope: operations.ScopeWrite}, operations.Operator{}
	for name, c := range map[string]struct {
		tokens operations.Tokens
		want   map[string]operations.Operator
	}{
		"all":         {operations.NewTokens("w", "r", onlyIssued{}), map[string]operations.Operator{"w": write, "r": read, "issued": issued, "": none, "wr": none}},
		"no issuer":   {operations.NewTokens("w", "r", nil), map[string]operations.Operator{"w": write, "r": read, "issued": none, "": none, "W": none}},
		"one token":   {operations.NewTokens("w", "", nil), map[string]operations.Operator{"w": write, "r": none, "": none}},
		"only read":   {operations.NewTokens("", "r", nil), map[string]operations.Operator{"w": none, "r": read, "": none}},
		"only issuer": {operations.NewTokens("", "", onlyIssued{}), map[string]operations.Operator{"issued": issued, "": none}},
		"nothing":     {operations.NewTokens("", "", nil), map[string]operations.Operator{"issued": none, "": none}},
	} {
		for token, want := range c.want {
			got, err := c.tokens.Authenticate(t.Context(), token)
			require.Equal(t, want, got, "%s: %q", name, token)
			require.Equal(t, want == none, err != nil, "%s: %q", name, token)
			if err != nil {
				require.ErrorIs(t, err, operations.ErrToken)
			}
		}
		require.Equal(t, name == "nothing", c.tokens.AcceptsNothing(), name)
	}
}

// TestScopes checks that write includes read, that read does not include write, and that the empty scope allows nothing.
func TestScopes(t *testing.T) {
	require.True(t, operations.ScopeWrite.Allows(operations.ScopeWrite))
	require.True(t, operations.ScopeWrite.Allows(operations.ScopeRead))
	require.True(t, operations.ScopeRead.Allows(operations.ScopeRead))
	for _, s := range []operations.Scope{"", "admin", operations.ScopeRead} {
		require.False(t, s.Allows(operations.ScopeWrite), s)
	}
	require.False(t, operations.Scope("").Allows(operations.ScopeRead))
}
