package console_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestScriptIsThePinnedOne checks that the script of another project has the committed checksum, and that the Makefile names its version.
func TestScriptIsThePinnedOne(t *testing.T) {
	sums, err := os.ReadFile("htmx.sha256")
	require.NoError(t, err)
	var checked []string
	for line := range strings.Lines(string(sums)) {
		sum, file, found := strings.Cut(strings.TrimSpace(line), "  ")
		require.True(t, found, line)
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, sum, fmt.Sprintf("%x", sha256.Sum256(content)), "%s is another file: look at it, then change its checksum", file)
		checked = append(checked, file)
	}
	present, err := filepath.Glob("static/htmx*")
	require.NoError(t, err)
	require.ElementsMatch(t, present, checked)
	script, err := os.ReadFile("static/htmx.min.js")
	require.NoError(t, err)
	makefile, err := os.ReadFile("../../../Makefile")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(makefile), "htmx.org@")
	require.True(t, found)
	version, _, _ := strings.Cut(rest, "\n")
	require.Contains(t, string(script), `version:"`+version+`"`)
}
