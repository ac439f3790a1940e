//go:build rename

// Package rename_test renames a copy of the repository, as docs/your-own-service.md tells, and builds and tests the copy.
package rename_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var all = flag.Bool("all", false, "run lint, every test and the demo in the copy, and try each deletion (make test-rename)")

// in runs a command in a folder, and returns its output.
func in(t *testing.T, folder, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir = folder
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", name, strings.Join(args, " "), output)
	return string(output)
}

// copyOf commits a copy of the files of a repository in a new folder.
func copyOf(t *testing.T, repository string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.Mkdir(folder, 0o700))
	files := in(t, repository, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for _, file := range strings.Split(strings.TrimRight(files, "\x00"), "\x00") {
		from, to := filepath.Join(repository, file), filepath.Join(folder, file)
		info, err := os.Stat(from)
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		require.NoError(t, err)
		content, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o700))
		require.NoError(t, os.WriteFile(to, content, info.Mode().Perm()))
	}
	in(t, folder, "git", "init", "--quiet")
	commit(t, folder)
	return folder
}

func commit(t *testing.T, folder string) {
	t.Helper()
	in(t, folder, "git", "add", "--all")
	in(t, folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false", "commit", "--quiet", "--message", "copy")
}

func renamed(t *testing.T) string {
	t.Helper()
	folder := copyOf(t, "../..")
	in(t, folder, "make", "rename", "MODULE=example.com/acme/billing", "NAME=billing", "AGGREGATE=invoice")
	commit(t, folder)
	return folder
}

// TestRename checks that a renamed copy is a project of its own: its names are the new ones, its generated code is up to date, and it passes vet
// and its tests. With -all it also passes lint and every test, and its demo succeeds.
func TestRename(t *testing.T) {
	engine := engineNames(t)
	folder := renamed(t)
	requireNames(t, folder, engine)
	in(t, folder, "go", "generate", "./...")
	require.Empty(t, in(t, folder, "git", "status", "--porcelain"), "generated code is up to date")
	in(t, folder, "make", "cli-docs") // the flags have another alphabetical order
	if *all {
		in(t, folder, "make", "lint", "test", "demo-local")
		return
	}
	in(t, folder, "go", "vet", "-tags", "jaeger,scale", "./...")
	in(t, folder, "go", "tool", "-modfile=tools/go.mod", "golangci-lint", "run")
	for _, packages := range [][]string{
		{"./test/arch", "./internal/domain/...", "./internal/config", "./internal/adapters/codec", "./internal/adapters/memory", "./cmd/billing"},
		{"./internal/app/relaying", "./internal/app/subscribing", "-skip", "Model|Mutant|TestTwoLeaders"}, // the models take minutes
		{"./internal/app/invoicing", "./internal/app/operating", "./internal/app/fulfilling", "./internal/app/totals", "./internal/app/notifying"},
		{"./internal/adapters/postgres", "-run", "^TestUnitOfWork$"},
		{"./test/e2e", "-run", "^TestAnInvoicesLife$"},
	} {
		in(t, folder, "go", append([]string{"test", "-count=1"}, packages...)...)
	}
}

// engineNames returns the patterns of the names that stay, from engine.txt.
func engineNames(t *testing.T) (names []*regexp.Regexp) {
	t.Helper()
	text, err := os.ReadFile("../../tools/rename/engine.txt")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if pattern, found := strings.CutPrefix(strings.TrimSpace(line), "keep "); found {
			names = append(names, regexp.MustCompile(pattern))
		}
	}
	require.NotEmpty(t, names)
	return names
}

// requireNames requires that the copy has no name of the old service, except in the license, the changelog, and the engine's public packages, and
// that no word has the wrong article.
func requireNames(t *testing.T, folder string, engine []*regexp.Regexp) {
	t.Helper()
	old := regexp.MustCompile(`(?i)outboxie`)
	wrong := regexp.MustCompile(`\b[Aa] invoice|outboxie\.order|order\.created|assylzhan|/orders\b|\bORDERS\b|\ban (billing|Billing)`)
	files := strings.Fields(in(t, folder, "git", "ls-files", "--", ".", ":!LICENSE", ":!CHANGELOG.md", ":!*.go.sum", ":!examples", ":!outboxiefx", ":(exclude,glob)*.go"))
	require.Greater(t, len(files), 900)
	for _, file := range files {
		require.NotRegexp(t, `(?i)(^|/)orders?([^a-z]|$)|_orders?_`, file)
		content, err := os.ReadFile(filepath.Join(folder, file))
		require.NoError(t, err)
		if strings.Contains(string(content), "\x00") || strings.HasSuffix(file, ".min.js") || strings.HasSuffix(file, "LICENSE") {
			continue
		}
		for number, line := range strings.Split(string(content), "\n") {
			where := fmt.Sprintf("%s:%d: %s", file, number+1, line)
			require.NotRegexp(t, wrong, line, where)
			for _, name := range engine {
				line = name.ReplaceAllString(line, "")
			}
			require.NotRegexp(t, old, line, where)
		}
	}
}

// block is a fenced block of docs/your-own-service.md below a line such as <!-- test: delete-checker after delete-demo -->.
var block = regexp.MustCompile("(?s)<!-- test: ([a-z-]+)(?: after ([a-z-]+))? -->\n```\n(.*?)```")

// TestDeletions checks that each deletion of docs/your-own-service.md leaves a renamed copy that builds and passes its tests.
func TestDeletions(t *testing.T) {
	text, err := os.ReadFile("../../docs/your-own-service.md")
	require.NoError(t, err)
	found := block.FindAllStringSubmatch(string(text), -1)
	require.Len(t, found, 5)
	if !*all {
		return
	}
	original := renamed(t)
	text, err = os.ReadFile(filepath.Join(original, "docs/your-own-service.md"))
	require.NoError(t, err)
	commands := make(map[string]string)
	for _, b := range block.FindAllStringSubmatch(string(text), -1) {
		commands[b[1]] = commands[b[2]] + b[3]
	}
	require.Len(t, commands, len(found))
	for name, script := range commands {
		t.Run(name, func(t *testing.T) {
			folder := copyOf(t, original)
			in(t, folder, "bash", "-euo", "pipefail", "-c", script)
			commit(t, folder)
			in(t, folder, "go", "build", "./...")
			in(t, folder, "go", "vet", "-tags", "jaeger,scale", "./...")
			in(t, folder, "go", "test", "./test/arch", "./internal/domain/...", "./internal/config", "./internal/engine/...", "./cmd/...")
		})
	}
}
