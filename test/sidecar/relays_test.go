package sidecar_test

import (
	"database/sql"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// slowest is the p99 that a relay has at the most while nothing holds it up, on a busy machine. A relay that waits for a database that hangs
// takes seconds.
const slowest = time.Second

// TestRelaysAreIsolated checks that a relay delivers as fast as before while the database of a second relay in its process hangs, and a third
// relay is halted. Readiness, the list of relays and the metrics show which relay has what.
func TestRelaysAreIsolated(t *testing.T) {
	broker := infra.Broker(t)
	good, halted, hanging := emptyDatabase(t), emptyDatabase(t), emptyDatabase(t)
	address, err := url.Parse(hanging)
	require.NoError(t, err)
	proxy := infra.NewProxy(t, address.Host)
	process, admin := relay(t, settings(t, "good", good, broker), settings(t, "halted", halted, broker),
		settings(t, "hanging", proxy.URL(t, hanging), broker, "OUTBOX_LEASE_TTL=1s"))
	names := []string{"good", "halted", "hanging"}
	for _, name := range names {
		waitForState(t, admin, name, httpapi.RelayStateStateLeading)
	}
	failed, status, code := checks(t, admin)
	require.Empty(t, failed)
	require.Equal(t, httpapi.ReadinessStatusReady, status)
	require.Equal(t, http.StatusOK, code)
	measureIdle(t, map[string]string{"good": good, "halted": halted, "hanging": hanging})

	w := newWriter(t, "good", good, broker)
	before := measure(t, "nothing is wrong", w, 5*time.Second)

	newWriter(t, "halted", halted, broker).deliver()
	js, err := jetstream.New(w.nc)
	require.NoError(t, err)
	require.NoError(t, js.DeleteStream(t.Context(), "HALTED"))
	shown := waitForState(t, admin, "halted", httpapi.RelayStateStateHalted)
	require.Contains(t, *shown.Halted, "stream")
	proxy.SilenceAll()
	during := measure(t, "one is halted, and one hangs", w, 10*time.Second)
	require.Less(t, before, slowest)
	require.Less(t, during, slowest)

	failed, status, code = checks(t, admin)
	require.Equal(t, httpapi.ReadinessStatusDegraded, status)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, failed, "halted: relay")
	require.Contains(t, failed, "hanging: relay")
	require.Contains(t, failed, "hanging: database")
	for check := range failed {
		require.False(t, strings.HasPrefix(check, "good: "), "%s: %s", check, failed[check])
	}
	began := time.Now()
	samples := infra.Scrape(t, admin)
	t.Logf("a scrape took %s", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), 9*time.Second, "Prometheus waits for ten seconds")
	for name, leads := range map[string]float64{"good": 1, "halted": 0, "hanging": 0} {
		labels := []string{"outboxie_relay=" + name, "outboxie_stream=" + strings.ToUpper(name)}
		require.Equal(t, leads, samples.Value(t, "outboxie_relay_leader", labels...), name)
	}
	require.EqualValues(t, 1, samples.Value(t, "outboxie_relay_halted", "outboxie_relay=halted", "outboxie_halt_reason=stream_missing"))
	require.Len(t, samples.Find("outboxie_outbox_backlog", "outboxie_relay=good"), 1)
	require.Empty(t, samples.Find("outboxie_outbox_backlog", "outboxie_relay=hanging"), "a gauge is true or absent")

	proxy.Restore()
	began = time.Now()
	waitForState(t, admin, "hanging", httpapi.RelayStateStateLeading)
	t.Logf("the relay that hung leads again %s after its database answers", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	defer func() { t.Logf("stopping took %s", time.Since(began).Round(time.Millisecond)) }()
	require.Zero(t, process.Stop(syscall.SIGTERM))
}

// measure delivers events for a while, and returns the p99.
func measure(t *testing.T, when string, w *writer, long time.Duration) time.Duration {
	t.Helper()
	var took []time.Duration
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		took = append(took, w.deliver())
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	t.Logf("while %s: commit until delivered, %d events: p50 %s, p99 %s, longest %s", when, len(took), p50.Round(100*time.Microsecond),
		p99.Round(100*time.Microsecond), took[len(took)-1].Round(100*time.Microsecond))
	return p99
}

// measureIdle measures how many transactions a second each idle relay makes. Each of its statements is a transaction.
func measureIdle(t *testing.T, databases map[string]string) {
	t.Helper()
	db, err := sql.Open("pgx", infra.Database(t)) // another database, so that asking does not count
	require.NoError(t, err)
	defer db.Close()
	count := func(database string) (transactions float64) {
		address, err := url.Parse(database)
		require.NoError(t, err)
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1",
			strings.TrimPrefix(address.Path, "/")).Scan(&transactions))
		return transactions
	}
	time.Sleep(3 * time.Second) // the start is over, and its statistics have arrived
	before, began := make(map[string]float64), time.Now()
	for name, database := range databases {
		before[name] = count(database)
	}
	time.Sleep(10 * time.Second)
	for name, database := range databases {
		rate := (count(database) - before[name]) / time.Since(began).Seconds()
		t.Logf("idle: %s: %.1f statements/s", name, rate)
		require.Less(t, rate, 10.0, name)
	}
}

// TestRelaysStartAlone checks that a relay starts while the databases of others hang, are away, or are set up in an unsafe way. Readiness has
// the reasons. Each of them starts once its database can be used.
func TestRelaysStartAlone(t *testing.T) {
	broker := infra.Broker(t)
	good, hanging, distant, unsafe := emptyDatabase(t), emptyDatabase(t), emptyDatabase(t), infra.Database(t)
	address, err := url.Parse(hanging)
	require.NoError(t, err)
	proxy := infra.NewProxy(t, address.Host)
	proxy.SilenceAll()
	port := infra.Port(t)
	away, err := url.Parse(distant)
	require.NoError(t, err)
	away.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	execute(t, unsafe, "ALTER TABLE outbox ALTER COLUMN position SET CACHE 10")
	process, admin := relay(t, settings(t, "good", good, broker), settings(t, "hanging", proxy.URL(t, hanging), broker),
		settings(t, "away", away.String(), broker), settings(t, "unsafe", unsafe, broker))
	began := time.Now()
	waitForState(t, admin, "good", httpapi.RelayStateStateLeading)
	t.Logf("one of four relays leads after %s", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), 10*time.Second)
	newWriter(t, "good", good, broker).deliver()
	require.Equal(t, httpapi.RelayStateStateStarting, relays(t, admin)["hanging"].State)
	require.Eventually(t, func() bool {
		failed, status, code := checks(t, admin)
		return code == http.StatusOK && status == httpapi.ReadinessStatusDegraded && failed["hanging: relay"] != "" &&
			strings.Contains(failed["away: relay"], "refused") && strings.Contains(failed["unsafe: relay"], "SET CACHE 1")
	}, time.Minute, 50*time.Millisecond)
	infra.WaitForSample(t, admin, 0, "outboxie_relay_leader", "outboxie_relay=away")

	proxy.Restore()
	execute(t, unsafe, "ALTER TABLE outbox ALTER COLUMN position SET CACHE 1")
	infra.ProxyOn(t, port, address.Host)
	for _, name := range []string{"unsafe", "away", "hanging"} {
		waitForState(t, admin, name, httpapi.RelayStateStateLeading)
	}
	require.Zero(t, process.Stop(syscall.SIGTERM))
}
