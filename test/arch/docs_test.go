package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocsNameTestsThatExist checks that each test which the documentation names exists.
func TestDocsNameTestsThatExist(t *testing.T) {
	exist := testsIn(t, "../..")
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	decisions, err := filepath.Glob("../../docs/adr/*.md")
	require.NoError(t, err)
	for _, page := range append(append(pages, decisions...), "../../README.md", "../../SECURITY.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		require.Empty(t, missing(string(text), exist), page)
	}
	require.Equal(t, []string{"TestThatNobodyWrote", "TestOfNothing…"},
		missing("`TestThatNobodyWrote`, `TestModel`, `TestOfNothing…`, `TestMod…`", exist))
}

// TestEachLineOnSecurityHasATest checks that each row in the tables of docs/security.md names a test or a command.
func TestEachLineOnSecurityHasATest(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	require.NoError(t, err)
	var rows int
	for _, table := range regexp.MustCompile(`(?m)(?:^\|.*\n)+`).FindAllString(string(text), -1) {
		for _, row := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
			rows++
			require.Regexp(t, "`(Test|make )[^|]*\\|$", row)
		}
	}
	require.Greater(t, rows, 20)
}

// TestDecisionsAreListed checks that docs/adr/README.md lists each decision under its title, and that a title has at most ten words.
func TestDecisionsAreListed(t *testing.T) {
	decisions, err := filepath.Glob("../../docs/adr/0*.md")
	require.NoError(t, err)
	require.Greater(t, len(decisions), 30)
	list := readText(t, "../../docs/adr/README.md")
	for _, decision := range decisions {
		heading, _, _ := strings.Cut(readText(t, decision), "\n")
		number, title, numbered := strings.Cut(strings.TrimPrefix(heading, "# "), ". ")
		require.True(t, numbered, decision)
		require.LessOrEqual(t, len(strings.Fields(title)), 10, decision)
		require.Contains(t, list, "| ["+number+"]("+filepath.Base(decision)+") | "+title+" |\n")
	}
}

// TestEachSettingIsDocumented checks that the tables of docs/configuration.md have each variable that the program reads, and no other.
func TestEachSettingIsDocumented(t *testing.T) {
	names := func(file, pattern string) (found []string) {
		for _, name := range regexp.MustCompile(pattern).FindAllStringSubmatch(readText(t, file), -1) {
			found = append(found, name[1])
		}
		return found
	}
	var documented []string
	for line := range strings.Lines(readText(t, "../../docs/configuration.md")) {
		if cell, isRow := strings.CutPrefix(line, "| `"); isRow {
			cell, _, _ = strings.Cut(cell, " | ")
			documented = append(documented, strings.Split(strings.Trim(cell, "`"), "`, `")...)
		}
	}
	settings := names("../../internal/config/settings.go", `(?m)^\t\w+ +Name = "([A-Z_]+)"$`)
	require.Greater(t, len(settings), 30)
	require.ElementsMatch(t, append(settings, "OTEL_*"), documented)
}

// testsIn returns the names of the tests in all files under a folder, with any build tags.
func testsIn(t *testing.T, root string) (names []string) {
	t.Helper()
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, found := range declaration.FindAllStringSubmatch(string(text), -1) {
			names = append(names, found[1])
		}
		return err
	}))
	return names
}

// missing returns the tests that a text names and that do not exist. A name that ends with … stands for all names with that prefix.
func missing(text string, exist []string) (names []string) {
	for _, name := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*…?)`").FindAllStringSubmatch(text, -1) {
		prefix, several := strings.CutSuffix(name[1], "…")
		found := false
		for _, one := range exist {
			found = found || one == name[1] || several && strings.HasPrefix(one, prefix)
		}
		if !found {
			names = append(names, name[1])
		}
	}
	return names
}
