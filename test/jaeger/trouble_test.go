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

// waitEvents returns the events of the order's wait in the outbox by name, and the output of `outboxie trace`.
func (f *fleet) waitEvents(order infra.Order) (map[string]jaeger.Event, string) {
	f.t.Helper()
	wait := named(f.delivered(order), "outbox relay")
	events := make(map[string]jaeger.Event)
	for _, event := range wait.Events {
		require.False(f.t, event.Time.Before(wait.Start))
		require.False(f.t, event.Time.After(wait.Start.Add(wait.Duration)))
		events[event.Name] = event
	}
	said, err := infra.Outboxie(f.t, f.settings, "trace", order.ID)
	require.NoError(f.t, err)
	f.t.Logf("outboxie trace %s\n%s", order.ID, said)
	return events, said
}

// TestFailedPublish checks that a failed append is a batch of its own that links to the order, and that the order's trace says that its
// event was late because of it.
func TestFailedPublish(t *testing.T) {
	f := &fleet{server: start(t), broker: infra.NATS(t)}
	// With these settings the leader looks at the stream only every ten seconds. So it notices the outage when it publishes.
	f.settings = f.environment(f.broker.URL, "OUTBOX_POLL_INTERVAL=10s", "OUTBOX_LEASE_TTL=10s")
	app := infra.Serve(t, "app1", f.settings)
	for _, id := range subscribers {
		infra.Launch(t, f.settings, "subscribe", "--id", id)
	}
	first, err := infra.Place(app.API())
	require.NoError(t, err)
	f.delivered(first)

	f.broker.Stop()
	late, err := infra.Place(app.API())
	require.NoError(t, err)
	failed := f.search("send ORDERS", "outboxie.batch.stored", "0")
	require.NotEmpty(t, failed)
	require.Equal(t, true, failed[0].Tags["error"])
	require.Equal(t, "broker_unavailable", failed[0].Tags["error.type"])
	said, err := infra.Outboxie(t, f.settings, "trace", late.ID)
	require.NoError(t, err)
	require.Contains(t, said, "shows the event in the stream: outboxie outbox list --order order/"+late.ID)
	f.broker.Start()

	events, said := f.waitEvents(late)
	require.Equal(t, "broker_unavailable", events["publish failed"].Text("error.type"))
	require.Contains(t, said, "* publish failed at ")
	require.Contains(t, failed[0].References, jaeger.Reference{
		Kind: jaeger.FollowsFrom, TraceID: late.TraceID, SpanID: named(f.delivered(late), "create orders.created").ID,
	})
}

// TestHalt checks that Jaeger shows a halt and its adoption as traces of their own, and as the reason for a late order.
func TestHalt(t *testing.T) {
	f := startFleet(t)
	first, err := infra.Place(f.instances[0].API())
	require.NoError(t, err)
	f.delivered(first)
	nc, err := nats.Connect(f.broker.URL)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	led := f.leader()
	require.NoError(t, js.DeleteStream(t.Context(), "ORDERS"))

	halted := f.search("relay halted", "outboxie.halt.reason", "stream_missing")
	require.Equal(t, true, halted[0].Tags["error"])
	late, err := infra.Place(f.instances[1].API())
	require.NoError(t, err)
	time.Sleep(time.Second) // each instance has led once, and has looked several times since then
	var instances []string
	for _, span := range f.search("relay halted", "outboxie.halt.reason", "stream_missing") {
		instances = append(instances, span.Instance)
	}
	require.Contains(t, instances, led)
	slices.Sort(instances)
	require.Equal(t, slices.Compact(slices.Clone(instances)), instances, "a halt is reported once")

	said, err := infra.Outboxie(t, f.settings, "outbox", "adopt", "--yes")
	require.NoError(t, err, said)
	f.search("relay resumed", "outboxie.halt.reason", "stream_missing")
	events, said := f.waitEvents(late)
	require.Contains(t, events, "relay halted")
	require.Contains(t, events, "relay resumed")
	require.GreaterOrEqual(t, events["relay halted"].Tags["outboxie.lasted"], 0.5)
	require.Regexp(t, `\* relay halted at .*: the stream is gone`, said)
}

// TestTakeOver checks that the trace of an order says that its event waited for another leader.
func TestTakeOver(t *testing.T) {
	f := startFleet(t)
	first, err := infra.Place(f.instances[0].API())
	require.NoError(t, err)
	f.delivered(first)
	before := f.leader()
	at := slices.Index(instances, before)
	f.instances[at].Signal(syscall.SIGKILL)

	late, err := infra.Place(f.instances[(at+1)%3].API())
	require.NoError(t, err)
	events, said := f.waitEvents(late)
	require.EqualValues(t, 2, events["became leader"].Tags["outboxie.lease.token"])
	require.Contains(t, said, "* became leader at ")
	require.NotEqual(t, before, f.leader())
	trace := spansOf(f.delivered(late).Spans)
	require.Equal(t, f.leader(), infra.Only(t, trace, "outbox relay").Instance)
}

// TestOpenTransaction checks that the trace of an order says that its event waited for an open transaction.
func TestOpenTransaction(t *testing.T) {
	f := startFleet(t)
	first, err := infra.Place(f.instances[0].API())
	require.NoError(t, err)
	f.delivered(first)
	db, err := sql.Open("pgx", strings.TrimPrefix(f.settings[0], "DATABASE_URL="))
	require.NoError(t, err)
	defer db.Close()
	open, err := db.Begin()
	require.NoError(t, err)
	_, err = open.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES (gen_random_uuid(), 'order', 'o', 1, 'test.v1', 'orders.created', '{}')`)
	require.NoError(t, err)
	late, err := infra.Place(f.instances[1].API())
	require.NoError(t, err)
	time.Sleep(time.Second)
	require.NoError(t, open.Rollback())

	events, said := f.waitEvents(late)
	require.Greater(t, events["log waited"].Tags["outboxie.lasted"], 0.5)
	require.Contains(t, said, ": for an open transaction that writes the outbox")
}
