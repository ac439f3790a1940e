package arch

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// pinned matches an action at a commit, with the version of that commit in a comment for people and dependabot.
var pinned = regexp.MustCompile(`^(- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)

// unpinned returns the lines of a workflow that use an action by a name, and the number of all uses. The action's author can move a name to
// other code.
func unpinned(workflow string) (lines []string, uses int) {
	for line := range strings.Lines(workflow) {
		line = strings.TrimSpace(line)
		if !regexp.MustCompile(`(^|[\s{,"'-])uses["']?\s*:`).MatchString(line) || strings.HasPrefix(line, "#") {
			continue
		}
		uses++
		if !pinned.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines, uses
}

// TestActionsArePinned checks that each workflow names its actions by commit, and that CI requires the database of vulnerabilities.
func TestActionsArePinned(t *testing.T) {
	files, err := filepath.Glob("../../.github/workflows/*.y*ml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		lines, uses := unpinned(string(text))
		require.Positive(t, uses, file)
		require.Empty(t, lines, "%s: name the commit, and the version in a comment", file)
	}
	require.Contains(t, readText(t, "../../.github/workflows/ci.yml"), "VULNDB: required")

	const sha = "34e114876b0b11c390a56381ad16ebd13914f8d5"
	for _, line := range []string{
		"- uses: actions/checkout@v4", "uses: actions/checkout@" + sha, "uses: actions/checkout@" + sha[1:] + " # v4.3.1", "- {uses: a/b@main}",
		`"uses": a/b@main`, "uses: docker://alpine", "uses: a/b@" + sha + " # v4",
	} {
		lines, _ := unpinned(line)
		require.NotEmpty(t, lines, line)
	}
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// TestDependabotKnowsEverything checks that dependabot looks into each folder with a file that names dependencies.
func TestDependabotKnowsEverything(t *testing.T) {
	var config struct {
		Updates []struct {
			Ecosystem   string `yaml:"package-ecosystem"`
			Directory   string
			Directories []string
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(readText(t, "../../.github/dependabot.yml")), &config))
	known := make(map[string]bool)
	for _, update := range config.Updates {
		for _, folder := range append(update.Directories, update.Directory) {
			known[update.Ecosystem+" "+folder] = folder != ""
		}
	}
	found := 0
	require.NoError(t, filepath.WalkDir("../..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if entry != nil && entry.Name() == "node_modules" {
				return fs.SkipDir
			}
			hidden := strings.HasPrefix(entry.Name(), ".") && strings.Trim(entry.Name(), ".") != ""
			if hidden && entry.Name() != ".github" && entry.Name() != ".devcontainer" {
				return fs.SkipDir
			}
			return err
		}
		folder := path.Join("/", filepath.ToSlash(strings.TrimPrefix(filepath.Dir(name), filepath.FromSlash("../.."))))
		var wanted string
		switch {
		case entry.Name() == "go.mod":
			wanted = "gomod " + folder
		case entry.Name() == "package.json":
			wanted = "npm " + folder
		case entry.Name() == "Dockerfile":
			wanted = "docker " + folder
		case strings.HasPrefix(entry.Name(), "compose.") && strings.HasSuffix(entry.Name(), "yaml"):
			wanted = "docker-compose " + folder
		case folder == "/.github/workflows":
			wanted = "github-actions /"
		default:
			return nil
		}
		found++
		require.True(t, known[wanted], "%s: dependabot.yml has no %q", name, wanted)
		return nil
	}))
	require.GreaterOrEqual(t, found, 8)
}
