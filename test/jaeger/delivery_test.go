//go:build jaeger

package jaeger_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jaeger"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// fleet is three instances and two subscribers.
type fleet struct {
	*server
	settings  []string
	instances []*infra.Process
	broker    *infra.NATSServer
}

var (
	instances   = []string{"app1", "app2", "app3"}
	subscribers = []string{"emails", "vouchers"}
)

func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{server: start(t), broker: infra.NATS(t)}
	f.settings = f.environment(f.broker.URL)
	for _, id := range instances {
		f.instances = append(f.instances, infra.Serve(t, id, f.settings))
	}
	for _, id := range subscribers {
		infra.Launch(t, append(slices.Clone(f.settings), "INSTANCE_ID="+id+"-1"), "subscribe", "--id", id).WaitFor("subscribed")
	}
	return f
}

// delivered waits for the whole trace of an order.
func (f *fleet) delivered(order infra.Order) jaeger.Trace {
	f.t.Helper()
	return f.await(order.TraceID, func(trace []infra.Span) bool { return infra.Delivered(trace, len(subscribers)) })
}

// leader returns the instance that became leader last, by the token.
func (f *fleet) leader() string {
	f.t.Helper()
	newest := slices.MaxFunc(f.search("became leader", "outboxie.relay.name", "ORDERS"), func(a, b jaeger.Span) int {
		return int(a.Tags["outboxie.lease.token"].(int64) - b.Tags["outboxie.lease.token"].(int64))
	})
	return newest.Instance
}

// TestDelivery checks that Jaeger shows one trace for an order at each of three instances: from the request to the effects of both
// subscribers, each span below its cause and linked to the batch that carried it.
func TestDelivery(t *testing.T) {
	f := startFleet(t)
	for i, instance := range f.instances {
		order, err := infra.Place(instance.API())
		require.NoError(t, err)
		trace := f.delivered(order)
		linked, err := f.Linked(t.Context(), trace)
		require.NoError(t, err)
		require.Len(t, linked, 1)
		spans := spansOf(trace.Spans)
		infra.RequireDelivery(t, spans, spansOf(linked)[0], subscribers...)

		require.Equal(t, instances[i], infra.Only(t, spans, "POST /orders").Instance)
		require.Equal(t, instances[i], infra.Only(t, spans, "create orders.created").Instance)
		require.Equal(t, f.leader(), infra.Only(t, spans, "outbox relay").Instance)
		for _, span := range infra.Named(spans, "process orders.created") {
			require.Equal(t, span.Attributes["messaging.consumer.group.name"].(string)+"-1", span.Instance)
		}
		f.requireReferences(trace, linked[0])

		said, err := infra.Outboxie(t, f.settings, "trace", order.ID)
		require.NoError(t, err)
		require.Contains(t, said, f.Page(order.TraceID))
		require.Regexp(t, `(?m)^POST /orders +`+instances[i]+` `, said)
		require.Regexp(t, `(?m)^        outbox relay +`+f.leader()+` .*━ +sequence \d+$`, said)
		require.Regexp(t, `(?m)^          send ORDERS +`+f.leader()+` .*━ +a batch of 1 event, trace `+linked[0].TraceID+`$`, said)
		require.Regexp(t, `(?m)^        process orders\.created \(vouchers\) +vouchers-1 `, said)
		require.Regexp(t, `(?m)^          INSERT INTO inbox +emails-1 `, said)
		t.Logf("outboxie trace %s\n%s", order.ID, said)
	}
}

// requireReferences checks how Jaeger shows parents and links, as docs/tracing.md describes it.
func (f *fleet) requireReferences(trace jaeger.Trace, batch jaeger.Span) {
	f.t.Helper()
	create := named(trace, "create orders.created")
	require.Equal(f.t, []jaeger.Reference{
		{Kind: jaeger.ChildOf, TraceID: trace.ID, SpanID: create.ID},
		{Kind: jaeger.FollowsFrom, TraceID: batch.TraceID, SpanID: batch.ID},
	}, named(trace, "outbox relay").References, "a parent, and a link to another trace")
	require.Equal(f.t, []jaeger.Reference{{Kind: jaeger.FollowsFrom, TraceID: trace.ID, SpanID: create.ID}}, batch.References, "a link only")
	require.Equal(f.t, []jaeger.Reference{{Kind: jaeger.FollowsFrom, TraceID: trace.ID, SpanID: create.ID}},
		named(trace, "process orders.created").References, "a parent that is linked to as well")
}

// TestBatch checks that Jaeger shows the outcome of each event in the trace of its order, and the transaction of a batch in a trace that is
// linked both ways.
func TestBatch(t *testing.T) {
	s := start(t)
	settings := s.environment(infra.NATS(t).URL)
	app := infra.Serve(t, "app1", settings)
	orders := make(map[string]infra.Order) // by trace
	for range 8 {
		order, err := infra.Place(app.API())
		require.NoError(t, err)
		orders[order.TraceID] = order
	}
	for id := range orders { // the stream has them all
		s.await(id, func(spans []infra.Span) bool { return infra.Delivered(spans, 0) })
	}
	infra.Launch(t, append(slices.Clone(settings), "INSTANCE_ID=emails-1"), "subscribe", "--id", "emails").WaitFor("subscribed")

	for id, order := range orders {
		trace := s.await(id, func(spans []infra.Span) bool { return infra.Delivered(spans, 1) })
		process, create := named(trace, "process orders.created"), named(trace, "create orders.created")
		require.Equal(t, create.ID, process.Parent())
		require.Len(t, process.References, 2, "its parent, and the batch")
		at := slices.IndexFunc(process.References, func(r jaeger.Reference) bool { return r.TraceID != id })
		require.GreaterOrEqual(t, at, 0)
		batch := s.await(process.References[at].TraceID, func(spans []infra.Span) bool { return len(infra.Named(spans, "process ORDERS")) == 1 })
		whole := named(batch, "process ORDERS")
		require.Equal(t, jaeger.Reference{Kind: jaeger.FollowsFrom, TraceID: batch.ID, SpanID: whole.ID}, process.References[at])
		require.Empty(t, whole.Parent(), "a trace of its own")
		require.Equal(t, "emails-1", whole.Instance)
		require.EqualValues(t, len(orders), whole.Tags["messaging.batch.message_count"])
		require.Len(t, whole.References, len(orders))
		require.Contains(t, whole.References, jaeger.Reference{Kind: jaeger.FollowsFrom, TraceID: id, SpanID: create.ID})
		for _, span := range batch.Spans {
			require.True(t, span.ID == whole.ID || span.Parent() == whole.ID && span.Text("db.system.name") == "postgresql", span.Name)
		}
		require.Greater(t, len(batch.Spans), 4, "BEGIN, lane, inbox, totals, COMMIT")

		said, err := infra.Outboxie(t, settings, "trace", order.ID)
		require.NoError(t, err)
		require.Regexp(t, `(?m)^        process orders\.created \(emails\) +emails-1 `, said)
		require.Regexp(t, `(?m)^          process ORDERS \(emails\) +emails-1 .*━ +a batch of 8 events, trace `+batch.ID+`$`, said)
	}
}

// TestDeliveryOverTwoHops checks that the trace of a payment shows the event that one subscriber emits for it, and how another subscriber
// handles this event.
func TestDeliveryOverTwoHops(t *testing.T) {
	f := startFleet(t)
	infra.Launch(t, append(slices.Clone(f.settings), "INSTANCE_ID=warehouse-1"), "subscribe", "--id", "warehouse", "--handler", "fulfillment").WaitFor("subscribed")
	const processed = "process orders.fulfillment.requested"
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer hook.Close()
	follower := append(slices.Clone(f.settings), "INSTANCE_ID=shop-1", "WEBHOOK_URL="+hook.URL)
	infra.Launch(t, follower, "subscribe", "--id", "shop", "--handler", "webhook").WaitFor("subscribed")
	order, err := infra.Place(f.instances[0].API())
	require.NoError(t, err)
	paid, err := infra.Transition(f.instances[1].API(), order.ID, "pay")
	require.NoError(t, err)
	trace := f.await(paid.TraceID, func(trace []infra.Span) bool {
		return len(infra.Named(trace, "outbox relay")) == 2 && len(infra.Named(trace, processed)) == 1
	})
	spans := spansOf(trace.Spans)
	create := infra.Only(t, spans, "create orders.fulfillment.requested")
	require.Equal(t, "warehouse-1", create.Instance)
	for _, span := range infra.Named(spans, "process orders.paid") {
		if span.Instance == "warehouse-1" {
			require.Equal(t, span.SpanID, create.ParentID)
		}
	}
	handled := infra.Only(t, spans, processed)
	require.Equal(t, create.SpanID, handled.ParentID)
	require.Equal(t, "shop-1", handled.Instance)
	said, err := infra.Outboxie(t, f.settings, "trace", order.ID)
	require.NoError(t, err)
	require.Contains(t, said, "create orders.fulfillment.requested")
	require.Contains(t, said, processed)
}
