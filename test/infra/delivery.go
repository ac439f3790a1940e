package infra

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Delivered reports whether trace, the spans of one order's trace, is complete: the order was placed, its event was relayed, and the given
// number of subscribers has applied the event.
func Delivered(trace []Span, subscribers int) bool {
	return len(Named(trace, "process orders.created")) == subscribers &&
		len(Named(trace, "outbox relay")) == 1 && len(Named(trace, "POST /orders")) == 1
}

// RequireDelivery checks that trace shows the delivery of one new order, from the request to the effects of these subscribers. Each
// subscriber has applied the event in a transaction without other events. Each span is below its cause, is linked, and has the right kind
// and service. batch is the span of the batch that carried the event; it is in another trace.
func RequireDelivery(t testing.TB, trace []Span, batch Span, subscribers ...string) {
	t.Helper()
	server := Only(t, trace, "POST /orders")
	use := Only(t, trace, "order.place")
	transaction := Only(t, trace, "transaction")
	create := Only(t, trace, "create orders.created")
	wait := Only(t, trace, "outbox relay")
	linkTo := func(s Span) Link { return Link{TraceID: s.TraceID, SpanID: s.SpanID} }

	require.Empty(t, server.ParentID)
	require.Equal(t, "server", server.Kind)
	require.Equal(t, server.SpanID, use.ParentID)
	require.Equal(t, "internal", use.Kind)
	require.Equal(t, use.SpanID, transaction.ParentID)
	require.Equal(t, transaction.SpanID, create.ParentID)
	require.Equal(t, "producer", create.Kind)
	require.Equal(t, "outboxie", create.Service)
	require.Equal(t, "create", create.Attributes["messaging.operation.name"])
	require.Equal(t, "create", create.Attributes["messaging.operation.type"])

	require.Equal(t, create.SpanID, wait.ParentID)
	require.Equal(t, "outboxie", wait.Service)
	require.Equal(t, []Link{linkTo(batch)}, wait.Links)
	require.Equal(t, "send ORDERS", batch.Name)
	require.Equal(t, "client", batch.Kind)
	require.Empty(t, batch.ParentID)
	require.Equal(t, wait.Instance, batch.Instance)
	require.Equal(t, wait.Instance, wait.Attributes["messaging.client.id"], "the span itself shows who relayed")
	require.NotEmpty(t, batch.Attributes["server.address"])
	require.NotEqual(t, create.TraceID, batch.TraceID)
	require.Contains(t, batch.Links, linkTo(create))
	require.Equal(t, "nats", batch.Attributes["messaging.system"])
	require.Equal(t, "send", batch.Attributes["messaging.operation.name"])
	require.Equal(t, "send", batch.Attributes["messaging.operation.type"])
	require.Equal(t, "ORDERS", batch.Attributes["messaging.destination.name"])
	require.EqualValues(t, len(batch.Links), batch.Attributes["messaging.batch.message_count"])
	require.False(t, wait.End.Before(batch.Start), "it waits until it is in the stream")

	var handledBy []string
	for _, process := range Named(trace, "process orders.created") {
		subscriber, _ := process.Attributes["messaging.consumer.group.name"].(string)
		handledBy = append(handledBy, subscriber)
		require.Equal(t, "consumer", process.Kind)
		require.Equal(t, "outboxie-subscriber-"+subscriber, process.Service)
		require.Equal(t, process.Instance, process.Attributes["messaging.client.id"])
		require.Equal(t, create.SpanID, process.ParentID)
		require.Equal(t, []Link{linkTo(create)}, process.Links)
		require.Equal(t, "process", process.Attributes["messaging.operation.type"])
		require.False(t, process.Start.Before(wait.Start))
		require.NotEmpty(t, statements(trace, process), "its effect is there")
	}
	require.ElementsMatch(t, subscribers, handledBy)
	for _, span := range trace {
		if span.Attributes["messaging.system"] != nil {
			require.Equal(t, create.Attributes["messaging.message.id"], span.Attributes["messaging.message.id"], span.Name)
			require.Equal(t, "orders.created", span.Attributes["messaging.destination.name"], span.Name)
		}
		if text, ok := span.Attributes["db.query.text"].(string); ok {
			require.NotContains(t, text, Customer, "values are not traced")
		}
	}
	require.GreaterOrEqual(t, len(statements(trace, transaction)), 4, "BEGIN, order, outbox, COMMIT")
}

// statements returns the spans of statements directly below span.
func statements(trace []Span, span Span) []Span {
	return slices.DeleteFunc(slices.Clone(trace), func(s Span) bool {
		return s.ParentID != span.SpanID || s.Attributes["db.system.name"] != "postgresql" || s.Kind != "client"
	})
}

// Named returns the spans with a name.
func Named(spans []Span, name string) []Span {
	return slices.DeleteFunc(slices.Clone(spans), func(s Span) bool { return s.Name != name })
}

// Only returns the only span with a name.
func Only(t testing.TB, spans []Span, name string) Span {
	t.Helper()
	found := Named(spans, name)
	require.Len(t, found, 1, name)
	return found[0]
}
