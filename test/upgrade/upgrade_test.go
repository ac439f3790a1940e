// Package upgrade_test runs an earlier version of the program beside this one, on the same servers.
package upgrade_test

import (
	"database/sql"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

const waitTimeout = 30 * time.Second

// shop is an unused database and an unused broker, and the two programs.
type shop struct {
	t           *testing.T
	db          *sql.DB
	former      string // the file of the earlier program
	environment []string

	mu  sync.RWMutex // held while an unfinished shop places an order
	api string       // at which orders are placed
}

func newShop(t *testing.T, version *program) *shop {
	t.Helper()
	database := infra.Database(t)
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	_, err = db.Exec("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	require.NoError(t, err)
	return &shop{
		t: t, db: db, former: version.file(t),
		environment: []string{"DATABASE_URL=" + database, "NATS_URL=" + infra.NATS(t).URL, "OUTBOX_LEASE_TTL=1s", "SUBSCRIBER_MAX_ATTEMPTS=3"},
	}
}

// old starts the earlier program.
func (s *shop) old(name string, args ...string) *infra.Process {
	cmd := exec.Command(s.former, args...) //nolint:gosec // built from this repository
	cmd.Env = slices.Concat(os.Environ(), s.environment, []string{
		"INSTANCE_ID=" + name, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0",
		"OUTBOXIE_DATA_DIR=" + s.t.TempDir(),
	})
	return infra.Start(s.t, cmd)
}

// subscriber starts a copy of a subscriber of this program.
func (s *shop) subscriber(name, id string) *infra.Process {
	return infra.Launch(s.t, append([]string{"INSTANCE_ID=" + name, "ADMIN_ADDR=127.0.0.1:0"}, s.environment...), "subscribe", "--id", id)
}

// placeAt makes customers place orders at another address.
func (s *shop) placeAt(api string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.api = api
}

// load lets a few customers place and pay orders at the same time until stop is called.
func (s *shop) load() (stop func()) {
	customers := []string{uuid.NewString(), uuid.NewString()}
	return infra.KeepOrdering(s.t, len(customers), func(hand int) (api, customer string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.api, customers[hand]
	})
}

func (s *shop) count(query string) (n int) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRow(query).Scan(&n))
	return n
}

const applied = "SELECT count(*) FROM inbox WHERE subscriber = 'emails' AND applied_at IS NOT NULL"

// progress waits until more than 50 further events have taken effect.
func (s *shop) progress() {
	s.t.Helper()
	before := s.count(applied)
	require.Eventually(s.t, func() bool { return s.count(applied) > before+50 }, waitTimeout, 20*time.Millisecond, "the subscriber stands still")
}

// requireEffects waits until every event took effect. It requires that each event took effect once, in the order of the log.
func (s *shop) requireEffects() {
	s.t.Helper()
	events := s.count("SELECT count(*) FROM outbox")
	require.Eventually(s.t, func() bool { return s.count(applied) == events }, waitTimeout, 20*time.Millisecond)
	require.Equal(s.t, s.count("SELECT count(*) FROM orders"), s.count("SELECT sum(orders) FROM customer_totals"))
	require.Zero(s.t, s.count(`SELECT count(*) FROM (
		SELECT position, lag(position) OVER (ORDER BY applied_at, position) AS before FROM inbox) AS i WHERE position < before`))
	require.Zero(s.t, s.count("SELECT count(*) FROM dead_letters"))
}

// requireBegan requires that new copies began at the position of the former copies, and handled no earlier event.
func (s *shop) requireBegan(copies ...*infra.Process) {
	s.t.Helper()
	said, dealtWith := "", 0
	for _, p := range copies {
		said += p.String()
		dealtWith += int(infra.Scrape(s.t, p.Admin()).Value(s.t, "messaging_client_consumed_messages_total"))
	}
	const began = "begins at the position of the earlier version's durable consumer subscriber=emails sequence="
	_, after, found := strings.Cut(said, began)
	require.True(s.t, found, said)
	sequence, err := strconv.Atoi(strings.Fields(after)[0])
	require.NoError(s.t, err)
	require.Greater(s.t, sequence, 100)
	require.LessOrEqual(s.t, dealtWith, s.count("SELECT max(position) FROM outbox")-sequence)
}

// TestRollingUpdate checks that two subscribers and the instance of an earlier version are replaced one after the other under load, and
// back again, and that each event takes effect once, in order. That version kept its position at the broker.
func TestRollingUpdate(t *testing.T) {
	s := newShop(t, consumers)
	instance := s.old("old", "serve")
	s.placeAt(instance.API())
	former := []*infra.Process{s.old("old-1", "subscribe", "--id", "emails"), s.old("old-2", "subscribe", "--id", "emails")}
	stop := s.load()
	defer stop()
	s.progress()

	s.placeAt(infra.Serve(t, "new", s.environment).API())
	s.progress()
	require.Zero(t, instance.Stop(syscall.SIGTERM))
	first := s.subscriber("new-1", "emails")
	first.WaitFor("waiting for copies of an earlier version to stop")
	s.progress()
	for _, copies := range former {
		require.Zero(t, copies.Stop(syscall.SIGTERM))
	}
	second := s.subscriber("new-2", "emails")
	first.WaitFor("subscribed")
	second.WaitFor("subscribed")
	s.progress()
	s.requireBegan(first, second)

	back := []*infra.Process{s.old("back-1", "subscribe", "--id", "emails")}
	s.progress()
	require.Zero(t, first.Stop(syscall.SIGTERM))
	back = append(back, s.old("back-2", "subscribe", "--id", "emails"))
	s.progress()
	require.Zero(t, second.Stop(syscall.SIGTERM))
	s.progress()
	stop()
	s.requireEffects()
	for _, p := range back {
		require.Zero(t, p.Stop(syscall.SIGTERM))
	}
}
