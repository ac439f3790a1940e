package telemetry_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TestFirstAttributesTellSpansApart checks that the first attributes of a span are the destination, the instance, and for a subscriber the
// subscriber: pages of tracing tools show the first ones beside the name.
func TestFirstAttributesTellSpansApart(t *testing.T) {
	tp, spans := record()
	_, err := tracePublisher(tp, &stream{}).Publish(context.Background(), 0, batchOf(sampledHeaders()))
	require.NoError(t, err)
	work := telemetry.TraceInbox(tp, "billing", "ORDERS", source, telemetry.InboxPorts{Work: handing{}}).Work
	event := batchOf(sampledHeaders())[0]
	_, err = work.Apply(t.Context(), "billing", inbox.Batch{Events: []inbox.Event{{Entry: event}}}, nothing, nil)
	require.NoError(t, err)
	for name, want := range map[string][]string{
		"send ORDERS":            {"messaging.destination.name=ORDERS", "messaging.client.id=app1"},
		"outbox relay":           {"messaging.destination.name=orders.created", "messaging.client.id=app1"},
		"process orders.created": {"messaging.destination.name=orders.created", "messaging.client.id=app1", "messaging.consumer.group.name=billing"},
	} {
		var first []string
		for _, attribute := range spans.one(t, name).Attributes()[:len(want)] {
			first = append(first, string(attribute.Key)+"="+attribute.Value.AsString())
		}
		require.Equal(t, want, first, name)
	}
}

// TestBrokerAddresses checks what a send span shows of the server that the process is connected to.
func TestBrokerAddresses(t *testing.T) {
	for address, want := range map[string][2]any{
		"nats.example:4333": {"nats.example", int64(4333)},
		"nats.example:4222": {"nats.example", nil},
		"[::1]:4333":        {"::1", int64(4333)},
		"":                  {nil, nil}, // not connected at the moment
	} {
		tp, spans := record()
		by := telemetry.Source{Instance: "app1", Broker: func() string { return address }}
		traced := telemetry.TraceRelay(tp, "ORDERS", by, telemetry.RelayPorts{Publisher: &stream{}})
		_, err := traced.Publisher.Publish(context.Background(), 0, batchOf(sampledHeaders()))
		require.NoError(t, err)
		shown := attributesOf(spans.one(t, "send ORDERS"))
		require.Equal(t, want, [2]any{shown["server.address"], shown["server.port"]}, address)
	}
}
