package telemetry_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// emitting is a handler that emits one message for each event. It is also the emitter, and keeps each message by the id of its
// cause.
type emitting struct {
	handlerFunc
	emitted map[string]outbox.Message
	err     error
}

func newEmitting(tp trace.TracerProvider) *emitting {
	e := &emitting{emitted: make(map[string]outbox.Message)}
	traced := telemetry.TraceEmitter(tp, e)
	e.handlerFunc = func(ctx context.Context, entry outbox.Entry) error {
		following := message("", map[string]string{"tenant": "a"})
		following.Subject = "orders.fulfillment.requested"
		return traced.Emit(ctx, nil, entry, following)
	}
	return e
}

func (e *emitting) Emit(_ context.Context, _ inbox.Tx, cause outbox.Entry, messages ...outbox.Message) error {
	e.emitted[cause.ID] = messages[0]
	return e.err
}

// parentOf returns the span in which a message was created.
func parentOf(m outbox.Message) string { return m.Headers["traceparent"] }

const createSpan = "create orders.fulfillment.requested"

// TestEmittedEventContinuesTheTrace checks that an emitted event belongs to the trace of the event that caused it, sampled or
// not. It does not belong to the trace of the batch.
func TestEmittedEventContinuesTheTrace(t *testing.T) {
	tp, spans := record()
	handler := newEmitting(tp)
	_, err := traceInbox(tp, &database{}).Work.Apply(context.Background(), "billing",
		batchIn(2, delivered(sampledHeaders(), unsampledHeaders())), handler, lenient)
	require.NoError(t, err)
	created, process, batch := spans.one(t, createSpan), spans.one(t, "process orders.created"), spans.one(t, "process ORDERS")
	require.Equal(t, trace.SpanKindProducer, created.SpanKind())
	require.Equal(t, "e1", attributeOf(created, "messaging.message.conversation_id"))
	require.Nil(t, attributeOf(created, "messaging.message.id"), "it is not known yet")
	requireChild(t, created, process)
	requireStoredParent(t, process)
	require.Contains(t, []trace.SpanID{process.Links()[0].SpanContext.SpanID(), process.Links()[1].SpanContext.SpanID()}, batch.SpanContext().SpanID())
	require.Equal(t, traceparent(created.SpanContext()), parentOf(handler.emitted["e1"]))
	require.Equal(t, unsampledParent[:len("00-")+32], parentOf(handler.emitted["e2"])[:len("00-")+32], "the trace goes on without spans")
	require.Equal(t, "-00", parentOf(handler.emitted["e2"])[52:])
	require.Equal(t, "a", handler.emitted["e1"].Headers["tenant"])
}

// TestOneTraceOverTwoHops checks that an emitted event, handled by a second subscriber, is still in the trace of the first
// event. Each span is a child of the span before.
func TestOneTraceOverTwoHops(t *testing.T) {
	tp, spans := record()
	handler := newEmitting(tp)
	first := delivered(sampledHeaders())
	_, err := traceInbox(tp, &database{}).Work.Apply(context.Background(), "warehouse", batchIn(0, first), handler, lenient)
	require.NoError(t, err)
	second := delivered(nil)
	second[0].Message = handler.emitted["e1"]
	_, err = traceInbox(tp, &database{}).Work.Apply(context.Background(), "carrier", batchIn(0, second), inside{}, lenient)
	require.NoError(t, err)
	process, created, applied := spans.one(t, "process orders.created"), spans.one(t, createSpan), spans.one(t, "process orders.fulfillment.requested")
	requireStoredParent(t, process)
	requireChild(t, created, process)
	requireChild(t, applied, created)
	require.Equal(t, storedTrace, applied.SpanContext().TraceID().String())
}

// TestEmittingWithoutATrace checks that events without a trace are emitted, that a program without tracing still passes the
// trace on, and that a failure to emit gets a span with an error.
func TestEmittingWithoutATrace(t *testing.T) {
	handler := newEmitting(noop.NewTracerProvider())
	require.NoError(t, handler.Handle(context.Background(), nil, delivered(sampledHeaders())[0].Entry))
	require.Equal(t, sampledParent, parentOf(handler.emitted["e1"]))
	require.NoError(t, handler.Handle(context.Background(), nil, delivered(nil)[0].Entry))
	require.Empty(t, parentOf(handler.emitted["e1"]))

	tp, spans := record()
	handler = newEmitting(tp)
	handler.err = errDown
	require.ErrorIs(t, handler.Handle(context.Background(), nil, delivered(nil)[0].Entry), errDown)
	require.Equal(t, codes.Error, spans.one(t, createSpan).Status().Code)
}
