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

func (d *damagedStream) eventually(says func() string, what string) {
	d.T.Helper()
	var said string
	require.Eventually(d.T, func() bool { said = says(); return strings.Contains(said, what) }, waitTimeout, 50*time.Millisecond, "never said: %s", what)
}

// TestUnfitStreamIsRepaired checks that status, /readyz and log show the repair of changed stream settings, that the relay continues by itself
// after it, and that an adoption publishes again the events that were stored under other subjects. A limit is shown and changes nothing; direct
// gets are switched on again.
func TestUnfitStreamIsRepaired(t *testing.T) {
	d := newDamagedStream(t)
	infra.Launch(t, d.Environment, "subscribe", "--id", "emails")
	applied := func(events int) {
		t.Helper()
		require.Eventually(t, func() bool {
			return count(t, d.DB, "SELECT count(*) FROM inbox WHERE applied_at IS NOT NULL") == events
		},
			waitTimeout, 10*time.Millisecond)
	}
	applied(5)
	status := func() string {
		said, err := infra.Outboxie(t, d.Environment, "outbox", "status")
		require.NoError(t, err)
		return said
	}

	d.SetStream(func(c *jetstream.StreamConfig) { c.NoAck = true })
	d.eventually(status, "halted: stream_unfit")
	for _, said := range []string{status(), readiness(t, d.Instance), d.Instance.String()} {
		require.Contains(t, said, "Repair: `nats stream edit ORDERS --ack`")
	}
	infra.RequireInSource(t, "outbox adopt")
	require.NotContains(t, status(), "outbox adopt")
	said, err := infra.Outboxie(t, d.Environment, "outbox", "adopt", "--yes")
	require.Error(t, err)
	require.Contains(t, said, "nats stream edit ORDERS --ack")
	placeMany(t, d.Instance.API(), 2)
	require.EqualValues(t, 5, published(t, d.Broker.URL))
	d.SetStream(func(c *jetstream.StreamConfig) { c.NoAck = false })
	applied(7)
	d.eventually(status, "relaying")

	transform := &jetstream.SubjectTransformConfig{Source: "orders.*", Destination: "elsewhere.{{wildcard(1)}}"}
	d.SetStream(func(c *jetstream.StreamConfig) { c.SubjectTransform = transform })
	placeMany(t, d.Instance.API(), 1)
	d.eventually(status, "halted: stream_unfit")
	said, err = infra.Outboxie(t, d.Environment, "outbox", "adopt", "--position", "7", "--yes")
	require.NoError(t, err, said)
	d.SetStream(func(c *jetstream.StreamConfig) { c.SubjectTransform = nil })
	applied(8)
	d.eventually(status, "relaying")

	d.SetStream(func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1000 })
	d.eventually(func() string { return readiness(t, d.Instance) }, "max_msgs_per_subject: all events of a type have one subject")
	require.Contains(t, d.Instance.String(), "max_msgs_per_subject: all events of a type have one subject")
	require.Contains(t, status(), "relaying")

	d.SetStream(func(c *jetstream.StreamConfig) { c.AllowDirect = false })
	placeMany(t, d.Instance.API(), 1)
	applied(9)
	d.UseStream(func(_ jetstream.JetStream, stream jetstream.Stream) {
		require.True(t, stream.CachedInfo().Config.AllowDirect)
	})
}
