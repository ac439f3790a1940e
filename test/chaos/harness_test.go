package chaos_test

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/playground/ordercheck"
	"github.com/assylzhan-a/outboxie/outboxietest/checker"
	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// group is a subscriber with its copies.
type group struct {
	id       string // names the number of lanes
	lanes    int
	external bool // its effects are calls to the receiver
	copies   []*member
	spare    *member // one more copy, which runs only at times
}

// groups returns the subscribers, without their copies.
func groups() []*group {
	return []*group{
		{id: "emails-1-lane", lanes: 1, copies: make([]*member, 3)},
		{id: "vouchers-4-lanes", lanes: 4, copies: make([]*member, 3)},
		{id: "shop-8-lanes", lanes: 8, copies: make([]*member, 2), external: true},
	}
}

// harness is everything that runs: a Postgres, a NATS, three instances, and three subscribers in two or three copies each. One of the
// subscribers calls the receiver. Each process reaches the servers through proxies of its own. The injector and the checker use connections that
// no network fault disturbs.
type harness struct {
	problems

	folder   string // the logs of all processes
	program  string
	oldNATS  string                // the program of a server that is too old for the relay
	postgres *infra.PostgresServer // the primary
	former   *infra.PostgresServer // the primary before the last switchover, which is a standby; nil: there was none
	primary  *infra.Proxy          // always leads to the primary
	address  string                // of the database, through primary
	broker   *broker
	db       *sql.DB
	nc       *nats.Conn

	serving, subscribing []*member
	groups               []*group
	receiver             *receiver
	subscribers          []string // their ids
	lags                 []lag    // when the faults ended
	ledger               *ordercheck.Ledger
	unused               int64 // the first position that leaveUnused skipped

	oldProgram func() string // returns the program that does not know the new type
	deployed   atomic.Bool   // reports that every subscriber wants the new type
	removed    removed       // what was removed from the stream
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	folder, err := os.MkdirTemp("", "outboxie-chaos-") //nolint:usetesting // it is kept when a check fails
	require.NoError(t, err)
	require.NoError(t, os.Chmod(folder, 0o755)) //nolint:gosec // for the person who runs the test
	h := &harness{folder: folder, program: infra.Binary(t), oldNATS: infra.OldNATS(t), ledger: ordercheck.NewLedger()}
	t.Cleanup(func() {
		if t.Failed() || *keep {
			t.Logf("the logs of all processes are in %s", folder)
			return
		}
		_ = os.RemoveAll(folder)
	})
	h.startPostgres(t)
	h.startBroker(t)
	for n := range 3 {
		name, api := fmt.Sprintf("app%d", n+1), fmt.Sprintf("127.0.0.1:%d", infra.Port(t))
		m := h.member(t, name, []string{
			"INSTANCE_ID=" + name, "HTTP_ADDR=" + api, "ADMIN_ADDR=127.0.0.1:0", "OUTBOX_LEASE_TTL=" + leaseTTL.String(),
		}, "serve")
		m.api = api
		h.serving = append(h.serving, m)
	}
	h.receiver = newReceiver(t, h)
	h.buildOldProgram(t)
	h.groups = groups()
	for _, g := range h.groups {
		h.addCopies(t, g)
	}
	h.startGroups(t)
	return h
}

// addCopies adds the copies of a subscriber.
func (h *harness) addCopies(t *testing.T, g *group) {
	t.Helper()
	h.subscribers = append(h.subscribers, g.id)
	args := []string{"subscribe", "--id", g.id}
	if g.external {
		args = append(args, "--handler", "webhook")
	}
	for n := range len(g.copies) + 1 {
		name := fmt.Sprintf("%s-%d", g.id, n+1)
		m := h.newMember(t, name, []string{
			"INSTANCE_ID=" + name, fmt.Sprintf("SUBSCRIBER_LANES=%d", g.lanes), "SUBSCRIBER_IDLE_TIMEOUT=1s", "SUBSCRIBER_MAX_ATTEMPTS=5",
			"DATABASE_MAX_CONNS=7", // enough for four lanes, the most that one copy has if all copies run
			"LOG_LEVEL=warn",       // at the level info they log every event
			"WEBHOOK_URL=" + h.receiver.address(g.id),
		}, args...)
		if n == len(g.copies) {
			g.spare = m
			return
		}
		g.copies[n] = m
		h.subscribing = append(h.subscribing, m)
	}
}

// startGroups starts all copies. Those of deployedFirst run the program that does not know the new type yet.
func (h *harness) startGroups(t *testing.T) {
	t.Helper()
	for _, g := range h.groups {
		for _, m := range g.copies {
			if g.id == deployedFirst {
				m.program = h.oldProgram()
			}
			require.NoError(t, m.start())
		}
	}
}

// startPostgres starts the server, and keeps its log when the test fails.
func (h *harness) startPostgres(t *testing.T) {
	t.Helper()
	data := ""
	h.postgres = infra.Postgres(t, func(o *embedded.PostgresOptions) {
		data, o.Logger = o.DataDir, slog.New(slog.DiscardHandler)
		o.Parameters = map[string]string{
			"logging_collector": "on", "log_filename": "chaos.log", "log_line_prefix": "%m [%p] %a ", "log_rotation_size": "0",
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			text, err := os.ReadFile(filepath.Join(data, "data", "log", "chaos.log"))
			if err == nil {
				err = os.WriteFile(filepath.Join(h.folder, "postgres.log"), text, 0o644) //nolint:gosec // as the folder
			}
			if err != nil {
				t.Log(err)
			}
		}
	})
	address, err := url.Parse(h.postgres.URL)
	require.NoError(t, err)
	h.primary = infra.NewProxy(t, address.Host)
	h.address = h.primary.URL(t, h.postgres.URL)
	h.db, err = sql.Open("pgx", h.address+fixedSettings) // no fault affects the checker
	require.NoError(t, err)
	h.db.SetMaxOpenConns(40)
	t.Cleanup(func() { _ = h.db.Close() })
	require.NoError(t, checker.Record(t.Context(), h.db))
	_, err = h.db.ExecContext(t.Context(), failingTotals+unhandledSchema)
	require.NoError(t, err)
}

func (h *harness) startBroker(t *testing.T) {
	t.Helper()
	store := filepath.Join(t.TempDir(), "nats")
	h.broker = &broker{folder: h.folder, store: store, port: infra.Port(t)}
	require.NoError(t, h.broker.start())
	t.Cleanup(h.broker.kill)
	var err error
	h.nc, err = nats.Connect(h.broker.url(), nats.MaxReconnects(-1), nats.ReconnectWait(pollInterval), nats.ReconnectJitter(0, 0))
	require.NoError(t, err)
	t.Cleanup(h.nc.Close)
}

// member starts a process with proxies of its own.
func (h *harness) member(t *testing.T, name string, env []string, args ...string) *member {
	t.Helper()
	m := h.newMember(t, name, env, args...)
	require.NoError(t, m.start())
	return m
}

// newMember returns a process that does not run yet.
func (h *harness) newMember(t *testing.T, name string, env []string, args ...string) *member {
	t.Helper()
	database, err := url.Parse(h.postgres.URL)
	require.NoError(t, err)
	m := &member{
		name: name, program: h.program, args: args, folder: h.folder, report: h.report,
		postgres: newProxy(t, "Postgres", database.Host), nats: newProxy(t, "NATS", strings.TrimPrefix(h.broker.url(), "nats://")),
	}
	database.Host = m.postgres.address()
	m.env = append(env, "DATABASE_URL="+database.String(), "NATS_URL=nats://"+m.nats.address())
	t.Cleanup(func() {
		m.signal(syscall.SIGCONT, false)
		m.kill()
	})
	return m
}

// members returns every process of the program, also those that do not run.
func (h *harness) members() []*member { return slices.Concat(h.serving, h.subscribing, h.spares()) }

// spares returns the copies that run only at times.
func (h *harness) spares() (all []*member) {
	for _, g := range h.groups {
		all = append(all, g.spare)
	}
	return all
}

// stop ends all processes of the program, in order.
func (h *harness) stop() {
	for _, m := range slices.Concat(h.serving, h.subscribing) {
		m.stop()
	}
}

// forbiddenLines and crashLines are texts that no process may log. The program logs forbiddenLines, and Go's runtime prints crashLines.
// repairable are the reasons for which the relay may halt, because an operator repairs them.
var (
	forbiddenLines = []string{"relay halted", "messages are lost", "whose events are unknown"}
	crashLines     = []string{"panic: ", "WARNING: DATA RACE"}
	repairable     = []string{
		"reason=stream_missing", "reason=stream_replaced", "reason=sequence_behind", "reason=stream_unfit",
		"(stream_missing)", "(stream_replaced)", "(sequence_behind)", "(stream_unfit)", // in an error's text
	}
)

// TestForbiddenLines checks that the program has the texts of forbiddenLines, so that readLogs does not look for texts of the past.
func TestForbiddenLines(t *testing.T) { infra.RequireInSource(t, forbiddenLines...) }

// readLogs reports each forbidden line in the logs.
func (h *harness) readLogs(t *testing.T) {
	t.Helper()
	for _, m := range h.members() {
		file, err := os.Open(filepath.Join(h.folder, m.name+".log"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a spare that never ran
		}
		require.NoError(t, err)
		defer file.Close()
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			has := func(text string) bool { return strings.Contains(lines.Text(), text) }
			if slices.ContainsFunc(slices.Concat(forbiddenLines, crashLines), has) && !slices.ContainsFunc(repairable, has) {
				h.report("%s printed: %.500s", m.name, lines.Text())
			}
		}
		require.NoError(t, lines.Err())
	}
}

// addresses returns the addresses of the instances' APIs.
func (h *harness) addresses() []string {
	all := make(map[string]bool)
	for _, m := range h.serving {
		all[m.api] = true
	}
	return slices.Sorted(maps.Keys(all))
}
