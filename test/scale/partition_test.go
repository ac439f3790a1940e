//go:build scale

package scale_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// wire carries the connections to one server, until it is cut.
type wire struct {
	listener net.Listener

	mu    sync.Mutex
	conns []net.Conn
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{listener: listener}
	t.Cleanup(w.cut)
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				_ = near.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, near, far)
			w.mu.Unlock()
			go func() { _, _ = io.Copy(near, far) }()
			go func() { _, _ = io.Copy(far, near) }()
		}
	}()
	return w
}

// cut ends all connections, and refuses new ones.
func (w *wire) cut() {
	_ = w.listener.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range w.conns {
		_ = conn.Close()
	}
}

const wiredNode = `
server_name: %s
listen: 127.0.0.1:%d
jetstream { store_dir: %q, sync_interval: always }
cluster { name: test, listen: 127.0.0.1:%d, advertise: %q, no_advertise: true, routes: [%s] }
`

// startWired starts three servers. The first server is connected to the other two only over the wire.
func startWired(t *testing.T) (ports []int, wire *wire) {
	t.Helper()
	ports = []int{infra.Port(t), infra.Port(t), infra.Port(t)}
	routed := []int{infra.Port(t), infra.Port(t), infra.Port(t)}
	wire = newWire(t, fmt.Sprintf("127.0.0.1:%d", routed[0]))
	through, nowhere := wire.listener.Addr().String(), "127.0.0.1:1" // the others connect to the first over the wire; the first connects to nobody
	for i, routes := range []string{"nats-route://" + nowhere, "nats-route://" + through, "nats-route://" + through + fmt.Sprintf(", nats-route://127.0.0.1:%d", routed[1])} {
		advertised := nowhere
		if i == 0 {
			advertised = through
		}
		infra.StartNATSProcess(t, fmt.Sprintf(wiredNode, fmt.Sprintf("n%d", i+1), ports[i], filepath.Join(t.TempDir(), "nats"), routed[i], advertised, routes))
	}
	return ports, wire
}

// TestFormerLeaderAnswers checks that a stream leader that is cut off from the others still reports its old end but stores nothing. So the
// relay trusts only its own append about the stream's end.
func TestFormerLeaderAnswers(t *testing.T) {
	t.Parallel()
	ports, wire := startWired(t)
	first, second := jetStream(t, fmt.Sprintf("nats://127.0.0.1:%d", ports[0])), jetStream(t, fmt.Sprintf("nats://127.0.0.1:%d", ports[1]))
	config := jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, Replicas: 3}
	require.Eventually(t, func() bool {
		return within(t, func(ctx context.Context) error { _, err := first.CreateStream(ctx, config); return err })
	},
		waitTimeout, 100*time.Millisecond)
	require.Eventually(t, func() bool {
		_, leader := end(t, first)
		if leader != "n1" {
			_, _ = first.Conn().Request("$JS.API.STREAM.LEADER.STEPDOWN.ORDERS", []byte(`{"placement":{"preferred":"n1"}}`), time.Second)
		}
		return leader == "n1"
	}, waitTimeout, 200*time.Millisecond, "the first never leads")
	_, err := first.Publish(t.Context(), "orders.created", nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool { last, _ := end(t, second); return last == 1 }, waitTimeout, 20*time.Millisecond)

	wire.cut()
	cut := time.Now()
	require.Eventually(t, func() bool {
		return within(t, func(ctx context.Context) error { _, err := second.Publish(ctx, "orders.created", nil); return err })
	}, waitTimeout, 100*time.Millisecond, "the other two elect nobody")
	last, leader := end(t, second)
	require.EqualValues(t, 2, last)
	require.NotEqual(t, "n1", leader)
	last, former := end(t, first)
	require.EqualValues(t, 1, last)
	t.Logf("%s after the cut %s leads with 2 messages, and the first says that %q does with 1", time.Since(cut).Round(100*time.Millisecond), leader, former)
	require.False(t, within(t, func(ctx context.Context) error {
		_, err := first.PublishMsg(ctx, nats.NewMsg("orders.created"), jetstream.WithExpectLastSequence(1))
		return err
	}), "the former leader stores nothing")
}

// within runs do for at most a second, and reports whether it succeeded.
func within(t *testing.T, do func(ctx context.Context) error) bool {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return do(ctx) == nil
}

// end returns the stream's last sequence and its leader, as any server reports them.
func end(t *testing.T, js jetstream.JetStream) (last uint64, leader string) {
	t.Helper()
	_ = within(t, func(ctx context.Context) error {
		stream, err := js.Stream(ctx, "ORDERS")
		if err == nil {
			last, leader = stream.CachedInfo().State.LastSeq, stream.CachedInfo().Cluster.Leader
		}
		return err
	})
	return last, leader
}
