package console

import (
	"maps"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// Actions returns the names of all actions.
func (c *Console) Actions() []string { return slices.Sorted(maps.Keys(c.actions)) }

// SessionOf returns the cookie of a session that may write, made by somebody who knows two tokens.
func SessionOf(token, readToken string, until time.Time) string {
	return newCookies(token, readToken).session(operations.Operator{Scope: operations.ScopeWrite, Until: until})
}

// Templates returns the names of the templates of pages.
func Templates() []string { return slices.Sorted(maps.Keys(parsePages())) }
