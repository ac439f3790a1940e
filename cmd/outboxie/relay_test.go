package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

func relayFile(t *testing.T, mode os.FileMode, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "billing.env")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

// TestRelayRefusesWrongFiles checks that all problems of all files are printed at once, and that nothing is started.
func TestRelayRefusesWrongFiles(t *testing.T) {
	wrong := relayFile(t, 0o600, "DATABASE_URL=mysql://me:s3cret@db/x", "STREAM_NAME=a.b")
	code, _, stderr := command(t, nil, "relay", wrong, "missing.env")
	require.Equal(t, exitUsage, code)
	for _, said := range []string{
		wrong + ":1: DATABASE_URL is (hidden); it must be a URL such as", wrong + ":2: STREAM_NAME is \"a.b\"",
		wrong + ": EVENT_SOURCE is not set", "missing.env cannot be read: no such file or directory",
	} {
		require.Contains(t, stderr, said)
	}
	require.NotContains(t, stderr, "s3cret")
	code, _, stderr = command(t, []string{"DATABASE_URL=postgres://me@db/x"}, "relay")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "STREAM_NAME is not set")
}

// TestEnvFile checks that each command takes settings from a file, which win over the environment, and names file and line of a problem.
func TestEnvFile(t *testing.T) {
	file := relayFile(t, 0o600, "STREAM_NAME=BILLING", "OUTBOX_LEASE_TTL=5s")
	code, stdout, stderr := command(t, []string{"STREAM_NAME=ORDERS", "OUTBOX_BATCH_SIZE=7"}, "config", "--env-file", file)
	require.Equal(t, exitClean, code, stderr)
	require.Regexp(t, `STREAM_NAME +BILLING`, stdout)
	require.Regexp(t, `OUTBOX_LEASE_TTL +5s`, stdout)
	require.Regexp(t, `OUTBOX_BATCH_SIZE +7`, stdout)
	code, _, stderr = command(t, nil, "config", "--env-file", relayFile(t, 0o600, "", "OUTBOX_LEASE_TTL=1"))
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "billing.env:2: OUTBOX_LEASE_TTL")
}

// TestRelayOfTheEnvironment checks that one relay runs with the settings of the environment, migrates only the engine's tables, warns of a file
// that others can read, and resigns when the process stops.
func TestRelayOfTheEnvironment(t *testing.T) {
	database, broker := infra.Database(t), infra.Broker(t)
	for stdout := ""; !strings.Contains(stdout, "No migration"); {
		var code int
		code, stdout, _ = command(t, []string{"DATABASE_URL=" + database}, "migrate", "down", "--set", "service", "--yes")
		require.Equal(t, exitClean, code)
	}
	settings := []string{
		"DATABASE_URL=" + database, "NATS_URL=" + broker, "STREAM_NAME=BILLING", "STREAM_SUBJECTS=billing.>", "EVENT_SOURCE=/acme/billing",
	}
	for name, run := range map[string]struct{ environment, args []string }{
		"environment": {settings, nil},
		"file":        {nil, []string{relayFile(t, 0o644, settings...)}},
	} {
		t.Run(name, func(t *testing.T) {
			out := &lines{}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan int, 1)
			go func() {
				ended <- runContext(ctx, append([]string{"relay", "--admin-addr=127.0.0.1:0"}, run.args...),
					append([]string{"INSTANCE_ID=me", "ADMIN_TOKEN=off"}, run.environment...), out, io.Discard)
			}()
			require.Eventually(t, func() bool { return strings.Contains(out.String(), "became leader") }, 20*time.Second, 10*time.Millisecond)
			require.Equal(t, name == "file", strings.Contains(out.String(), "other users can read a file with a password"))
			stop()
			require.Equal(t, exitClean, <-ended)
			require.Contains(t, out.String(), "lost leadership")
			require.NotContains(t, out.String(), "the relay cannot run")
		})
	}
	_, stdout, _ := command(t, []string{"DATABASE_URL=" + database}, "migrate", "status")
	require.Regexp(t, `service .*pending`, stdout)
}
