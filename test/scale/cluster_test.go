//go:build scale

package scale_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// natsCluster is three servers, each in a process of its own.
type natsCluster struct {
	t     *testing.T
	nodes map[string]*infra.NATSProcess // by name
	urls  []string
	js    jetstream.JetStream
}

const natsNode = `
server_name: %[1]s
listen: 127.0.0.1:%[2]d
jetstream { store_dir: %[3]q, sync_interval: always }
cluster { name: test, listen: 127.0.0.1:%[4]d, routes: [%[5]s] }
`

func startCluster(t *testing.T) *natsCluster {
	t.Helper()
	c := &natsCluster{t: t, nodes: make(map[string]*infra.NATSProcess)}
	names := []string{"n1", "n2", "n3"}
	var routes []string
	var ports, routed []int
	for range names {
		ports, routed = append(ports, infra.Port(t)), append(routed, infra.Port(t))
	}
	for i := range names {
		routes = append(routes, fmt.Sprintf("nats-route://127.0.0.1:%d", routed[i]))
		c.urls = append(c.urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
	}
	for i, name := range names {
		store := filepath.Join(t.TempDir(), name)
		c.nodes[name] = infra.StartNATSProcess(t, fmt.Sprintf(natsNode, name, ports[i], store, routed[i], strings.Join(routes, ", ")))
	}
	c.js = jetStream(t, c.url())
	require.Eventually(t, func() bool { _, err := c.js.AccountInfo(t.Context()); return err == nil }, waitTimeout, 50*time.Millisecond,
		"the cluster has no leader")
	return c
}

func (c *natsCluster) url() string { return strings.Join(c.urls, ",") }

// info returns what the stream's leader reports, or nil if no leader answers.
func (c *natsCluster) info() *jetstream.StreamInfo {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	stream, err := c.js.Stream(ctx, "ORDERS")
	if err != nil {
		return nil
	}
	return stream.CachedInfo()
}

// leader returns the name of the stream's leader.
func (c *natsCluster) leader() string {
	c.t.Helper()
	var leader string
	require.Eventually(c.t, func() bool {
		if info := c.info(); info != nil && info.Cluster != nil {
			leader = info.Cluster.Leader
		}
		return leader != ""
	}, waitTimeout, 20*time.Millisecond, "the stream has no leader")
	return leader
}

// whole waits until all three servers have the whole stream.
func (c *natsCluster) whole() {
	c.t.Helper()
	var last *jetstream.StreamInfo
	require.Eventually(c.t, func() bool {
		last = c.info()
		if last == nil || last.Cluster == nil || len(last.Cluster.Replicas) != 2 {
			return false
		}
		for _, peer := range last.Cluster.Replicas {
			if !peer.Current || peer.Offline {
				return false
			}
		}
		return true
	}, waitTimeout, 50*time.Millisecond, "the replicas do not catch up: %+v", last)
}

// more waits until this number of further messages is stored, and returns how long that took.
func (c *natsCluster) more(messages uint64) time.Duration {
	c.t.Helper()
	began := time.Now()
	var enough uint64
	require.Eventually(c.t, func() bool {
		info := c.info()
		if info == nil {
			return false
		}
		if enough == 0 {
			enough = info.State.LastSeq + messages
		}
		return info.State.LastSeq >= enough
	}, waitTimeout, 20*time.Millisecond, "nothing is delivered")
	return time.Since(began).Round(10 * time.Millisecond)
}

// TestCluster checks that nothing is lost, doubled or out of order with a stream of three replicas under load, although its leader is
// killed with -9, the next one is frozen and continues later, and all three are restarted in turn.
func TestCluster(t *testing.T) {
	t.Parallel()
	cluster, database := startCluster(t), infra.Database(t)
	environment := []string{
		"DATABASE_URL=" + database, "NATS_URL=" + cluster.url(), "STREAM_REPLICAS=3", "OUTBOX_LEASE_TTL=2s",
	}
	h := startHarness(t, database, environment, cluster.js)
	cluster.more(50)

	killed := cluster.leader()
	cluster.nodes[killed].Kill()
	t.Logf("kill -9 of the stream's leader: delivery went on after %s", cluster.more(1))
	require.NotEqual(t, killed, cluster.leader())
	cluster.more(50)
	cluster.nodes[killed].Start()
	cluster.whole()

	frozen := cluster.leader()
	cluster.nodes[frozen].Signal(syscall.SIGSTOP)
	t.Logf("SIGSTOP of the stream's leader: delivery went on after %s", cluster.more(1))
	cluster.more(50)
	cluster.nodes[frozen].Signal(syscall.SIGCONT)
	cluster.whole()

	for name, node := range cluster.nodes {
		led := cluster.leader() == name
		node.Stop()
		t.Logf("restart of %s (leader: %t): delivery went on after %s", name, led, cluster.more(1))
		node.Start()
		cluster.whole()
	}
	cluster.more(50)
	h.finish(t)
}
