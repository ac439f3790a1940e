package e2e_test

import (
	"encoding/json"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestMisdirectedInstance checks that two correct instances deliver within the lease and 5 s beside a leader that has the address of a wrong
// broker. Status reports this and names the misdirected instance. Leadership does not change any more.
func TestMisdirectedInstance(t *testing.T) {
	database, right, wrong := infra.Database(t), infra.NATS(t), infra.NATS(t)
	const ttl = time.Second
	environment := func(broker string) []string {
		return []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, fmt.Sprintf("OUTBOX_LEASE_TTL=%s", ttl)}
	}
	before := infra.Serve(t, "app0", environment(right.URL))
	before.WaitFor("created the stream")
	placeMany(t, before.API(), 3)
	require.Eventually(t, func() bool { return published(t, right.URL) == 3 }, waitTimeout, 10*time.Millisecond)
	before.Kill()

	misdirected := infra.Serve(t, "app1", environment(wrong.URL))
	misdirected.WaitFor("relay halted")
	began := time.Now()
	second := infra.Serve(t, "app2", environment(right.URL))
	infra.Serve(t, "app3", environment(right.URL))
	placeMany(t, misdirected.API(), 2)
	require.Eventually(t, func() bool { return published(t, right.URL) == 5 }, ttl+5*time.Second, 10*time.Millisecond)
	t.Logf("delivered %s after the correct instances were started", time.Since(began).Round(time.Millisecond))

	status := func() (shown httpapi.OutboxStatus) {
		said, err := infra.Outboxie(t, environment(right.URL), "outbox", "status", "--json")
		require.NoError(t, err, said)
		require.NoError(t, json.Unmarshal([]byte(said), &shown))
		return shown
	}
	require.Eventually(t, func() bool { return status().State == httpapi.OutboxStatusStateRelaying }, waitTimeout, 50*time.Millisecond)
	token := status().Leader.Token
	for range 5 {
		time.Sleep(time.Second)
		placeMany(t, second.API(), 1)
		shown := status()
		require.Equal(t, token, shown.Leader.Token)
		require.Len(t, shown.HaltedInstances, 1)
		require.Equal(t, "app1", shown.HaltedInstances[0].Instance)
		require.Equal(t, "stream_missing", shown.HaltedInstances[0].Reason)
	}
	require.Eventually(t, func() bool { return published(t, right.URL) == 10 }, waitTimeout, 10*time.Millisecond)
	shown := infra.Scrape(t, misdirected.Admin()) // the samples that the alert OutboxieInstanceHalted uses
	require.EqualValues(t, 1, shown.Value(t, "outboxie_relay_halted", "outboxie_halt_reason=stream_missing"))
	require.Zero(t, shown.Value(t, "outboxie_relay_leader"))
	require.Zero(t, misdirected.Stop(syscall.SIGTERM))
	require.Empty(t, status().HaltedInstances)
}
