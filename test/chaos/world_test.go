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

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// group is the copies of a subscriber.
type group struct {
	id       string // says how many lanes it has
	lanes    int
	external bool // its effects are calls of the receiver
	copies   []*member
	spare    *member // one more, which does not run
}

// groups returns the subscribers that there are, without their copies.
func groups() []*group {
	return []*group{
		{id: "emails-1-lane", lanes: 1, copies: make([]*member, 3)},
		{id: "invoices-4-lanes", lanes: 4, copies: make([]*member, 3)},
		{id: "shop-8-lanes", lanes: 8, copies: make([]*member, 2), external: true},
	}
}

// world is everything that runs: a Postgres, a NATS, three instances, and three subscribers in two or three copies each, of which one calls
// the receiver. Each process reaches the servers through proxies of its own. The nemesis and the checker reach them directly.
type world struct {
	complaints

	folder   string // the logs of all processes
	program  string
	oldNATS  string                // the program of a server that is too old
	postgres *infra.PostgresServer // the primary
	former   *infra.PostgresServer // the primary before the last switchover, which is a standby; nil: there was none
	primary  *infra.Proxy          // always leads to the primary
	address  string                // of the database, through it
	broker   *broker
	db       *sql.DB
	nc       *nats.Conn

	serving, subscribing []*member
	groups               []*group
	receiver             *receiver
	subscribers          []string // their ids
	lags                 []lag    // when the faults ended
	ledger               *checker.Ledger
	unused               int64 // the first of the positions that leaveUnused has left out

	before   func() string // the program that does not know the new type
	deployed atomic.Bool   // every subscriber wants the new type
	removed  removed       // what was removed from the stream
}

func newWorld(t *testing.T) *world {
	t.Helper()
	folder, err := os.MkdirTemp("", "outboxie-chaos-") //nolint:usetesting // it is kept when a check fails
	require.NoError(t, err)
	require.NoError(t, os.Chmod(folder, 0o755)) //nolint:gosec // whoever ran it is to read it
	w := &world{folder: folder, program: infra.Binary(t), oldNATS: infra.OldNATS(t), ledger: checker.NewLedger()}
	t.Cleanup(func() {
		if t.Failed() || *keep {
			t.Logf("the logs of all processes are in %s", folder)
			return
		}
		_ = os.RemoveAll(folder)
	})
	w.startPostgres(t)
	w.startBroker(t)
	for n := range 3 {
		name, api := fmt.Sprintf("app%d", n+1), fmt.Sprintf("127.0.0.1:%d", infra.Port(t))
		m := w.member(t, name, []string{
			"INSTANCE_ID=" + name, "HTTP_ADDR=" + api, "ADMIN_ADDR=127.0.0.1:0", "OUTBOX_LEASE_TTL=" + leaseTTL.String(),
		}, "serve")
		m.api = api
		w.serving = append(w.serving, m)
	}
	w.receiver = newReceiver(t, w)
	w.buildBefore(t)
	w.groups = groups()
	for _, g := range w.groups {
		w.populate(t, g)
	}
	w.startGroups(t)
	return w
}

// populate makes the copies of a subscriber.
func (w *world) populate(t *testing.T, g *group) {
	t.Helper()
	w.subscribers = append(w.subscribers, g.id)
	args := []string{"subscribe", "--id", g.id}
	if g.external {
		args = append(args, "--handler", "webhook")
	}
	for n := range len(g.copies) + 1 {
		name := fmt.Sprintf("%s-%d", g.id, n+1)
		m := w.newMember(t, name, []string{
			"INSTANCE_ID=" + name, fmt.Sprintf("SUBSCRIBER_LANES=%d", g.lanes), "SUBSCRIBER_IDLE_TIMEOUT=1s", "SUBSCRIBER_MAX_ATTEMPTS=5",
			"DATABASE_MAX_CONNS=7", // for four lanes
			"LOG_LEVEL=warn",       // at the level of info they tell of every event
			"WEBHOOK_URL=" + w.receiver.address(g.id),
		}, args...)
		if n == len(g.copies) {
			g.spare = m
			return
		}
		g.copies[n] = m
		w.subscribing = append(w.subscribing, m)
	}
}

// startGroups starts all copies. Those of one subscriber are of the program that does not know the new type yet.
func (w *world) startGroups(t *testing.T) {
	t.Helper()
	for _, g := range w.groups {
		for _, m := range g.copies {
			if g.id == deployedFirst {
				m.program = w.before()
			}
			require.NoError(t, m.start())
		}
	}
}

// startPostgres starts the server, and keeps its log when the test fails.
func (w *world) startPostgres(t *testing.T) {
	t.Helper()
	data := ""
	w.postgres = infra.Postgres(t, func(o *embedded.PostgresOptions) {
		data, o.Logger = o.DataDir, slog.New(slog.DiscardHandler)
		o.Parameters = map[string]string{
			"logging_collector": "on", "log_filename": "chaos.log", "log_line_prefix": "%m [%p] %a ", "log_rotation_size": "0",
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			text, err := os.ReadFile(filepath.Join(data, "data", "log", "chaos.log"))
			if err == nil {
				err = os.WriteFile(filepath.Join(w.folder, "postgres.log"), text, 0o644) //nolint:gosec // as the folder
			}
			if err != nil {
				t.Log(err)
			}
		}
	})
	address, err := url.Parse(w.postgres.URL)
	require.NoError(t, err)
	w.primary = infra.NewProxy(t, address.Host)
	w.address = w.primary.URL(t, w.postgres.URL)
	w.db, err = sql.Open("pgx", w.address+settled) // the faults are not for the checker
	require.NoError(t, err)
	w.db.SetMaxOpenConns(40)
	t.Cleanup(func() { _ = w.db.Close() })
	require.NoError(t, checker.Record(t.Context(), w.db))
	_, err = w.db.ExecContext(t.Context(), sickness+unhandled)
	require.NoError(t, err)
}

func (w *world) startBroker(t *testing.T) {
	t.Helper()
	store := filepath.Join(t.TempDir(), "nats")
	w.broker = &broker{folder: w.folder, store: store, port: infra.Port(t)}
	require.NoError(t, w.broker.start())
	t.Cleanup(w.broker.kill)
	var err error
	w.nc, err = nats.Connect(w.broker.url(), nats.MaxReconnects(-1), nats.ReconnectWait(lookEvery), nats.ReconnectJitter(0, 0))
	require.NoError(t, err)
	t.Cleanup(w.nc.Close)
}

// member starts a process with proxies of its own.
func (w *world) member(t *testing.T, name string, env []string, args ...string) *member {
	t.Helper()
	m := w.newMember(t, name, env, args...)
	require.NoError(t, m.start())
	return m
}

// newMember returns a process that does not run yet.
func (w *world) newMember(t *testing.T, name string, env []string, args ...string) *member {
	t.Helper()
	database, err := url.Parse(w.postgres.URL)
	require.NoError(t, err)
	m := &member{
		name: name, program: w.program, args: args, folder: w.folder, complain: w.complain,
		postgres: newProxy(t, "Postgres", database.Host), nats: newProxy(t, "NATS", strings.TrimPrefix(w.broker.url(), "nats://")),
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
func (w *world) members() []*member { return slices.Concat(w.serving, w.subscribing, w.spares()) }

// spares returns the copies that run only at times.
func (w *world) spares() (all []*member) {
	for _, g := range w.groups {
		all = append(all, g.spare)
	}
	return all
}

// stop ends all processes of the program, in order.
func (w *world) stop() {
	for _, m := range slices.Concat(w.serving, w.subscribing) {
		m.stop()
	}
}

// neverSaid is what no process may have printed: nothing needs a programmer. repairable is what the relay may halt for, since
// an operator repairs it.
var (
	neverSaid  = []string{"relay halted", "panic: ", "WARNING: DATA RACE", "messages are lost", "that nobody knows"}
	repairable = []string{
		"reason=stream_missing", "reason=stream_replaced", "reason=sequence_behind", "reason=stream_unfit",
		"(stream_missing)", "(stream_replaced)", "(sequence_behind)", "(stream_unfit)", // in an error's text
	}
)

// readLogs complains about what no process may have printed.
func (w *world) readLogs(t *testing.T) {
	t.Helper()
	for _, m := range w.members() {
		file, err := os.Open(filepath.Join(w.folder, m.name+".log"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a spare that never ran
		}
		require.NoError(t, err)
		defer file.Close()
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			says := func(text string) bool { return strings.Contains(lines.Text(), text) }
			if slices.ContainsFunc(neverSaid, says) && !slices.ContainsFunc(repairable, says) {
				w.complain("%s printed: %.500s", m.name, lines.Text())
			}
		}
		require.NoError(t, lines.Err())
	}
}

// addresses is where the instances answer.
func (w *world) addresses() []string {
	all := make(map[string]bool)
	for _, m := range w.serving {
		all[m.api] = true
	}
	return slices.Sorted(maps.Keys(all))
}
