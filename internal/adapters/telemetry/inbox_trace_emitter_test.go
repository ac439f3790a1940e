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

// emitting is a handler that emits one message for each event, and an emitter that keeps what it gets, by the cause's id.
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

// parentOf returns what a message says where it was created.
func parentOf(m outbox.Message) string { return m.Headers["traceparent"] }

const createSpan = "create orders.fulfillment.requested"

// TestEmittedEventContinuesTheTrace checks that what a batch emits belongs to the traces of the single events, sampled or not, and not to
// that of the batch.
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

// TestOneTraceOverTwoHops checks that what is emitted because of an event, and handled by another subscriber, is all in the trace of the
// first event, each span below the one before.
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

// TestEmittingWithoutATrace checks that an event without a trace is no obstacle, that a program which records nothing hands the trace on, and
// that a failure is told.
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
