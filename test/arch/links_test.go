package arch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// link matches a link of Markdown to a file of this repository, not to another site.
var link = regexp.MustCompile(`\]\(([^)\s:]+)\)`)

// TestLinksLeadSomewhere checks that each link of a document leads to a file of the repository, and to a heading of it if the link names one.
func TestLinksLeadSomewhere(t *testing.T) {
	listed, err := exec.Command("git", "-C", "../..", "ls-files", "*.md").Output()
	require.NoError(t, err)
	links := 0
	for _, page := range strings.Fields(string(listed)) {
		page = filepath.Join("../..", page)
		for _, found := range link.FindAllStringSubmatch(withoutCode(readText(t, page)), -1) {
			links++
			require.Empty(t, deadLink(t, page, found[1]), "%s: %s", page, found[1])
		}
	}
	require.Greater(t, links, 100)
	for _, dead := range []string{"nowhere.md", "README.md#nothing-of-the-sort"} {
		require.NotEmpty(t, deadLink(t, "../../README.md", dead))
	}
}

// TestQuotedCodeExists checks that docs/follow-one-order.md quotes, line by line, code of a file to which the same section links.
func TestQuotedCodeExists(t *testing.T) {
	const page = "../../docs/follow-one-order.md"
	quoted := 0
	for _, section := range strings.Split(readText(t, page), "\n## ") {
		var code string
		for _, found := range link.FindAllStringSubmatch(section, -1) {
			if strings.HasSuffix(found[1], ".go") {
				code += readText(t, filepath.Join(filepath.Dir(page), found[1]))
			}
		}
		for _, fence := range regexp.MustCompile("(?ms)^```go\n(.*?)^```").FindAllStringSubmatch(section, -1) {
			for line := range strings.Lines(fence[1]) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), "...")
				require.True(t, strings.Contains(code, strings.TrimSpace(line)), "%s: no file of the section has %q", page, line)
				quoted++
			}
		}
	}
	require.Greater(t, quoted, 15)
}

// TestTheWalkOfAnOrderIsShort checks that docs/follow-one-order.md lists at most 40 files for the whole walk and at most 16 for its core, and no
// file twice. TestLinksLeadSomewhere checks that the files exist.
func TestTheWalkOfAnOrderIsShort(t *testing.T) {
	walk := readText(t, "../../docs/follow-one-order.md")
	_, lists, found := strings.Cut(walk, "### The core\n")
	require.True(t, found)
	core, rest, found := strings.Cut(lists, "### The rest\n")
	require.True(t, found)
	rest, _, _ = strings.Cut(rest, "\n## ")
	files := make(map[string]bool)
	opened := link.FindAllStringSubmatch(core+rest, -1)
	for _, file := range opened {
		require.False(t, files[file[1]], "%s is listed twice", file[1])
		files[file[1]] = true
	}
	require.LessOrEqual(t, len(link.FindAllString(core, -1)), 16)
	require.LessOrEqual(t, len(opened), 40)
	require.Greater(t, len(opened), 30)
	require.Contains(t, walk, fmt.Sprintf("These are the %d files", len(opened)))
	require.Contains(t, walk, fmt.Sprintf("The first %d show", len(link.FindAllString(core, -1))))
}

// deadLink returns what is wrong with a link, or an empty string.
func deadLink(t *testing.T, page, target string) string {
	t.Helper()
	file, heading, _ := strings.Cut(target, "#")
	path := page
	if file != "" {
		path = filepath.Join(filepath.Dir(page), file)
	}
	if _, err := os.Stat(path); err != nil {
		return err.Error()
	}
	if heading == "" || !strings.HasSuffix(path, ".md") {
		return ""
	}
	for line := range strings.Lines(withoutCode(readText(t, path))) {
		if title, is := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); is && strings.HasPrefix(line, "#") && anchor(title) == heading {
			return ""
		}
	}
	return "there is no such heading"
}

// withoutCode removes blocks of code, in which brackets and hashes mean something else.
func withoutCode(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(text, "")
}

// anchor returns the name that GitHub gives a heading.
func anchor(title string) string {
	title = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(strings.TrimSpace(title), "$1")
	title = regexp.MustCompile(`[^\p{L}\p{N}\s_-]`).ReplaceAllString(strings.ToLower(title), "")
	return strings.ReplaceAll(title, " ", "-")
}
