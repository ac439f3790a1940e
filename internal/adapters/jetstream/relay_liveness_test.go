package jetstream_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// processes are two processes, each with its own connection to the broker.
type processes struct {
	*broker
	connections map[relay.Liveness]*nats.Conn
}

func (p *processes) Process() relay.Liveness {
	nc := p.connect()
	process := jetstream.NewLiveness(nc, stream, silent)
	if p.connections == nil {
		p.connections = make(map[relay.Liveness]*nats.Conn)
	}
	p.connections[process] = nc
	return process
}

func (p *processes) Kill(_ *testing.T, process relay.Liveness) { p.connections[process].Close() }

// behind returns a process whose connection goes through a proxy.
func (b *broker) behind(t *testing.T, p *proxy) (*jetstream.Liveness, *nats.Conn) {
	t.Helper()
	nc, err := jetstream.Connect(jetstream.Options{URL: p.URL, Name: t.Name(), Logger: silent})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return jetstream.NewLiveness(nc, stream, silent), nc
}

// TestAFrozenLeaderIsNotGone checks that a leader that is frozen, but still connected, is not reported as gone. Its followers
// wait for the lease.
func TestAFrozenLeaderIsNotGone(t *testing.T) {
	b := newBroker(t)
	p := newProxy(t, b.server.URL)
	leader, nc := b.behind(t, p)
	leader.Announce(7)
	require.NoError(t, nc.FlushTimeout(patience))
	p.MuteAfter(0, "")
	follower := jetstream.NewLiveness(b.connect(), stream, silent)
	for range 3 {
		began := time.Now()
		require.False(t, follower.Probe(t.Context(), 7).Gone)
		require.Less(t, time.Since(began), time.Second)
	}
}

// TestALeaderThatReconnectsIsBackSoon cuts the leader's connection again and again. It checks that the median absence is
// shorter than 100 ms (relaying.minGoneTime), after which a follower takes over. A rare longer absence costs only a change of
// leadership.
func TestALeaderThatReconnectsIsBackSoon(t *testing.T) {
	b := newBroker(t)
	p := newProxy(t, b.server.URL)
	leader, nc := b.behind(t, p)
	defer leader.Announce(7)()
	follower := jetstream.NewLiveness(b.connect(), stream, silent)
	require.Eventually(t, func() bool { return !follower.Probe(t.Context(), 7).Gone }, patience, time.Millisecond)
	var away []time.Duration
	for range 20 {
		before := nc.Stats().Reconnects
		p.Cut()
		cut := time.Now()
		require.Eventually(t, func() bool { return nc.Stats().Reconnects > before && !follower.Probe(t.Context(), 7).Gone },
			patience, time.Millisecond)
		away = append(away, time.Since(cut))
	}
	slices.Sort(away)
	t.Logf("away for %s at most, %s in the middle", away[19], away[10])
	require.Less(t, away[10], 100*time.Millisecond)
}

// TestReconnectDelays checks that the first tries to reconnect are quick, and that later ones are at most five in a second.
func TestReconnectDelays(t *testing.T) {
	for try, least := range map[int]time.Duration{
		1: 10 * time.Millisecond, 2: 20 * time.Millisecond, 4: 80 * time.Millisecond, 5: 100 * time.Millisecond,
		1000: 100 * time.Millisecond,
	} {
		for range 100 {
			delay := jetstream.ReconnectDelay(try)
			require.GreaterOrEqual(t, delay, least, "try %d", try)
			require.Less(t, delay, 2*least, "try %d", try)
		}
	}
}
