package relaytest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// LivenessHarness is a broker to which processes connect. When open and Reconnect return, every process is connected.
type LivenessHarness interface {
	Connection
	Process() relay.Liveness                   // a new process with each call
	Kill(t *testing.T, process relay.Liveness) // ends the process without a withdrawal
}

// TestLiveness runs the contract of relay.Liveness. Each call of open returns a broker without announcements.
func TestLiveness(t *testing.T, open func(t *testing.T) LivenessHarness) {
	check := contracttest.Runner(t, open)
	check("a token that nobody announced is gone", livenessNobody)
	check("every process sees an announcement", livenessAnnounced)
	check("after a withdrawal the process is gone", livenessWithdrawn)
	check("a killed process is gone", livenessKilled)
	check("during an outage no process is gone", livenessOutage)
	check("an announcement during an outage is not lost", livenessAnnouncedDuringOutage)
	check("when the context has ended, no process is gone", livenessContext)
}

// requireSoon waits for an answer: an announcement may reach the broker later than a probe over another connection.
func requireSoon(t *testing.T, gone bool, process relay.Liveness, token int64) {
	t.Helper()
	require.Eventually(t, func() bool { return process.Probe(t.Context(), token).Gone == gone }, patience, time.Millisecond)
}

// requireThere waits until the process is there, and requires that it stays.
func requireThere(t *testing.T, process relay.Liveness, token int64) {
	t.Helper()
	requireSoon(t, false, process, token)
	for range 5 {
		require.False(t, process.Probe(t.Context(), token).Gone)
	}
}

func livenessNobody(t *testing.T, h LivenessHarness) {
	require.Equal(t, relay.ProbeResult{Gone: true}, h.Process().Probe(t.Context(), 7))
}

func livenessAnnounced(t *testing.T, h LivenessHarness) {
	leader, follower := h.Process(), h.Process()
	defer leader.Announce(7)()
	requireThere(t, follower, 7)
	requireThere(t, h.Process(), 7)
	require.True(t, follower.Probe(t.Context(), 6).Gone, "nobody announced another token")
	require.True(t, follower.Probe(t.Context(), 77).Gone)
}

func livenessWithdrawn(t *testing.T, h LivenessHarness) {
	leader, follower := h.Process(), h.Process()
	withdraw := leader.Announce(7)
	defer leader.Announce(8)()
	requireThere(t, follower, 7)
	withdraw()
	withdraw()
	requireSoon(t, true, follower, 7)
	requireThere(t, follower, 8)
	defer leader.Announce(7)()
	requireThere(t, follower, 7)
}

func livenessKilled(t *testing.T, h LivenessHarness) {
	leader, follower := h.Process(), h.Process()
	leader.Announce(7)
	requireThere(t, follower, 7)
	h.Kill(t, leader)
	requireSoon(t, true, follower, 7)
	require.Zero(t, follower.Probe(t.Context(), 7).Session, "the follower's own connection was not lost")
}

func livenessOutage(t *testing.T, h LivenessHarness) {
	leader, follower := h.Process(), h.Process()
	defer leader.Announce(7)()
	requireThere(t, follower, 7)
	h.Disconnect(t)
	for _, token := range []int64{6, 7} {
		began := time.Now()
		require.False(t, follower.Probe(t.Context(), token).Gone)
		require.Less(t, time.Since(began), time.Second)
	}
	h.Reconnect(t)
	requireThere(t, follower, 7)
	require.True(t, follower.Probe(t.Context(), 6).Gone)
	require.Positive(t, follower.Probe(t.Context(), 7).Session)
}

func livenessAnnouncedDuringOutage(t *testing.T, h LivenessHarness) {
	leader, follower := h.Process(), h.Process()
	withdraw := leader.Announce(7)
	h.Disconnect(t)
	began := time.Now()
	defer leader.Announce(8)()
	withdraw()
	require.Less(t, time.Since(began), time.Second, "Announce and withdraw do not wait for the broker")
	h.Reconnect(t)
	requireThere(t, follower, 8)
	requireSoon(t, true, follower, 7)
}

func livenessContext(t *testing.T, h LivenessHarness) {
	ended, end := context.WithCancel(t.Context())
	end()
	require.False(t, h.Process().Probe(ended, 7).Gone)
}
