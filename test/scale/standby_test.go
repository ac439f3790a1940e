//go:build scale

package scale_test

import (
	"database/sql"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// replicatedPostgres is a Postgres with a standby, and one URL for both.
type replicatedPostgres struct {
	t                *testing.T
	primary, standby *infra.PostgresServer
	url              string
}

func startReplicatedPostgres(t *testing.T) *replicatedPostgres {
	t.Helper()
	p := &replicatedPostgres{t: t, primary: infra.Postgres(t)}
	p.standby = infra.Standby(t, p.primary)
	both, err := url.Parse(p.primary.URL)
	require.NoError(t, err)
	second, err := url.Parse(p.standby.URL)
	require.NoError(t, err)
	both.Host += "," + second.Host
	query := both.Query()
	query.Set("target_session_attrs", "read-write")
	query.Set("connect_timeout", "2")
	both.RawQuery = query.Encode()
	p.url = both.String()
	return p
}

// synchronous makes the primary wait for the standby with every commit.
func (p *replicatedPostgres) synchronous() {
	p.t.Helper()
	db := open(p.t, p.primary.URL)
	_, err := db.Exec("ALTER SYSTEM SET synchronous_standby_names = '*'")
	require.NoError(p.t, err)
	_, err = db.Exec("SELECT pg_reload_conf()")
	require.NoError(p.t, err)
	require.Eventually(p.t, func() bool {
		return count(p.t, db, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
	}, waitTimeout, 20*time.Millisecond, "the standby does not become synchronous")
}

// failOver ends the primary as a crash does, and makes the standby the primary. It returns how long that took.
func (p *replicatedPostgres) failOver(crash func()) time.Duration {
	p.t.Helper()
	began := time.Now()
	crash()
	db := open(p.t, p.standby.URL)
	_, err := db.Exec("SELECT pg_promote()")
	require.NoError(p.t, err)
	return time.Since(began).Round(time.Millisecond)
}

// jetStream returns a separate client, which soon notices a frozen server.
func jetStream(t *testing.T, broker string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(broker, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.PingInterval(time.Second))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

// TestSynchronousStandby checks that nothing acknowledged is lost when the primary is killed under load and a synchronous standby is
// promoted, and that all processes continue there.
func TestSynchronousStandby(t *testing.T) {
	t.Parallel()
	p, broker := startReplicatedPostgres(t), infra.NATS(t).URL
	p.synchronous()
	h := startHarness(t, p.url, []string{"DATABASE_URL=" + p.url, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=2s"}, jetStream(t, broker))
	h.more(t, 100)
	took := p.failOver(p.primary.Kill)
	began := time.Now()
	h.more(t, 1)
	t.Logf("the standby was promoted after %s; the first event from there was delivered after %s more", took,
		time.Since(began).Round(time.Millisecond))
	h.more(t, 100)
	h.finish(t)
}

// more waits until every subscriber has applied this number of further events.
func (h *harness) more(t *testing.T, events int) {
	t.Helper()
	var before int
	applied := func() (n int, ok bool) {
		err := h.db.QueryRow(`SELECT coalesce(min(n), 0) FROM (SELECT count(*) AS n FROM inbox GROUP BY subscriber) AS each`).Scan(&n)
		return n, err == nil
	}
	require.Eventually(t, func() bool {
		n, ok := applied()
		if ok && before == 0 {
			before = n
		}
		return ok && n >= before+events
	}, waitTimeout, 10*time.Millisecond, "nothing is delivered")
}

// TestAsynchronousStandby checks that the relay halts on a standby that lacks delivered events, that the operator sees which events only
// the stream has, and that everything continues after an adoption.
func TestAsynchronousStandby(t *testing.T) {
	t.Parallel()
	p, broker := startReplicatedPostgres(t), infra.NATS(t).URL
	js := jetStream(t, broker)
	environment := []string{"DATABASE_URL=" + p.url, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=2s"}
	instance := infra.Serve(t, "app", environment)
	before, lost := 5, 3
	placeMany(t, instance.API(), before)
	stored(t, js, before)
	replicated(t, p)
	p.standby.Stop()
	placeMany(t, instance.API(), lost)
	stored(t, js, before+lost)
	ghosts := eventIDs(t, open(t, p.primary.URL), before)
	require.Len(t, ghosts, lost)

	p.failOver(func() {
		p.primary.Kill()
		p.standby.Start()
	})
	instance.WaitFor("relay halted")
	placeMany(t, instance.API(), 2) // orders are still accepted
	requireHalt(t, environment, "history_lost")
	plan := outboxie(t, environment, 2, "outbox", "adopt")
	require.Contains(t, plan, "halted (history_lost)")
	require.Contains(t, plan, "The stream holds 3 events that the log does not")
	for _, id := range ghosts {
		require.Contains(t, plan, id)
	}
	outboxie(t, environment, 0, "outbox", "adopt", "--yes")
	placeMany(t, instance.API(), 2)
	stored(t, js, before+lost+2+2+1) // and the control message of the adoption
	require.Contains(t, outboxie(t, environment, 0, "outbox", "status"), "relaying")
}

// replicated waits until the standby has all that the primary has.
func replicated(t *testing.T, p *replicatedPostgres) {
	t.Helper()
	db := open(t, p.primary.URL)
	require.Eventually(t, func() bool {
		return count(t, db, "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()") == 1
	}, waitTimeout, 20*time.Millisecond, "the standby does not catch up")
}

// eventIDs returns the event ids of the log. It skips the first events; but is their number.
func eventIDs(t *testing.T, db *sql.DB, but int) (ids []string) {
	t.Helper()
	rows, err := db.Query("SELECT event_id FROM outbox ORDER BY position OFFSET $1", but)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id string
		require.NoError(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(t, rows.Err())
	return ids
}
