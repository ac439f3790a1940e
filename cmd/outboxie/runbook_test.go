package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// repository is the path from this package to the root of the repository.
const repository = "../.."

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, file))
	require.NoError(t, err)
	return string(text)
}

// sections are the third-level sections of the runbook, by their titles.
func sections(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, part := range strings.Split(read(t, "docs/runbook.md"), "\n### ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		text, _, _ = strings.Cut(text, "\n## ")
		require.NotContains(t, found, title)
		found[title] = text
	}
	return found
}

// TestRunbookIsComplete checks that exactly the alerts and the reasons to halt have a section. Each section says where to look, what the cause
// may be, what to do, and which tests have tried that. Each alert links to its section.
func TestRunbookIsComplete(t *testing.T) {
	var alerts struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "docker/prometheus/alerts.yml")), &alerts))
	var wanted []string
	for _, rule := range alerts.Groups[0].Rules {
		wanted = append(wanted, rule.Alert)
		_, anchor, _ := strings.Cut(rule.Annotations["runbook_url"], "/docs/runbook.md#")
		require.Equal(t, strings.ToLower(rule.Alert), anchor)
	}
	require.NotEmpty(t, wanted)
	for _, reason := range relay.HaltReasons() {
		wanted = append(wanted, string(reason))
	}
	found := sections(t)
	require.ElementsMatch(t, wanted, slices.Collect(maps.Keys(found)))
	for title, text := range found {
		text = strings.ToLower(text)
		for _, part := range []string{"**look**", "cause", "fix", "**tried by** `test"} {
			require.Contains(t, text, part, title)
		}
	}
}

// TestWhatTheDocumentsNameExists checks that the program accepts each command in the documents. It also checks that each metric
// in the operator's documents exists, and that a test has each incident and each damage.
func TestWhatTheDocumentsNameExists(t *testing.T) {
	commands, metrics := 0, metricNames(t)
	for _, role := range regexp.MustCompile(`TO (outboxie_[a-z]+);`).FindAllStringSubmatch(read(t, "docker/roles.sql"), -1) {
		metrics[role[1]] = true
	}
	for _, label := range []string{"outboxie_relay", "outboxie_stream"} { // of the relays of a process: TestForRelay
		metrics[label] = true
	}
	for _, document := range []string{"docs/runbook.md", "docs/metrics.md"} {
		text := read(t, document)
		for _, named := range regexp.MustCompile("`(TestAlerts|TestRepairs)` \\(\"([^\"]+)\"\\)").FindAllStringSubmatch(text, -1) {
			file := map[string]string{"TestAlerts": "test/e2e/incidents_test.go", "TestRepairs": "test/damage/kinds.go"}[named[1]]
			require.Regexp(t, `(?m)^\t+"`+regexp.QuoteMeta(named[2])+`": +\{`, read(t, file), document)
		}
		for _, name := range regexp.MustCompile("`((?:outboxie|messaging|db|http|go)_[a-z_]+)`").FindAllStringSubmatch(text, -1) {
			require.True(t, metrics[name[1]], "%s names the metric %s, which does not exist", document, name[1])
		}
	}
	for _, document := range []string{
		"README.md", "docs/runbook.md", "docs/metrics.md", "docs/operations.md", "docs/engine.md", "docs/external-effects.md",
		"docs/configuration.md", "docs/manual-test.md", "docs/guarantees.md", "docs/glossary.md", "docs/personal-data.md",
	} {
		for _, line := range regexp.MustCompile("(?m)(?:^|`)(?:bin/)?outboxie ([a-z][^`#\n]*)").FindAllStringSubmatch(read(t, document), -1) {
			requireCommand(t, strings.Fields(line[1]))
			commands++
		}
	}
	require.Greater(t, commands, 40)
}

// TestThePromisedTestsExist checks that every test that a document names exists.
func TestThePromisedTestsExist(t *testing.T) {
	tests := testNames(t)
	documents, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	require.NoError(t, err)
	decisions, err := filepath.Glob(filepath.Join(repository, "docs", "adr", "*.md"))
	require.NoError(t, err)
	named := 0
	for _, document := range append(append(documents, decisions...), filepath.Join(repository, "README.md")) {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`\b((?:Test|Benchmark)[A-Z]\w+)(…?)`).FindAllStringSubmatch(string(text), -1) {
			exists := tests[name[1]]
			for test := range tests { // Test…
				exists = exists || name[2] != "" && strings.HasPrefix(test, name[1])
			}
			require.True(t, exists, "%s names %s, which does not exist", document, name[0])
			named++
		}
	}
	require.Greater(t, named, 100)
}

// testNames returns the names of all tests and benchmarks.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)\w+)\(`)
	require.NoError(t, filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, declaration := range declared.FindAllSubmatch(text, -1) {
			names[string(declaration[1])] = true
		}
		return err
	}))
	return names
}

// metricNames returns the metrics and labels in the tables of docs/metrics.md. TestMetrics compares these tables with the program's
// metrics.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for line := range strings.Lines(read(t, "docs/metrics.md")) {
		if strings.HasPrefix(line, "| `") {
			for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(line, -1) {
				names[name[1]] = true
			}
		}
	}
	return names
}

// placeholders replaces each placeholder of a command with an example, as an operator would.
var placeholders = strings.NewReplacer(
	"sequence:N", "sequence:1", "position:N", "position:1", "TYPE/ID", "order/1", "order/ID", "order/1", "ORDER_ID", "order/1",
	"FILE", "billing.env", "NAME", "emails", "GROUP", "5917eeb97442", "TYPE", "outboxie.order.paid.v1", "CUSTOMER", "550e8400-e29b-41d4-a716-446655440000", "PLACE", "end", "ID", "an-id", "N", "1",
)

// requireCommand checks that the program accepts a command of a document when its placeholders, in capital letters, are replaced.
func requireCommand(t *testing.T, words []string) {
	t.Helper()
	for n, word := range words {
		words[n] = placeholders.Replace(word)
		require.NotRegexp(t, `[A-Z]{2}`, words[n], "%s: nobody knows what to fill in", words)
	}
	command, rest, err := (&program{}).command().Find(words)
	require.NoError(t, err, words)
	require.NoError(t, command.ParseFlags(rest), words)
	if command.HasSubCommands() {
		require.Empty(t, command.Flags().Args(), "%s needs a subcommand", words)
		return
	}
	require.NoError(t, command.ValidateArgs(command.Flags().Args()), words)
	to := command.Flags().Lookup("to")
	if to != nil && to.Changed && (command.Name() == "rewind" || command.Name() == "skip") {
		_, err := wording.ParseMoveTarget(to.Value.String())
		require.NoError(t, err, words)
	}
}
