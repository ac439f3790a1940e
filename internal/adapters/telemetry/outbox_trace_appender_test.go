package telemetry_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// appended is a fake relay.Appender that keeps the messages.
type appended struct {
	messages []outbox.Message
	err      error
}

func (a *appended) Append(_ context.Context, messages ...outbox.Message) error {
	a.messages = append(a.messages, messages...)
	return a.err
}

func traceparent(span trace.SpanContext) string {
	return "00-" + span.TraceID().String() + "-" + span.SpanID().String() + "-" + span.TraceFlags().String()
}

// TestAppenderStoresTheCreationContext checks that each message gets a PRODUCER span of its own below the span of the context, that its headers
// store that span, and that nothing else of the message changes.
func TestAppenderStoresTheCreationContext(t *testing.T) {
	tp, spans := record()
	ctx, parent := inSpan(tp)
	state, err := trace.ParseTraceState("vendor=1")
	require.NoError(t, err)
	ctx = trace.ContextWithSpanContext(ctx, parent.SpanContext().WithTraceState(state))
	headers := map[string]string{"tenant": "a", "traceparent": unsampledParent, "tracestate": "stale=1"}
	next := &appended{}
	require.NoError(t, telemetry.TraceAppender(tp, next).Append(ctx, message("e1", headers), message("e2", nil)))
	parent.End()

	created := spans.all("create orders.created")
	require.Len(t, created, 2)
	byID := map[any]sdktrace.ReadOnlySpan{}
	for _, span := range created {
		require.Equal(t, trace.SpanKindProducer, span.SpanKind())
		requireChild(t, span, spans.one(t, "test"))
		byID[attributeOf(span, "messaging.message.id")] = span
	}
	require.Equal(t, map[string]any{
		"messaging.system": "nats", "messaging.operation.name": "create", "messaging.operation.type": "create",
		"messaging.destination.name": "orders.created", "messaging.message.id": "e1",
		"outboxie.aggregate.type": "order", "outboxie.aggregate.id": "order-1", "outboxie.aggregate.version": int64(1),
	}, attributesOf(byID["e1"]))
	require.Equal(t, map[string]string{
		"tenant": "a", "traceparent": traceparent(byID["e1"].SpanContext()), "tracestate": "vendor=1",
	}, next.messages[0].Headers)
	require.Equal(t, traceparent(byID["e2"].SpanContext()), next.messages[1].Headers["traceparent"])
	require.Equal(t, "stale=1", headers["tracestate"], "the caller's map was changed")
	require.Equal(t, unsampledParent, headers["traceparent"], "the caller's map was changed")

	stripped := next.messages[0]
	stripped.Headers = headers
	require.Equal(t, message("e1", headers), stripped, "only headers may change")
}

// TestAppenderForgetsAStateThatBelongsToAnotherTrace checks that a new creation context has no state of an old one.
func TestAppenderForgetsAStateThatBelongsToAnotherTrace(t *testing.T) {
	tp, _ := record()
	next := &appended{}
	headers := map[string]string{"traceparent": sampledParent, "tracestate": "stale=1"}
	require.NoError(t, telemetry.TraceAppender(tp, next).Append(context.Background(), message("e1", headers)))
	require.NotContains(t, next.messages[0].Headers, "tracestate")
}

// TestUnsampledTraceIsStoredAsUnsampled checks that a message of an unsampled trace stores the trace, and records no span.
func TestUnsampledTraceIsStoredAsUnsampled(t *testing.T) {
	tp, spans := record(sdktrace.WithSampler(sdktrace.NeverSample()))
	next := &appended{}
	require.NoError(t, telemetry.TraceAppender(tp, next).Append(context.Background(), message("e1", nil)))
	require.Empty(t, spans.names())
	require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`, next.messages[0].Headers["traceparent"])
}

// TestWithoutTracingMessagesAreLeftAlone checks that a program without tracing appends the messages that it was given.
func TestWithoutTracingMessagesAreLeftAlone(t *testing.T) {
	next := &appended{}
	require.NoError(t, telemetry.TraceAppender(noop.NewTracerProvider(), next).Append(context.Background(), message("e1", nil)))
	require.Equal(t, []outbox.Message{message("e1", nil)}, next.messages)
}

// TestAppenderPassesErrorsOn checks that an error of the append reaches the caller and the span of each message.
func TestAppenderPassesErrorsOn(t *testing.T) {
	tp, spans := record()
	next := &appended{err: errDown}
	require.Same(t, errDown, telemetry.TraceAppender(tp, next).Append(context.Background(), message("e1", nil), message("e2", nil)))
	for _, span := range spans.all("create orders.created") {
		require.Equal(t, codes.Error, span.Status().Code)
	}
	require.Len(t, spans.all("create orders.created"), 2)
}
