package docker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestDemo checks that `make demo` works on a Docker engine twice in a row, after an interruption, and names a port that is taken.
func TestDemo(t *testing.T) {
	needEngine(t)
	t.Cleanup(func() { // whatever a failed test leaves
		succeed(t, "docker", "compose", "--project-name", "outboxie-demo", "down", "--volumes", "--remove-orphans", "--timeout", "5")
	})
	requireNothingLeft := func() {
		t.Helper()
		for _, list := range [][]string{{"ps", "--all"}, {"volume", "ls"}, {"network", "ls"}} {
			require.NotContains(t, succeed(t, append([]string{"docker"}, list...)...), "outboxie-demo")
		}
	}
	for range 2 {
		said := succeed(t, "make", "demo")
		require.Contains(t, said, "A Docker engine answers, so the demo runs in containers")
		infra.RequireInSource(t, "✗")
		require.NotContains(t, said, "✗")
		require.Regexp(t, `\n  stream        \d+ messages: 0 lost, 0 doubled, 0 reordered\n`, said)
		require.Regexp(t, `\n  first trace   http://127.0.0.1:\d+/trace/[0-9a-f]{32}\n`, said)
		require.Contains(t, said, "\nThe demo succeeded.\n")
		requireNothingLeft()
	}

	demo := start(t, command(nil, "make", "demo"))
	for _, step := range []string{"Build the image", "Start Postgres, NATS, Jaeger", "Place an order through app1", "Who leads?"} {
		demo.WaitFor(step)
	}
	require.NotZero(t, demo.interrupt())
	require.Contains(t, demo.String(), "the demo was interrupted at step ")
	requireNothingLeft()

	const neighbor = "outboxie-test-neighbor"
	succeed(t, "docker", "run", "--detach", "--rm", "--name", neighbor, "--publish", "127.0.0.1:8082:4222", "nats:2.15-alpine")
	defer succeed(t, "docker", "rm", "--force", neighbor)
	said, code := run(t, command(nil, "make", "demo"))
	require.NotZero(t, code)
	require.Contains(t, said, `the demo failed at step 1, "Clean up": port 8082 is taken by the container `+neighbor+": stop what listens there")
	requireNothingLeft()
}

// TestDemoTargets checks that `make demo` prints where it runs, and that `make demo-local` does not look for a Docker engine. test/e2e tests the
// demo's steps.
func TestDemoTargets(t *testing.T) {
	environment := []string{"DOCKER_HOST=unix:///nowhere/docker.sock", "BINARY=" + infra.Binary(t)}
	said, code := run(t, command(environment, "make", "demo", "ARGS=--help"))
	require.Zero(t, code)
	require.Contains(t, said, "No Docker engine answers, so the demo runs as processes.\n")
	require.Contains(t, said, "playground demo [flags]")
	said, code = run(t, command(environment, "make", "demo-local", "ARGS=--help"))
	require.Zero(t, code)
	require.NotContains(t, said, "engine answers")
	require.Contains(t, said, "playground demo [flags]")
}
