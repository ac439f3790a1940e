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

// followedWithin is how long delivery may pause when a leader was killed: three times the goal, because the machine is busy, and much shorter
// than the leases here.
const followedWithin = 1800 * time.Millisecond

// relayFleet is two instances that compete to lead.
type relayFleet map[string]*infra.Process

// leader returns the instance that got the lease last, and its token.
func (f relayFleet) leader(t *testing.T, db *sql.DB) (name string, token int) {
	t.Helper()
	require.Eventually(t, func() bool { return db.QueryRow("SELECT holder, token FROM leases").Scan(&name, &token) == nil },
		waitTimeout, 10*time.Millisecond)
	return name, token
}

// kill kills the leader, and waits until the other one leads.
func (f relayFleet) kill(t *testing.T, db *sql.DB) {
	t.Helper()
	first, _ := f.leader(t, db)
	f[first].Kill()
	began := time.Now()
	var second string
	require.Eventually(t, func() bool { second, _ = f.leader(t, db); return second != first }, waitTimeout, time.Millisecond)
	took := time.Since(began)
	t.Logf("kill -9 of the leader: the other one has the lease after %s", took.Round(time.Millisecond))
	require.Less(t, took, followedWithin)
	f[second].WaitFor("the leader is gone")
}

// TestClusterFollowsADeadLeader checks that a relay whose NATS server is killed connects to another server and keeps its lease. If the leading
// instance is killed, the other instance takes over at once.
func TestClusterFollowsADeadLeader(t *testing.T) {
	t.Parallel()
	cluster, database := startCluster(t), infra.Database(t)
	h := startHarness(t, database, []string{
		"DATABASE_URL=" + database, "NATS_URL=" + cluster.url(), "STREAM_REPLICAS=3", "OUTBOX_LEASE_TTL=60s",
	}, cluster.js)
	f := relayFleet{"app1": h.instances[0], "app2": h.instances[1]}
	cluster.more(50)
	first, before := f.leader(t, h.db)
	server := f[first].WaitFor("server=n")
	cluster.nodes["n"+server].Kill()
	cluster.more(50)
	time.Sleep(3 * time.Second)
	_, after := f.leader(t, h.db)
	t.Logf("kill -9 of the leader's server: the lease changed hands %d times", after-before)
	require.LessOrEqual(t, after, before+1)
	cluster.nodes["n"+server].Start()
	cluster.whole()
	f.kill(t, h.db)
	cluster.more(50)
	h.finish(t)
}

// TestLeastPrivilegeFollowsADeadLeader checks that, when the leader is killed, the other instance takes over at once. Both instances have only
// the rights that they need.
func TestLeastPrivilegeFollowsADeadLeader(t *testing.T) {
	t.Parallel()
	p, f := relays(t, newPrivileged(t), "60s")
	time.Sleep(time.Second)
	f.kill(t, p.admin)
	for _, process := range f {
		require.NotContains(t, process.String(), "ermission")
	}
}

// TestWithoutTheRightToAskForTheLeader checks that a follower without the right to ask for the leader waits for the end of the leader's lease,
// and logs the denial once.
func TestWithoutTheRightToAskForTheLeader(t *testing.T) {
	t.Parallel()
	p, f := relays(t, newPrivileged(t, `"outboxie.ORDERS.leader.*"`), "3s")
	time.Sleep(4 * time.Second)
	first, token := f.leader(t, p.admin)
	require.Equal(t, 1, token)
	for _, process := range f {
		require.Equal(t, 1, strings.Count(process.String(), "Permissions Violation"), process)
	}
	f[first].Kill()
	began := time.Now()
	require.Eventually(t, func() bool { name, _ := f.leader(t, p.admin); return name != first }, waitTimeout, time.Millisecond)
	require.Greater(t, time.Since(began), 2*time.Second)
}

// relays starts two instances that only relay.
func relays(t *testing.T, p *privileged, ttl string) (*privileged, relayFleet) {
	t.Helper()
	outboxie(t, p.as(migrator, ""), 0, "migrate", "up")
	p.applyRoles()
	f := relayFleet{}
	for _, id := range []string{"app1", "app2"} {
		f[id] = infra.Launch(t, p.as(relayer, "relay", "INSTANCE_ID="+id, "OUTBOXIE_ROLES=relay", "ADMIN_ADDR=127.0.0.1:0", "OUTBOX_LEASE_TTL="+ttl), "serve")
		f[id].Admin()
	}
	first, _ := f.leader(t, p.admin)
	f[first].WaitFor("created the stream")
	return p, f
}

// TestPartitionKeepsTheLeader checks that the leadership changes a few times at most when one server of three is cut off with the follower on
// it. This follower sees no leader. If its server led the stream, that server even continues to answer.
func TestPartitionKeepsTheLeader(t *testing.T) {
	t.Parallel()
	for name, leads := range map[string]bool{"and the stream's leader is with the others": false, "and it led the stream": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers, wire := startWired(t)
			database := infra.Database(t)
			db, f := open(t, database), relayFleet{}
			instance := func(id string, server int) *infra.Process {
				f[id] = infra.Serve(t, id, []string{
					"DATABASE_URL=" + database, fmt.Sprintf("NATS_URL=nats://127.0.0.1:%d", servers[server]), "STREAM_REPLICAS=3", "OUTBOX_LEASE_TTL=3s",
				})
				return f[id]
			}
			leader := instance("leader", 1)
			leader.WaitFor("created the stream")
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
			}, waitTimeout, 200*time.Millisecond)
			placeMany(t, leader.API(), 5)
			_, before := f.leader(t, db)

			wire.cut()
			for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(200 * time.Millisecond) {
				placeMany(t, leader.API(), 1)
			}
			_, after := f.leader(t, db)
			t.Logf("in 20 s the leadership changed %d times", after-before)
			require.LessOrEqual(t, after-before, 4)
			events := count(t, db, "SELECT count(*) FROM outbox")
			stored(t, js, events)
		})
	}
}
