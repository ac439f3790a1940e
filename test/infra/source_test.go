package infra

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSourceStrings checks that a text of the program is found, and that a text in a comment or in a test is not.
func TestSourceStrings(t *testing.T) {
	all, err := sourceStrings()
	require.NoError(t, err)
	require.Equal(t, []string{"drain publishes the entries", "a text of this test only"},
		missingIn(all, []string{"relay halted", "drain publishes the entries", "a text of this test only"}))
	RequireInSource(t, "relay halted")
}
