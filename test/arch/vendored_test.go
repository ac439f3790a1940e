package arch

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// vendored are the scripts of other projects in this repository: the file with their checksums, and the files that it has to list.
var vendored = map[string]string{
	"internal/adapters/httpapi/openapi-explorer.sha256": "docs/*",
	"internal/adapters/console/htmx.sha256":             "static/htmx*",
	"test/pages/axe.sha256":                             "testdata/*",
}

// TestScriptsAreThePinnedOnes checks that each script of another project has the committed checksum, that no script lacks one, and that the
// Makefile names the version which the script itself names.
func TestScriptsAreThePinnedOnes(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	versions := regexp.MustCompile(`[a-z.-]+@(\d+\.\d+\.\d+)`).FindAllStringSubmatch(string(makefile), -1)
	require.Len(t, versions, len(vendored), "the Makefile fetches each of them")
	var scripts strings.Builder
	for sums, files := range vendored {
		folder := filepath.Join("../..", filepath.Dir(sums))
		list, err := os.ReadFile(filepath.Join("../..", sums))
		require.NoError(t, err)
		var checked []string
		for line := range strings.Lines(string(list)) {
			sum, file, found := strings.Cut(strings.TrimSpace(line), "  ")
			require.True(t, found, line)
			content, err := os.ReadFile(filepath.Join(folder, file))
			require.NoError(t, err)
			require.Equal(t, sum, fmt.Sprintf("%x", sha256.Sum256(content)), "%s is another file: look at it, then change its checksum", file)
			checked = append(checked, filepath.Join(folder, file))
			scripts.Write(content)
		}
		present, err := filepath.Glob(filepath.Join(folder, files))
		require.NoError(t, err)
		require.ElementsMatch(t, present, checked)
	}
	for _, version := range versions {
		require.Contains(t, scripts.String(), version[1], version[0])
	}
}
