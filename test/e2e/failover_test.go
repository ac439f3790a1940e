package e2e_test

import (
	"database/sql"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// The goals for the time from the kill of a leader until another instance leads. busy is the factor by which a busy machine may miss them.
const (
	followedMedian = 300 * time.Millisecond
	followedWorst  = 600 * time.Millisecond
	busy           = 3
)

// TestKilledLeaders checks that another instance takes over without waiting for the lease when the leader is killed, twenty times under load.
// The lease lasts ten seconds. The broker reports that the leader is gone.
func TestKilledLeaders(t *testing.T) {
	f := startFleet(t, "OUTBOX_LEASE_TTL=10s")
	f.instances["app4"] = infra.Serve(t, "app4", f.environment) // so that one follower has always been connected for a while
	var killed []pause
	for range 20 {
		killed = append(killed, f.handover((*infra.Process).Kill))
	}
	f.finish()
	f.report("kill -9", killed)
	lengths := sorted(killed, pause.length)
	t.Logf("goals: median %s, worst %s", followedMedian, followedWorst)
	require.Less(t, lengths[len(lengths)/2], busy*followedMedian, "median")
	require.Less(t, lengths[len(lengths)-1], busy*followedWorst, "worst")
	require.EqualValues(t, 21, count(t, f.db, "SELECT token FROM leases"))
}

// TestRestartedUnderItsOwnName checks that the only instance leads again at once when it is killed and started under the same INSTANCE_ID.
func TestRestartedUnderItsOwnName(t *testing.T) {
	database, broker := infra.Database(t), infra.Broker(t)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=30s"}
	only := infra.Serve(t, "only", environment)
	only.WaitFor("created the stream")
	placeMany(t, only.API(), 1)
	require.Eventually(t, func() bool { return published(t, broker) == 1 }, waitTimeout, tick)
	only.Kill()
	only = infra.Serve(t, "only", environment)
	ready := time.Now()
	placeMany(t, only.API(), 1)
	require.Eventually(t, func() bool { return published(t, broker) == 2 }, waitTimeout, tick)
	took := time.Since(ready)
	t.Logf("delivery went on %s after the instance was ready again", took.Round(time.Millisecond))
	require.Less(t, took, busy*followedWorst)
}

// TestBrokerRestartsKeepTheLeader checks that no follower takes the lease of a leader that reconnects late after a restart of the broker.
func TestBrokerRestartsKeepTheLeader(t *testing.T) {
	database, broker := infra.Database(t), infra.NATS(t)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker.URL, "OUTBOX_LEASE_TTL=10s"}
	first := infra.Serve(t, "app1", environment)
	first.WaitFor("created the stream")
	infra.Serve(t, "app2", environment)
	db := openDB(t, database)
	for n := range 5 {
		placeMany(t, first.API(), 1)
		require.Eventually(t, func() bool { return published(t, broker.URL) == uint64(n+1) }, waitTimeout, tick)
		time.Sleep(time.Duration(n) * 600 * time.Millisecond) // so that some connections are young, and some are not
		broker.Stop()
		time.Sleep(time.Duration(n%3) * 150 * time.Millisecond)
		broker.Start()
	}
	require.Eventually(t, func() bool { return published(t, broker.URL) == 5 }, waitTimeout, tick)
	time.Sleep(3 * time.Second)
	token := count(t, db, "SELECT token FROM leases")
	t.Logf("the lease changed hands %d times", token-1)
	require.LessOrEqual(t, token, 2)
}

// TestLeaderThatReconnects checks that a leader whose connection to the broker is cut again and again keeps its lease.
func TestLeaderThatReconnects(t *testing.T) {
	database, broker := infra.Database(t), infra.NATS(t)
	db, cable := openDB(t, database), newCable(t, broker.URL)
	settings := []string{"DATABASE_URL=" + database, "OUTBOX_LEASE_TTL=10s"}
	leader := infra.Serve(t, "app1", append([]string{"NATS_URL=" + cable.url}, settings...))
	leader.WaitFor("created the stream")
	infra.Serve(t, "app2", append([]string{"NATS_URL=" + broker.URL}, settings...))
	for range 20 {
		cable.cut()
		time.Sleep(150 * time.Millisecond)
	}
	placeMany(t, leader.API(), 1)
	require.Eventually(t, func() bool { return published(t, broker.URL) == 1 }, waitTimeout, tick)
	token := count(t, db, "SELECT token FROM leases")
	t.Logf("the lease changed hands %d times", token-1)
	require.LessOrEqual(t, token, 2)
}

func openDB(t *testing.T, database string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// cable carries connections to a server, and can be cut; new connections work.
type cable struct {
	url string

	mu    sync.Mutex
	conns []net.Conn
}

func newCable(t *testing.T, server string) *cable {
	t.Helper()
	target, err := url.Parse(server)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cable{url: "nats://" + listener.Addr().String()}
	t.Cleanup(c.cut)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target.Host)
			if err != nil {
				_ = near.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, near, far)
			c.mu.Unlock()
			for _, pair := range [][]net.Conn{{near, far}, {far, near}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					_, _ = pair[0].Close(), pair[1].Close()
				}()
			}
		}
	}()
	return c
}

// cut ends all connections.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}
