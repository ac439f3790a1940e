package telemetry_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

const (
	sampledParent   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unsampledParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	storedTrace     = "0af7651916cd43dd8448eb211c80319c"
	storedSpan      = "b7ad6b7169203331"
)

// source is the process that makes the spans of these tests.
var source = telemetry.Source{Instance: "app1", Broker: func() string { return "nats.example:4333" }}

var errDown = fault.New(fault.Unavailable, "database_down", "the database does not answer")

// recorded has the spans that ended, in the order of their ends.
type recorded struct{ *tracetest.SpanRecorder }

func record(options ...sdktrace.TracerProviderOption) (trace.TracerProvider, recorded) {
	recorder := tracetest.NewSpanRecorder()
	options = append(options, sdktrace.WithSpanProcessor(recorder))
	return sdktrace.NewTracerProvider(options...), recorded{recorder}
}

func (r recorded) one(t *testing.T, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	found := r.all(name)
	require.Len(t, found, 1, "spans called %q", name)
	return found[0]
}

func (r recorded) all(name string) []sdktrace.ReadOnlySpan {
	var found []sdktrace.ReadOnlySpan
	for _, span := range r.Ended() {
		if span.Name() == name {
			found = append(found, span)
		}
	}
	return found
}

func (r recorded) names() []string {
	names := []string{}
	for _, span := range r.Ended() {
		names = append(names, span.Name())
	}
	return names
}

func attributesOf(span sdktrace.ReadOnlySpan) map[string]any {
	read := make(map[string]any)
	for _, attr := range span.Attributes() {
		read[string(attr.Key)] = attr.Value.AsInterface()
	}
	return read
}

func attributeOf(span sdktrace.ReadOnlySpan, key attribute.Key) any {
	return attributesOf(span)[string(key)]
}

// requireChild checks that child is a child of parent.
func requireChild(t *testing.T, child, parent sdktrace.ReadOnlySpan) {
	t.Helper()
	require.Equal(t, parent.SpanContext().TraceID(), child.SpanContext().TraceID())
	require.Equal(t, parent.SpanContext().SpanID(), child.Parent().SpanID())
}

// requireStoredParent checks that span is a child of the creation context in sampledParent.
func requireStoredParent(t *testing.T, span sdktrace.ReadOnlySpan) {
	t.Helper()
	require.Equal(t, storedTrace, span.SpanContext().TraceID().String())
	require.Equal(t, storedSpan, span.Parent().SpanID().String())
	require.True(t, span.Parent().IsRemote())
}

// requireStoredLink checks that span links to the creation context in sampledParent, and to nothing else.
func requireStoredLink(t *testing.T, span sdktrace.ReadOnlySpan) {
	t.Helper()
	require.Len(t, span.Links(), 1)
	require.Equal(t, storedTrace, span.Links()[0].SpanContext.TraceID().String())
	require.Equal(t, storedSpan, span.Links()[0].SpanContext.SpanID().String())
}

func message(id string, headers map[string]string) outbox.Message {
	return outbox.Message{
		ID: id, Type: "outboxie.order.created.v1", Subject: "orders.created",
		Key: outbox.Key{Type: "order", ID: "order-1"}, Version: 1, Headers: headers, Payload: []byte(`{}`),
	}
}

func inSpan(tp trace.TracerProvider) (context.Context, trace.Span) {
	return tp.Tracer("test").Start(context.Background(), "test")
}
