package e2e_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestOneTrace receives the spans of a real POST over real OTLP: from the request to both of two subscribers, which are
// other processes, it is one trace, with each span below the one that caused it.
func TestOneTrace(t *testing.T) {
	collector := infra.Collector(t)
	environment := append(collector.Environment(), "DATABASE_URL="+infra.Database(t), "NATS_URL="+infra.Broker(t))
	instance := serve(t, "traced", environment)
	subscribers := []string{"emails", "invoices"}
	for _, id := range subscribers {
		infra.Launch(t, environment, "subscribe", "--id", id).Says("subscribed")
	}
	order, err := place(instance.API())
	require.NoError(t, err)
	require.Len(t, order.traceID, 32)

	var trace, batch []infra.Span
	require.True(t, collector.WaitFor(func(all []infra.Span) bool {
		trace, batch = nil, nil
		for _, span := range all {
			if span.TraceID == order.traceID {
				trace = append(trace, span)
			}
			if span.Name == "send ORDERS" {
				batch = append(batch, span)
			}
		}
		return len(named(trace, "ack orders.created")) == len(subscribers) && len(named(trace, "outbox relay")) == 1 &&
			len(named(trace, "POST /orders")) == 1 && len(batch) == 1
	}, patience), "%+v", trace)

	server := only(t, trace, "POST /orders")
	use := only(t, trace, "order.place")
	transaction := only(t, trace, "transaction")
	create := only(t, trace, "create orders.created")
	wait := only(t, trace, "outbox relay")
	send := only(t, batch, "send ORDERS")
	require.Empty(t, server.ParentID)
	require.Equal(t, "server", server.Kind)
	require.Equal(t, server.SpanID, use.ParentID)
	require.Equal(t, use.SpanID, transaction.ParentID)
	require.Equal(t, transaction.SpanID, create.ParentID)
	require.Equal(t, "producer", create.Kind)
	require.Equal(t, create.SpanID, wait.ParentID)
	require.Contains(t, wait.Links, infra.Link{TraceID: send.TraceID, SpanID: send.SpanID})

	require.Equal(t, "client", send.Kind)
	require.NotEqual(t, order.traceID, send.TraceID)
	require.Contains(t, send.Links, infra.Link{TraceID: create.TraceID, SpanID: create.SpanID})
	require.Equal(t, "nats", send.Attributes["messaging.system"])
	require.Equal(t, "ORDERS", send.Attributes["messaging.destination.name"])
	require.EqualValues(t, 1, send.Attributes["messaging.batch.message_count"])

	var instances []string
	for _, process := range named(trace, "process orders.created") {
		require.Equal(t, "consumer", process.Kind)
		require.Equal(t, create.SpanID, process.ParentID)
		require.Contains(t, process.Links, infra.Link{TraceID: create.TraceID, SpanID: create.SpanID})
		require.Equal(t, create.Attributes["messaging.message.id"], process.Attributes["messaging.message.id"])
		require.Equal(t, "outboxie-subscriber", process.Service)
		require.False(t, process.Start.Before(wait.Start))
		instances = append(instances, process.Attributes["messaging.consumer.group.name"].(string))
	}
	require.ElementsMatch(t, subscribers, instances)
	statements := slices.DeleteFunc(slices.Clone(trace), func(s infra.Span) bool { return s.Attributes["db.system.name"] == nil })
	require.NotEmpty(t, statements, "the transaction's statements are in the trace")
	for _, statement := range statements {
		require.NotContains(t, statement.Attributes["db.query.text"], customer, "values are not traced")
	}
	t.Log("\n" + waterfall(trace))
}

func named(spans []infra.Span, name string) []infra.Span {
	return slices.DeleteFunc(slices.Clone(spans), func(s infra.Span) bool { return s.Name != name })
}

func only(t *testing.T, spans []infra.Span, name string) infra.Span {
	t.Helper()
	found := named(spans, name)
	require.Len(t, found, 1, name)
	return found[0]
}

// waterfall draws a trace as text, for who reads the test's log.
func waterfall(spans []infra.Span) string {
	slices.SortFunc(spans, func(a, b infra.Span) int { return a.Start.Compare(b.Start) })
	var draw func(parent, indent string) string
	draw = func(parent, indent string) (text string) {
		for _, s := range spans {
			if s.ParentID == parent {
				text += indent + s.Name + "  " + s.Service + "  +" + s.Start.Sub(spans[0].Start).String() + " " + s.End.Sub(s.Start).String() + "\n"
				text += draw(s.SpanID, indent+"  ")
			}
		}
		return text
	}
	return draw("", "")
}
