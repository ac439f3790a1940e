//go:build node

package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.MainInMemory(m) }

const contractFile = "../../internal/adapters/httpapi/openapi.yaml"

// installed is the folder with the packages of package-lock.json. Its name begins with a dot, so the tools of Go do not look into it.
const installed = "../../.node"

// run runs a program of an installed package, and returns its output.
func run(t *testing.T, folder, name string, args ...string) (string, error) {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(installed, "node_modules", ".bin", name))
	require.NoError(t, err)
	require.FileExists(t, program, "install the packages: make test-node")
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true", "NO_COLOR=1")
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// linters have how each linter is called for the file openapi.yaml in its folder. A warning is an error.
var linters = map[string][]string{
	"spectral": {"lint", "--ruleset", "spectral.yaml", "--fail-severity", "warn", "openapi.yaml"},
	"redocly":  {"lint", "--config", "redocly.yaml", "--max-problems", "20", "--format", "stylish", "openapi.yaml"},
}

// TestContractPassesTheLinters checks openapi.yaml with Spectral and Redocly, and that each of them notices a fault.
func TestContractPassesTheLinters(t *testing.T) {
	text, err := os.ReadFile(contractFile)
	require.NoError(t, err)
	nullable := "          type: object\n          nullable: true\n          allOf: ["
	require.Contains(t, string(text), nullable)
	noticed := make(map[string]bool) // by the faulty contract: a linter refuses it
	for name, args := range linters {
		said, err := lint(t, name, args, string(text))
		require.NoError(t, err, said)
		require.NotContains(t, said, "warning", "%s: %s", name, said)

		for _, fault := range []string{
			strings.Replace(string(text), "operationId: ListOrders\n", "operationId: PlaceOrder\n", 1),
			strings.Replace(string(text), nullable, strings.TrimPrefix(nullable, "          type: object\n"), 1),
			strings.Replace(string(text), "      example: 01a208ab-3be5-77ba-a411-d0614a94e989\n", "", 1),
		} {
			require.NotEqual(t, string(text), fault)
			_, err := lint(t, name, args, fault)
			noticed[fault] = noticed[fault] || err != nil
		}
	}
	for fault, found := range noticed {
		require.True(t, found, "no linter notices a fault: %.200s", fault)
	}
}

func lint(t *testing.T, name string, args []string, text string) (string, error) {
	t.Helper()
	folder := t.TempDir()
	for _, file := range []string{"spectral.yaml", "redocly.yaml"} {
		copyFile(t, file, filepath.Join(folder, file))
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "openapi.yaml"), []byte(text), 0o600))
	return run(t, folder, name, args...)
}

// TestTypeScriptClient checks that a client whose types are made from openapi.yaml compiles, and that it works with a running instance.
func TestTypeScriptClient(t *testing.T) {
	folder := filepath.Join(installed, "client") // below the packages, so that the client finds them
	require.NoError(t, os.RemoveAll(folder))
	require.NoError(t, os.MkdirAll(folder, 0o700))
	for _, file := range []string{"client.ts", "tsconfig.json"} {
		copyFile(t, file, filepath.Join(folder, file))
	}
	source, err := filepath.Abs(contractFile)
	require.NoError(t, err)
	// A member of a request that has a default may be left out.
	said, err := run(t, folder, "openapi-typescript", source, "--default-non-nullable=false", "--output", "api.d.ts")
	require.NoError(t, err, said)
	said, err = run(t, folder, "tsc", "--project", "tsconfig.json")
	require.NoError(t, err, said)

	environment := []string{"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.Broker(t)}
	api := infra.Serve(t, "app1", environment).API()
	client := exec.CommandContext(t.Context(), "node", "client.js", "http://"+api)
	client.Dir = folder
	answered, err := client.CombinedOutput()
	require.NoError(t, err, string(answered))
	require.Regexp(t, `^order \S+ was placed, paid and found\n$`, string(answered))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, text, 0o600))
}
