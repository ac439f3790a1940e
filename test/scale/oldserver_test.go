//go:build scale

package scale_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestOldServer checks that on a NATS without atomic batches orders are accepted, nothing is published, and every process names the version
// that it needs. The relay continues by itself after an upgrade, a downgrade under load and another upgrade, and nothing is lost or
// doubled.
func TestOldServer(t *testing.T) {
	t.Parallel()
	var store string
	var port int
	server := infra.NATS(t, func(o *embedded.NATSOptions) { store, port = o.StoreDir, o.Port })
	server.Stop()
	old := infra.StartOldNATS(t, port, store)
	database := infra.Database(t)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + server.URL, "OUTBOX_LEASE_TTL=1s"}
	requireUnfit := func() {
		t.Helper()
		status := requireHalt(t, environment, "stream_unfit")
		require.Contains(t, status, "is version "+infra.OldNATSVersion+", which knows no atomic batches: upgrade it to 2.12.0 or later")
		infra.RequireInSource(t, "outbox adopt")
		require.NotContains(t, status, "outbox adopt", "that repairs nothing")
		require.Contains(t, outboxie(t, environment, 1, "outbox", "adopt"), "2.12.0")
	}
	relaying := func() {
		t.Helper()
		require.Eventually(t, func() bool {
			return strings.HasPrefix(outboxie(t, environment, 0, "outbox", "status"), "relaying")
		}, waitTimeout, 50*time.Millisecond)
	}

	first := infra.Serve(t, "app0", environment)
	first.WaitFor("relay halted")
	placeMany(t, first.API(), 20)
	requireUnfit()
	js := jetStream(t, server.URL)
	_, err := js.Stream(t.Context(), "ORDERS")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	old.Kill()
	server.Start()
	relaying()
	stored(t, js, 20)
	require.Zero(t, first.Stop(syscall.SIGTERM))

	h := startHarness(t, database, environment, js)
	h.mayHalt = true
	for range 2 {
		server.Stop()
		old := infra.StartOldNATS(t, port, store)
		requireUnfit()
		before := last(t, js)
		time.Sleep(time.Second)
		require.Equal(t, before, last(t, js), "nothing is published")
		old.Kill()
		server.Start()
		relaying()
	}
	for _, instance := range h.instances {
		require.LessOrEqual(t, strings.Count(instance.String(), "brought the stream up to date"), 2, "at most once for each upgrade")
	}
	h.finish(t)
}

func last(t *testing.T, js jetstream.JetStream) (sequence uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		stream, err := js.Stream(t.Context(), "ORDERS")
		if err == nil {
			sequence = stream.CachedInfo().State.LastSeq
		}
		return err == nil
	}, waitTimeout, 10*time.Millisecond)
	return sequence
}
