package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/client"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func dev(t *testing.T, data string, args ...string) *infra.Process {
	t.Helper()
	p := infra.Launch(t, []string{"JAEGER_URL=http://127.0.0.1:1", "ADMIN_TOKEN="}, append([]string{
		"dev", "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--data-dir", data,
	}, args...)...)
	p.Says("Ctrl-C stops everything")
	return p
}

// dataDir is a folder that the servers' own user can reach.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "outboxie-dev-") //nolint:usetesting // its parent is closed to other users
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // Postgres runs as another user when root runs the test
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// postmaster returns the process id of the embedded Postgres.
func postmaster(t *testing.T, data string) int {
	t.Helper()
	var pid int
	require.NoError(t, filepath.WalkDir(filepath.Join(data, "postgres"), func(path string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == "postmaster.pid" {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			pid, err = strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
			return err
		}
		return err
	}))
	require.NotZero(t, pid)
	return pid
}

// TestDev is the README's first minute: one command, one curl, one line of the subscriber. Then the rest of an order's
// life, a clean stop, and a second run on the same data.
func TestDev(t *testing.T) {
	data := dataDir(t)
	first := dev(t, data, "--subscribers", "2")
	require.Contains(t, first.String(), "curl -i -X POST http://"+first.API()+"/orders")
	require.Contains(t, first.String(), "  traces       not exported: start a Jaeger on this machine")

	require.Contains(t, first.String(), "  admin token  in "+filepath.Join(data, "admin-token")+"\n")
	token := madeToken(t, data)
	require.NotContains(t, first.String(), token, "it is for terminals")
	require.Equal(t, http.StatusOK, askAdmin(t, first.Admin(), "/outbox/status", "Bearer "+token))
	tryDocumentedCurls(t, first, data)

	order, err := infra.Place(first.API())
	require.NoError(t, err)
	require.Equal(t, client.OrderStatusCreated, order.Status)
	for _, subscriber := range []string{"subscriber-1", "subscriber-2"} {
		first.Says("Received order created event subscriber=" + subscriber + " order_id=" + order.ID)
	}
	require.Contains(t, first.String(), "trace_id="+order.TraceID)
	for _, verb := range []string{"pay", "ship"} {
		order, err = infra.Transition(first.API(), order.ID, verb)
		require.NoError(t, err)
	}
	first.Says("Received order paid event subscriber=subscriber-1 order_id=" + order.ID)
	first.Says("Received order shipped event subscriber=subscriber-2 order_id=" + order.ID)
	require.EqualValues(t, 3, order.Version)
	_, err = infra.Transition(first.API(), order.ID, "cancel")
	require.ErrorContains(t, err, "409")

	pid := postmaster(t, data)
	require.Zero(t, first.Stop(syscall.SIGINT), first)
	requireGone(t, pid)

	second := dev(t, data)
	again, err := infra.Read(second.API(), order.ID)
	require.NoError(t, err)
	require.Equal(t, client.OrderStatusShipped, again.Status)
	require.NotContains(t, second.String(), "Received order", "what was received is not received again")
	next, err := infra.Place(second.API())
	require.NoError(t, err)
	second.Says("Received order created event subscriber=subscriber-1 order_id=" + next.ID)
	require.Contains(t, second.String(), "position=4 ", "the log goes on where it ended")
	require.Zero(t, second.Stop(syscall.SIGTERM), second)

	third := dev(t, data, "--fresh")
	_, err = infra.Read(third.API(), order.ID)
	require.ErrorContains(t, err, "404")
	pid = postmaster(t, data)
	third.Kill()
	requireGone(t, pid)
}

// requireGone waits until a process does not exist any more.
func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return syscall.Kill(pid, 0) != nil
	}, patience, 20*time.Millisecond, "process %d is still there", pid)
}
