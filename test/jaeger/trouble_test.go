//go:build jaeger

package jaeger_test

import (
	"database/sql"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jaeger"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// why returns the events of the order's wait in the outbox, by name, and what the command says of it.
func (c *crew) why(order infra.Order) (map[string]jaeger.Event, string) {
	c.t.Helper()
	wait := named(c.delivered(order), "outbox relay")
	events := make(map[string]jaeger.Event)
	for _, event := range wait.Events {
		require.False(c.t, event.Time.Before(wait.Start))
		require.False(c.t, event.Time.After(wait.Start.Add(wait.Duration)))
		events[event.Name] = event
	}
	said, err := infra.Outboxie(c.t, c.settings, "trace", order.ID)
	require.NoError(c.t, err)
	c.t.Logf("outboxie trace %s\n%s", order.ID, said)
	return events, said
}

// TestFailedPublish takes the broker away. The failed append is a batch of its own that links to the order, and the order's
// trace tells that its event was late because of it.
func TestFailedPublish(t *testing.T) {
	c := &crew{server: start(t), broker: infra.NATS(t)}
	// A leader that looks at the stream seldom learns of the outage by publishing.
	c.settings = c.environment(c.broker.URL, "OUTBOX_POLL_INTERVAL=10s", "OUTBOX_LEASE_TTL=10s")
	app := infra.Serve(t, "app1", c.settings)
	for _, id := range subscribers {
		infra.Launch(t, c.settings, "subscribe", "--id", id)
	}
	first, err := infra.Place(app.API())
	require.NoError(t, err)
	c.delivered(first)

	c.broker.Stop()
	late, err := infra.Place(app.API())
	require.NoError(t, err)
	failed := c.search("send ORDERS", "outboxie.batch.stored", "0")
	require.NotEmpty(t, failed)
	require.Equal(t, true, failed[0].Tags["error"])
	require.Equal(t, "broker_unavailable", failed[0].Tags["error.type"])
	said, err := infra.Outboxie(t, c.settings, "trace", late.ID)
	require.NoError(t, err)
	require.Contains(t, said, "not in the stream yet: outboxie outbox list --order order/"+late.ID)
	c.broker.Start()

	events, said := c.why(late)
	require.Equal(t, "broker_unavailable", events["publish failed"].Text("error.type"))
	require.Contains(t, said, "* publish failed at ")
	require.Contains(t, failed[0].References, jaeger.Reference{
		Kind: jaeger.FollowsFrom, TraceID: late.TraceID, SpanID: named(c.delivered(late), "create orders.created").ID,
	})
}

// TestHalt deletes the stream, has an operator adopt the new one, and finds both in Jaeger: as traces of their own, and as the
// reason why an order was late.
func TestHalt(t *testing.T) {
	c := muster(t)
	first, err := infra.Place(c.instances[0].API())
	require.NoError(t, err)
	c.delivered(first)
	nc, err := nats.Connect(c.broker.URL)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	led := c.leader()
	require.NoError(t, js.DeleteStream(t.Context(), "ORDERS"))

	halted := c.search("relay halted", "outboxie.halt.reason", "stream_missing")
	require.Equal(t, true, halted[0].Tags["error"])
	late, err := infra.Place(c.instances[1].API())
	require.NoError(t, err)
	time.Sleep(time.Second) // each instance led once, and looks several times since then
	var instances []string
	for _, span := range c.search("relay halted", "outboxie.halt.reason", "stream_missing") {
		instances = append(instances, span.Instance)
	}
	require.Contains(t, instances, led)
	slices.Sort(instances)
	require.Equal(t, slices.Compact(slices.Clone(instances)), instances, "a halt is reported once")

	said, err := infra.Outboxie(t, c.settings, "outbox", "adopt", "--yes")
	require.NoError(t, err, said)
	c.search("relay resumed", "outboxie.halt.reason", "stream_missing")
	events, said := c.why(late)
	require.Contains(t, events, "relay halted")
	require.Contains(t, events, "relay resumed")
	require.GreaterOrEqual(t, events["relay halted"].Tags["outboxie.lasted"], 0.5)
	require.Regexp(t, `\* relay halted at .*: the stream is gone`, said)
}

// TestTakeOver kills the leader with -9. The next order's trace tells that its event waited for another leader.
func TestTakeOver(t *testing.T) {
	c := muster(t)
	first, err := infra.Place(c.instances[0].API())
	require.NoError(t, err)
	c.delivered(first)
	before := c.leader()
	at := slices.Index(instances, before)
	c.instances[at].Signal(syscall.SIGKILL)

	late, err := infra.Place(c.instances[(at+1)%3].API())
	require.NoError(t, err)
	events, said := c.why(late)
	require.EqualValues(t, 2, events["became leader"].Tags["outboxie.lease.token"])
	require.Contains(t, said, "* became leader at ")
	require.NotEqual(t, before, c.leader())
	trace := spansOf(c.delivered(late).Spans)
	require.Equal(t, c.leader(), infra.Only(t, trace, "outbox relay").Instance)
}

// TestOpenTransaction writes the outbox and does not commit for a while: what was committed meanwhile waits for it, and its
// trace says so.
func TestOpenTransaction(t *testing.T) {
	c := muster(t)
	first, err := infra.Place(c.instances[0].API())
	require.NoError(t, err)
	c.delivered(first)
	db, err := sql.Open("pgx", strings.TrimPrefix(c.settings[0], "DATABASE_URL="))
	require.NoError(t, err)
	defer db.Close()
	open, err := db.Begin()
	require.NoError(t, err)
	_, err = open.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES (gen_random_uuid(), 'order', 'o', 1, 'test.v1', 'orders.created', '{}')`)
	require.NoError(t, err)
	late, err := infra.Place(c.instances[1].API())
	require.NoError(t, err)
	time.Sleep(time.Second)
	require.NoError(t, open.Rollback())

	events, said := c.why(late)
	require.Greater(t, events["log waited"].Tags["outboxie.lasted"], 0.5)
	require.Contains(t, said, ": for an open transaction that writes the outbox")
}
