package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// readiness returns what an instance, or a subscriber, answers at /readyz.
func readiness(t *testing.T, p *infra.Process) string {
	t.Helper()
	_, said := askReadiness(t, p)
	return said
}

func (p *patient) set(change func(c *jetstream.StreamConfig)) {
	p.t.Helper()
	p.stream(func(js jetstream.JetStream, stream jetstream.Stream) {
		config := stream.CachedInfo().Config
		change(&config)
		_, err := js.UpdateStream(p.t.Context(), config)
		require.NoError(p.t, err)
	})
}

func (p *patient) eventually(says func() string, what string) {
	p.t.Helper()
	var said string
	require.Eventually(p.t, func() bool { said = says(); return strings.Contains(said, what) }, patience, 50*time.Millisecond, "never said: %s", what)
}

// TestUnfitStreamIsRepaired changes the stream's settings under a leader, on real servers: status, /readyz and log show the
// repair, and the relay goes on by itself after it. What was stored under other subjects is published again by an adoption.
// A limit is shown and changes nothing. Direct gets, by which subscribers read, are switched on again.
func TestUnfitStreamIsRepaired(t *testing.T) {
	p := newPatient(t)
	infra.Launch(t, p.environment, "subscribe", "--id", "emails")
	applied := func(events int) {
		t.Helper()
		require.Eventually(t, func() bool {
			return count(t, p.db, "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL") == events
		},
			patience, 10*time.Millisecond)
	}
	applied(5)
	status := func() string {
		said, err := infra.Outboxie(t, p.environment, "outbox", "status")
		require.NoError(t, err)
		return said
	}

	p.set(func(c *jetstream.StreamConfig) { c.NoAck = true })
	p.eventually(status, "halted: stream_unfit")
	for _, said := range []string{status(), readiness(t, p.instance), p.instance.String()} {
		require.Contains(t, said, "Repair: `nats stream edit ORDERS --ack`")
	}
	require.NotContains(t, status(), "outbox adopt")
	said, err := infra.Outboxie(t, p.environment, "outbox", "adopt", "--yes")
	require.Error(t, err)
	require.Contains(t, said, "nats stream edit ORDERS --ack")
	placeMany(t, p.instance.API(), 2)
	require.EqualValues(t, 5, published(t, p.broker.URL))
	p.set(func(c *jetstream.StreamConfig) { c.NoAck = false })
	applied(7)
	p.eventually(status, "relaying")

	transform := &jetstream.SubjectTransformConfig{Source: "orders.*", Destination: "elsewhere.{{wildcard(1)}}"}
	p.set(func(c *jetstream.StreamConfig) { c.SubjectTransform = transform })
	placeMany(t, p.instance.API(), 1)
	p.eventually(status, "halted: stream_unfit")
	said, err = infra.Outboxie(t, p.environment, "outbox", "adopt", "--position", "7", "--yes")
	require.NoError(t, err, said)
	p.set(func(c *jetstream.StreamConfig) { c.SubjectTransform = nil })
	applied(8)
	p.eventually(status, "relaying")

	p.set(func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1000 })
	p.eventually(func() string { return readiness(t, p.instance) }, "max_msgs_per_subject: all events of a type have one subject")
	require.Contains(t, p.instance.String(), "max_msgs_per_subject: all events of a type have one subject")
	require.Contains(t, status(), "relaying")

	p.set(func(c *jetstream.StreamConfig) { c.AllowDirect = false })
	placeMany(t, p.instance.API(), 1)
	applied(9)
	p.stream(func(_ jetstream.JetStream, stream jetstream.Stream) {
		require.True(t, stream.CachedInfo().Config.AllowDirect)
	})
}
