// Package library tests the public packages as another module uses them, with the code of docs/library.md.
package library

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

var (
	goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```$") // a block of Go in a document
	indent  = regexp.MustCompile(`(?m)^\t+`)
)

// TestDocumentedParts checks that each block of Go in docs/library.md which is not a whole file is a part of an Example. Examples compile with
// the tests.
func TestDocumentedParts(t *testing.T) {
	var examples strings.Builder
	for _, pattern := range []string{"../../example*_test.go", "../../outboxiefx/example*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			examples.WriteString(indent.ReplaceAllString(read(t, file), ""))
		}
	}
	var parts int
	for _, code := range blocks(t) {
		if !strings.HasPrefix(code, "package ") {
			parts++
			require.Contains(t, examples.String(), indent.ReplaceAllString(code, ""))
		}
	}
	require.Equal(t, 2, parts)
}

// TestForeignModule checks that another module can use the public packages: it compiles the program of docs/library.md, and runs the test of
// that page with an embedded Postgres and an embedded NATS. A module that uses a method which does not exist must not compile.
func TestForeignModule(t *testing.T) {
	module := newModule(t)
	var tests int
	for i, code := range blocks(t) {
		file := "main.go"
		switch {
		case !strings.HasPrefix(code, "package "):
			continue
		case strings.Contains(code, "\nfunc Test"):
			file = "service_test.go"
			tests++
		}
		folder := fmt.Sprintf("block%d", i)
		module.write(filepath.Join(folder, file), code)
		output, err := module.run("vet", "./"+folder)
		require.NoError(t, err, output)
		module.write(filepath.Join("wrong"+folder, file), strings.Replace(code, "engine.Migrate(", "engine.Migration(", 1))
		output, err = module.run("vet", "./wrong"+folder)
		require.Error(t, err)
		require.Contains(t, output, "engine.Migration undefined")
		if file == "service_test.go" {
			output, err = module.run("test", "-count=1", "-v", "./"+folder)
			require.NoError(t, err, output)
			require.Contains(t, output, "--- PASS: TestInvoices")
		}
	}
	require.Equal(t, 1, tests)
}

// blocks returns the blocks of Go in docs/library.md.
func blocks(t *testing.T) (code []string) {
	t.Helper()
	for _, found := range goBlock.FindAllStringSubmatch(read(t, "../../docs/library.md"), -1) {
		code = append(code, found[1])
	}
	require.Len(t, code, 4)
	return code
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// module is a module that requires this one.
type module struct {
	t      *testing.T
	folder string
}

// newModule returns a module with the same versions of all dependencies, so nothing is downloaded.
func newModule(t *testing.T) *module {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	m := &module{t, t.TempDir()}
	ours := read(t, "../../go.mod")
	require.True(t, strings.HasPrefix(ours, "module github.com/assylzhan-a/outboxie\n"))
	m.write("go.mod", strings.Replace(ours, "module github.com/assylzhan-a/outboxie\n", "module example.com/billing\n", 1)+
		"\nrequire github.com/assylzhan-a/outboxie v0.0.0\n\nreplace github.com/assylzhan-a/outboxie => "+root+"\n")
	m.write("go.sum", read(t, "../../go.sum"))
	return m
}

func (m *module) write(file, text string) {
	m.t.Helper()
	path := filepath.Join(m.folder, file)
	require.NoError(m.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(m.t, os.WriteFile(path, []byte(text), 0o600))
}

// run runs a command of go in the module, and returns what it printed.
func (m *module) run(arguments ...string) (string, error) {
	command := exec.CommandContext(m.t.Context(), "go", arguments...)
	command.Dir = m.folder
	command.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	output, err := command.CombinedOutput()
	return string(output), err
}
