package e2e_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

func play(t *testing.T, data string, args ...string) *infra.Process {
	t.Helper()
	p := infra.LaunchPlayground(t, []string{"JAEGER_URL=http://127.0.0.1:1", "ADMIN_TOKEN="}, append([]string{
		"run", "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--data-dir", data,
	}, args...)...)
	p.WaitFor("Ctrl-C stops everything")
	return p
}

// dataDir returns a folder that the servers' own user can reach.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "outboxie-playground-") //nolint:usetesting // its parent is closed to other users
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // Postgres runs as another user when root runs the test
	t.Cleanup(func() {                       // if the playground was killed, its Postgres must end first
		require.EventuallyWithT(t, func(t *assert.CollectT) { assert.NoError(t, os.RemoveAll(dir)) }, waitTimeout, 100*time.Millisecond)
	})
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

// TestPlayground checks that the README's first minute works: one command, one curl, one line of the subscriber. Then the order is paid and
// shipped, and a second run on the same data continues.
func TestPlayground(t *testing.T) {
	data := dataDir(t)
	first := play(t, data, "--subscribers", "2")
	require.Contains(t, first.String(), "\n  console      http://"+first.Admin()+"/console\n  docs         http://"+first.API()+"/docs\n")
	require.Contains(t, first.String(), "curl -i -X POST http://"+first.API()+"/orders")
	require.Contains(t, first.String(), "  traces       not exported: start a Jaeger on this machine")

	require.Contains(t, first.String(), "  admin token  in "+filepath.Join(data, "admin-token")+"\n")
	token := madeToken(t, data)
	require.NotContains(t, first.String(), token, "it is for terminals")
	require.Equal(t, http.StatusOK, askAdmin(t, first.Admin(), "/outbox/status", "Bearer "+token))
	tryDocumentedCurls(t, first, data)

	order, err := infra.Place(first.API())
	require.NoError(t, err)
	require.Equal(t, "created", order.Status)
	for _, subscriber := range []string{"subscriber-1", "subscriber-2"} {
		first.WaitFor("Received order created event subscriber=" + subscriber + " order_id=" + order.ID)
	}
	require.Contains(t, first.String(), "trace_id="+order.TraceID)
	for _, verb := range []string{"pay", "ship"} {
		order, err = infra.Transition(first.API(), order.ID, verb)
		require.NoError(t, err)
	}
	first.WaitFor("Received order paid event subscriber=subscriber-1 order_id=" + order.ID)
	first.WaitFor("Received order shipped event subscriber=subscriber-2 order_id=" + order.ID)
	require.EqualValues(t, 3, order.Version)
	_, err = infra.Transition(first.API(), order.ID, "cancel")
	require.ErrorContains(t, err, "409")

	pid := postmaster(t, data)
	require.Zero(t, first.Stop(syscall.SIGINT), first)
	requireGone(t, pid)

	second := play(t, data)
	again, err := infra.Read(second.API(), order.ID)
	require.NoError(t, err)
	require.Equal(t, "shipped", again.Status)
	require.NotContains(t, second.String(), "Received order", "what was received is not received again")
	next, err := infra.Place(second.API())
	require.NoError(t, err)
	second.WaitFor("Received order created event subscriber=subscriber-1 order_id=" + next.ID)
	require.Contains(t, second.String(), "position=4 ", "the log goes on where it ended")
	require.Zero(t, second.Stop(syscall.SIGTERM), second)

	third := play(t, data, "--fresh")
	_, err = infra.Read(third.API(), order.ID)
	require.ErrorContains(t, err, "404")
	later, err := infra.Place(third.API())
	require.NoError(t, err)
	third.WaitFor("Received order created event subscriber=subscriber-1 order_id=" + later.ID)
	require.Contains(t, third.String(), "position=1 ", "log and stream begin again")
	pid = postmaster(t, data)
	third.Kill()
	requireGone(t, pid)

	require.NoError(t, os.RemoveAll(filepath.Join(data, "nats")))
	refused := infra.LaunchPlayground(t, nil, "run", "--data-dir", data)
	require.Equal(t, 1, refused.Wait())
	require.Contains(t, refused.String(), "holds a database, but the NATS that its events went to is not in")
}

// TestFreshNeedsBothServers checks that --fresh deletes nothing and fails if one of the two servers is not in the data folder.
func TestFreshNeedsBothServers(t *testing.T) {
	data := dataDir(t)
	for _, given := range []string{"DATABASE_URL=postgres://nowhere/x", "NATS_URL=nats://127.0.0.1:1"} {
		p := infra.LaunchPlayground(t, []string{given}, "run", "--fresh", "--data-dir", data)
		require.Equal(t, 2, p.Wait())
		name, _, _ := strings.Cut(given, "=")
		require.Contains(t, p.String(), name+" names another server")
		require.Contains(t, p.String(), "Unset "+name+", or leave --fresh out")
		entries, err := os.ReadDir(data)
		require.NoError(t, err)
		require.Empty(t, entries)
	}
}

// TestAnInstanceJoinsThePlayground checks that a second instance joins the first with the line that the first one prints, which is the only
// line with the passwords, and that the data of a running instance is not deleted.
func TestAnInstanceJoinsThePlayground(t *testing.T) {
	data := dataDir(t)
	first := play(t, data)
	database, broker := strings.Trim(first.WaitFor("  DATABASE_URL='"), "'"), strings.Trim(first.WaitFor(" NATS_URL='"), "'")
	for _, address := range []string{database, broker} {
		parsed, err := url.Parse(address)
		require.NoError(t, err)
		password, given := parsed.User.Password()
		require.True(t, given)
		require.Equal(t, 1, strings.Count(first.String(), password), "only the line to join with has it")
	}
	order, err := infra.Place(first.API())
	require.NoError(t, err)
	joined := infra.Serve(t, "joined", []string{"DATABASE_URL=" + database, "NATS_URL=" + broker})
	_, err = infra.Read(joined.API(), order.ID)
	require.NoError(t, err)
	first.WaitFor("Received order created event subscriber=subscriber-1 order_id=" + order.ID)

	rival := infra.LaunchPlayground(t, nil, "infra", "--fresh", "--data-dir", data)
	require.Equal(t, 1, rival.Wait())
	require.Contains(t, rival.String(), "in use")
	_, err = infra.Read(first.API(), order.ID)
	require.NoError(t, err)
}

// TestPlaygroundWithoutAForgottenSubscriber checks that `playground run` continues, and starts again, after its subscriber was forgotten. The
// command in its log lets the subscriber begin again.
func TestPlaygroundWithoutAForgottenSubscriber(t *testing.T) {
	data := dataDir(t)
	operate := func(p *infra.Process, args ...string) {
		t.Helper()
		_, err := infra.Outboxie(t, []string{"DATABASE_URL=" + strings.Trim(p.WaitFor("  DATABASE_URL='"), "'")}, append([]string{"subscriber"}, args...)...)
		require.NoError(t, err)
	}
	first := play(t, data)
	first.WaitFor("subscribed subscriber=subscriber-1")
	operate(first, "forget", "--id", "subscriber-1", "--yes")
	first.WaitFor("Everything else goes on.")
	_, err := infra.Place(first.API())
	require.NoError(t, err)
	require.Zero(t, first.Stop(syscall.SIGINT), first)

	second := play(t, data)
	second.WaitFor("Everything else goes on.")
	require.Contains(t, second.String(), "outboxie subscriber forget --lift --id subscriber-1")
	order, err := infra.Place(second.API())
	require.NoError(t, err)
	operate(second, "forget", "--lift", "--id", "subscriber-1")
	require.Zero(t, second.Stop(syscall.SIGINT), second)

	play(t, data).WaitFor("Received order created event subscriber=subscriber-1 order_id=" + order.ID)
}

// requireGone waits until a process does not exist any more.
func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return syscall.Kill(pid, 0) != nil
	}, waitTimeout, 20*time.Millisecond, "process %d is still there", pid)
}
