//go:build scale

package scale_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// followedWithin is how long delivery may pause when a leader was killed: three times the goal, because the machine is busy, and
// a small part of the leases here.
const followedWithin = 1800 * time.Millisecond

// crew is two instances that compete, of which one can be taken away.
type crew map[string]*infra.Process

// leader is who got the lease last, with its token.
func (c crew) leader(t *testing.T, db *sql.DB) (name string, token int) {
	t.Helper()
	require.Eventually(t, func() bool { return db.QueryRow("SELECT holder, token FROM leases").Scan(&name, &token) == nil },
		patience, 10*time.Millisecond)
	return name, token
}

// kill kills the leader, and waits until the other one leads.
func (c crew) kill(t *testing.T, db *sql.DB) {
	t.Helper()
	first, _ := c.leader(t, db)
	c[first].Kill()
	began := time.Now()
	var second string
	require.Eventually(t, func() bool { second, _ = c.leader(t, db); return second != first }, patience, time.Millisecond)
	took := time.Since(began)
	t.Logf("kill -9 of the leader: the other one has the lease after %s", took.Round(time.Millisecond))
	require.Less(t, took, followedWithin)
	c[second].Says("the leader is gone")
}

// TestClusterFollowsADeadLeader runs two instances on a cluster of three. The server that the leader is connected to is killed:
// the leader connects to another one and keeps its lease. Then the leader itself is killed, and is followed at once.
func TestClusterFollowsADeadLeader(t *testing.T) {
	t.Parallel()
	cluster, database := startCluster(t), infra.Database(t)
	w := startWorld(t, database, []string{
		"DATABASE_URL=" + database, "NATS_URL=" + cluster.url(), "STREAM_REPLICAS=3", "OUTBOX_LEASE_TTL=60s",
	}, cluster.js)
	c := crew{"app1": w.instances[0], "app2": w.instances[1]}
	cluster.more(50)
	first, before := c.leader(t, w.db)
	server := c[first].Says("server=n")
	cluster.nodes["n"+server].Kill()
	cluster.more(50)
	time.Sleep(3 * time.Second)
	_, after := c.leader(t, w.db)
	t.Logf("kill -9 of the leader's server: the lease changed hands %d times", after-before)
	require.LessOrEqual(t, after, before+1)
	cluster.nodes["n"+server].Start()
	cluster.whole()
	c.kill(t, w.db)
	cluster.more(50)
	w.finish(t)
}

// TestLeastPrivilegeFollowsADeadLeader kills a leader that has no more rights than it needs.
func TestLeastPrivilegeFollowsADeadLeader(t *testing.T) {
	t.Parallel()
	p, c := relays(t, newPrivileged(t), "60s")
	time.Sleep(time.Second)
	c.kill(t, p.admin)
	for _, process := range c {
		require.NotContains(t, process.String(), "ermission")
	}
}

// TestRightsOfBefore shows that where the right to ask for the leader was not granted yet, its lease is waited for as it always was, and
// what is denied is said once.
func TestRightsOfBefore(t *testing.T) {
	t.Parallel()
	p, c := relays(t, newPrivileged(t, `"outboxie.ORDERS.leader.*"`), "3s")
	time.Sleep(4 * time.Second)
	first, token := c.leader(t, p.admin)
	require.Equal(t, 1, token)
	for _, process := range c {
		require.Equal(t, 1, strings.Count(process.String(), "Permissions Violation"), process)
	}
	c[first].Kill()
	began := time.Now()
	require.Eventually(t, func() bool { name, _ := c.leader(t, p.admin); return name != first }, patience, time.Millisecond)
	require.Greater(t, time.Since(began), 2*time.Second)
}

// relays starts two instances that only relay.
func relays(t *testing.T, p *privileged, ttl string) (*privileged, crew) {
	t.Helper()
	outboxie(t, p.as(migrator, ""), 0, "migrate", "up")
	p.applyRoles()
	c := crew{}
	for _, id := range []string{"app1", "app2"} {
		c[id] = infra.Launch(t, p.as(relayer, "relay", "INSTANCE_ID="+id, "OUTBOXIE_ROLES=relay", "ADMIN_ADDR=127.0.0.1:0", "OUTBOX_LEASE_TTL="+ttl), "serve")
		c[id].Admin()
	}
	first, _ := c.leader(t, p.admin)
	c[first].Says("created the stream")
	return p, c
}

// TestPartitionKeepsTheLeader cuts one server of three off, with the follower on it. There the follower sees nobody who leads;
// if that server led the stream, it even goes on answering. The leadership changes a few times at most.
func TestPartitionKeepsTheLeader(t *testing.T) {
	t.Parallel()
	for name, leads := range map[string]bool{"and the stream's leader is with the others": false, "and it led the stream": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers, wire := startWired(t)
			database := infra.Database(t)
			db, c := open(t, database), crew{}
			instance := func(id string, server int) *infra.Process {
				c[id] = infra.Serve(t, id, []string{
					"DATABASE_URL=" + database, fmt.Sprintf("NATS_URL=nats://127.0.0.1:%d", servers[server]), "STREAM_REPLICAS=3", "OUTBOX_LEASE_TTL=3s",
				})
				return c[id]
			}
			leader := instance("leader", 1)
			leader.Says("created the stream")
			instance("follower", 0)
			js := jetStream(t, fmt.Sprintf("nats://127.0.0.1:%d", servers[1]))
			require.Eventually(t, func() bool {
				_, at := end(t, js)
				right := at != "" && (at == "n1") == leads
				if !right {
					preferred := map[bool]string{true: "n1", false: "n2"}[leads]
					_, _ = js.Conn().Request("$JS.API.STREAM.LEADER.STEPDOWN.ORDERS", fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, preferred), time.Second)
				}
				return right
			}, patience, 200*time.Millisecond)
			placeMany(t, leader.API(), 5)
			_, before := c.leader(t, db)

			wire.cut()
			for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(200 * time.Millisecond) {
				placeMany(t, leader.API(), 1)
			}
			_, after := c.leader(t, db)
			t.Logf("in 20 s the leadership changed %d times", after-before)
			require.LessOrEqual(t, after-before, 4)
			events := count(t, db, "SELECT count(*) FROM outbox")
			stored(t, js, events)
		})
	}
}
