package e2e_test

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// startDemo runs the demo as processes, with its data under temp.
func startDemo(t *testing.T, temp string, args ...string) *infra.Process {
	t.Helper()
	return infra.LaunchPlayground(t, []string{"TMPDIR=" + temp, "OUTBOX_LEASE_TTL=1s"}, append([]string{"demo"}, args...)...)
}

// requireNothingLeft checks that no process of a demo runs, and that its data is gone.
func requireNothingLeft(t *testing.T, temp string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(demoProcesses(t)) == 0 }, waitTimeout, 20*time.Millisecond, "%v", demoProcesses(t))
	left, err := filepath.Glob(filepath.Join(temp, "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// demoProcesses returns the process id of each child of a demo, by its arguments.
func demoProcesses(t *testing.T) map[string]int {
	t.Helper()
	said, err := exec.Command("ps", "-eo", "pid=,args=").Output()
	require.NoError(t, err)
	found := make(map[string]int)
	for line := range strings.Lines(string(said)) {
		words := strings.Fields(line)
		if len(words) < 3 || words[1] != infra.Binary(t) && words[1] != infra.Playground(t) {
			continue
		}
		if args := strings.Join(words[2:], " "); words[2] != "demo" && words[2] != "tied" {
			pid, err := strconv.Atoi(words[0])
			require.NoError(t, err)
			found[fmt.Sprintf("%s (%d)", args, pid)] = pid
		}
	}
	return found
}

// TestDemo checks that every step of the demo succeeds, its table is complete, and nothing is left.
func TestDemo(t *testing.T) {
	temp := dataDir(t)
	demo := startDemo(t, temp)
	demo.WaitFor("Another instance takes over")
	demo.WaitFor("Nothing lost, nothing doubled, nothing reordered?")
	require.Zero(t, demo.Wait(), demo)
	said := demo.String()
	infra.RequireInSource(t, "✗")
	require.NotContains(t, said, "✗")
	require.NotContains(t, said, "\x1b", "colors are for terminals")
	require.Equal(t, 6, strings.Count(said, "INFO  Received order created event\n"), "three subscribers, two orders")

	_, table, _ := strings.Cut(said, "Stop and remove everything")
	require.Regexp(t, `(?s)\n\n`+
		`  orders        (\d+) accepted; \d+ requests sent again, with their key\n`+
		`  stream        \d+ messages: 0 lost, 0 doubled, 0 reordered\n`+
		`  subscribers   3: each event took effect once for each, \d+ in all\n`+
		`  leaders       app[123], then app[123], then app[123]\n`+
		`  pauses        \d\.\d\d s and \d\.\d\d s without delivery, after a kill -9\n`+
		`  first trace   .*\n`+
		`  took          [\d.]+ s\n\n`+
		`The demo succeeded.\n$`, table)
	var orders, again, messages, effects int
	var leaders [3]string
	rows := strings.Split(strings.TrimSpace(table[strings.Index(table, "\n"):]), "\n")
	scan := func(row int, format string, into ...any) {
		t.Helper()
		_, err := fmt.Sscanf(strings.ReplaceAll(strings.Join(strings.Fields(rows[row]), " "), ",", ""), format, into...)
		require.NoError(t, err, rows[row])
	}
	scan(0, "orders %d accepted; %d requests", &orders, &again)
	scan(1, "stream %d messages:", &messages)
	scan(2, "subscribers 3: each event took effect once for each %d", &effects)
	scan(3, "leaders %s then %s then %s", &leaders[0], &leaders[1], &leaders[2])
	require.Equal(t, []int{orders, 3 * orders}, []int{messages, effects})
	require.Positive(t, again)
	require.NotEqual(t, leaders[0], leaders[1])
	require.NotEqual(t, leaders[1], leaders[2])
	requireNothingLeft(t, temp)
}

// TestDemoNotices checks that the demo fails when a subscriber's total is falsified while it runs.
func TestDemoNotices(t *testing.T) {
	temp := dataDir(t)
	demo := startDemo(t, temp)
	database := "postgres:" + demo.WaitFor("postgres:")
	demo.WaitFor("Who leads?")
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec("UPDATE customer_totals SET orders = orders + 1 WHERE subscriber = 'subscriber2'")
	require.NoError(t, err)
	require.Equal(t, 1, demo.Wait(), demo)
	require.Contains(t, demo.String(), `the demo failed at step 15, "Nothing lost, nothing doubled, nothing reordered?": the checker found:`)
	require.Contains(t, demo.String(), "subscriber2 counted 2 orders of ")
	require.NotContains(t, demo.String(), "succeeded")
	requireNothingLeft(t, temp)
}

// listenAfterFreePort finds a free port whose next port is free, too. It listens on the next one until the test ends, and returns the first.
func listenAfterFreePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := infra.Port(t)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		if err == nil {
			t.Cleanup(func() { _ = listener.Close() })
			return port
		}
	}
	t.Fatal("no two free ports, one after the other")
	return 0
}

// TestDemoNeedsItsPorts checks that the demo names a port that is taken.
func TestDemoNeedsItsPorts(t *testing.T) {
	temp := dataDir(t)
	port := listenAfterFreePort(t)
	demo := startDemo(t, temp, "--port", strconv.Itoa(port))
	require.Equal(t, 1, demo.Wait(), demo)
	owner := "a process that this user may not see"
	for _, command := range []string{"lsof", "ss"} {
		if _, err := exec.LookPath(command); err == nil {
			owner = fmt.Sprintf("%s, process %d", filepath.Base(os.Args[0]), os.Getpid())
		}
	}
	require.Contains(t, demo.String(), fmt.Sprintf(
		`the demo failed at step 3, "Start app1, app2 and app3": port %d is taken by %s: stop what listens there`, port+1, owner))
	requireNothingLeft(t, temp)
}

// TestDemoMissesASubscriber checks that the demo fails, and says why, when a subscriber is killed from outside. The step that fails depends on
// how fast the machine is.
func TestDemoMissesASubscriber(t *testing.T) {
	temp := dataDir(t)
	demo := startDemo(t, temp)
	demo.WaitFor("Start subscriber1, subscriber2 and subscriber3")
	for args, pid := range demoProcesses(t) {
		if strings.HasPrefix(args, "subscribe --id subscriber2 ") {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		}
	}
	require.Equal(t, 1, demo.Wait(), demo)
	require.Regexp(t, `the demo failed at step \d+, "[^"]+": (subscriber2 did not receive order [0-9a-f-]{36}: )?.*`+
		`subscriber2 ended by itself \(signal: killed\); the end of its log:\n  \d\d:`, demo.String())
	requireNothingLeft(t, temp)
}

// TestDemoEnds checks that a killed demo leaves only data, and an interrupted one leaves nothing.
func TestDemoEnds(t *testing.T) {
	temp := dataDir(t)
	demo := startDemo(t, temp)
	demo.WaitFor("Place an order through app1")
	require.GreaterOrEqual(t, len(demoProcesses(t)), 6)
	demo.Kill()
	require.Eventually(t, func() bool { return len(demoProcesses(t)) == 0 }, waitTimeout, 20*time.Millisecond)

	demo = startDemo(t, temp)
	demo.WaitFor("removed what an earlier demo left behind when it was killed")
	demo.WaitFor("Kill the leader (kill -9) while orders flow")
	require.Equal(t, 1, demo.Stop(syscall.SIGINT), demo)
	require.Regexp(t, `the demo was interrupted at step \d+, "`, demo.String())
	requireNothingLeft(t, temp)
}
