package telemetry_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

type handlerFunc func(ctx context.Context, entry outbox.Entry) error

func (f handlerFunc) Handle(ctx context.Context, entry outbox.Entry) error { return f(ctx, entry) }

func delivered(headers map[string]string) outbox.Entry {
	return outbox.Entry{Message: message("e1", headers), Position: 42, RecordedAt: time.Now()}
}

func TestHandlerRunsInTheOrdersTrace(t *testing.T) {
	tp, spans := record()
	entry := delivered(sampledHeaders())
	var inside trace.SpanContext
	traced := telemetry.TraceHandler(tp, "billing", handlerFunc(func(ctx context.Context, got outbox.Entry) error {
		require.Equal(t, entry, got)
		inside = trace.SpanContextFromContext(ctx)
		return nil
	}))
	require.NoError(t, traced.Handle(context.Background(), entry))

	span := spans.one(t, "process orders.created")
	require.Equal(t, trace.SpanKindConsumer, span.SpanKind())
	require.Equal(t, span.SpanContext(), inside)
	requireStoredParent(t, span)
	requireStoredLink(t, span)
	require.Equal(t, codes.Unset, span.Status().Code)
	require.Equal(t, map[string]any{
		"messaging.system": "nats", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.destination.name": "orders.created", "messaging.message.id": "e1",
		"messaging.consumer.group.name": "billing", "outboxie.outbox.position": int64(42),
		"outboxie.aggregate.type": "order", "outboxie.aggregate.id": "order-1", "outboxie.aggregate.version": int64(1),
	}, attributesOf(span))
}

func TestHandlerLogsCarryTheTraceEvenUnsampled(t *testing.T) {
	tp, spans := record()
	var log bytes.Buffer
	logger := telemetry.NewLogger(&log, slog.LevelInfo, telemetry.FormatJSON)
	traced := telemetry.TraceHandler(tp, "billing", handlerFunc(func(ctx context.Context, _ outbox.Entry) error {
		logger.InfoContext(ctx, "Received order created event")
		return nil
	}))
	require.NoError(t, traced.Handle(context.Background(), delivered(map[string]string{"traceparent": unsampledParent})))
	require.Contains(t, log.String(), `"trace_id":"`+storedTrace+`"`)
	require.Empty(t, spans.names())
}

func TestHandlerWithoutStoredContextStartsATrace(t *testing.T) {
	tp, spans := record()
	traced := telemetry.TraceHandler(tp, "billing", handlerFunc(func(context.Context, outbox.Entry) error { return nil }))
	require.NoError(t, traced.Handle(context.Background(), delivered(map[string]string{"traceparent": "junk"})))
	span := spans.one(t, "process orders.created")
	require.False(t, span.Parent().IsValid())
	require.Empty(t, span.Links())
}

func TestHandlerWithoutStoredContextKeepsItsCallersTrace(t *testing.T) {
	tp, spans := record()
	ctx, parent := inSpan(tp)
	traced := telemetry.TraceHandler(tp, "billing", handlerFunc(func(context.Context, outbox.Entry) error { return nil }))
	require.NoError(t, traced.Handle(ctx, delivered(map[string]string{"traceparent": "junk"})))
	parent.End()
	requireChild(t, spans.one(t, "process orders.created"), spans.one(t, "test"))
	require.Empty(t, spans.one(t, "process orders.created").Links())
}

func TestHandlerPassesErrorsOn(t *testing.T) {
	tp, spans := record()
	for _, failure := range []error{errDown, inbox.ErrUnreadable} {
		failing := handlerFunc(func(context.Context, outbox.Entry) error { return failure })
		traced := telemetry.TraceHandler(tp, "billing", failing)
		require.Same(t, failure, traced.Handle(context.Background(), delivered(sampledHeaders())))
	}
	for _, span := range spans.all("process orders.created") {
		require.Equal(t, codes.Error, span.Status().Code)
	}
}

// mailbox delivers one event and keeps what was answered.
type mailbox struct {
	inbox.Delivery
	entry    outbox.Entry
	entryErr error
	err      error
	in       trace.SpanContext
	answer   string
}

func (m *mailbox) Next(context.Context) (inbox.Delivery, error) { return m, nil }
func (m *mailbox) Entry() (outbox.Entry, error)                 { return m.entry, m.entryErr }
func (m *mailbox) ExtendEvery() time.Duration                   { return time.Minute }

func (m *mailbox) Ack(ctx context.Context) error {
	m.in, m.answer = trace.SpanContextFromContext(ctx), "ack"
	return m.err
}

func (m *mailbox) Retry(ctx context.Context, after time.Duration) error {
	m.in, m.answer = trace.SpanContextFromContext(ctx), "retry in "+after.String()
	return m.err
}

func receive(t *testing.T, tp trace.TracerProvider, next *mailbox) inbox.Delivery {
	t.Helper()
	delivery, err := telemetry.TraceSource(tp, "billing", next).Next(context.Background())
	require.NoError(t, err)
	return delivery
}

func TestSettlingIsTraced(t *testing.T) {
	for operation, settle := range map[string]func(inbox.Delivery) error{
		"ack": func(d inbox.Delivery) error { return d.Ack(context.Background()) },
		"nak": func(d inbox.Delivery) error { return d.Retry(context.Background(), time.Second) },
	} {
		t.Run(operation, func(t *testing.T) {
			tp, spans := record()
			next := &mailbox{entry: delivered(sampledHeaders())}
			delivery := receive(t, tp, next)
			entry, err := delivery.Entry()
			require.NoError(t, err)
			require.Equal(t, next.entry, entry)
			require.Equal(t, time.Minute, delivery.ExtendEvery())
			require.Empty(t, spans.names(), "receiving belongs to no order")
			require.NoError(t, settle(delivery))

			require.Equal(t, map[string]string{"ack": "ack", "nak": "retry in 1s"}[operation], next.answer)
			span := spans.one(t, operation+" orders.created")
			require.Equal(t, trace.SpanKindClient, span.SpanKind())
			require.Equal(t, span.SpanContext(), next.in)
			requireStoredParent(t, span)
			requireStoredLink(t, span)
			require.Equal(t, operation, attributeOf(span, "messaging.operation.name"))
			require.Equal(t, "settle", attributeOf(span, "messaging.operation.type"))
			require.Equal(t, "billing", attributeOf(span, "messaging.consumer.group.name"))
			require.Equal(t, "e1", attributeOf(span, "messaging.message.id"))

			next.err = errDown
			require.Same(t, errDown, settle(delivery))
			require.Equal(t, codes.Error, spans.Ended()[1].Status().Code)
		})
	}
}

func TestAnUnreadableMessageIsSettledWithoutASpan(t *testing.T) {
	tp, spans := record()
	next := &mailbox{entryErr: inbox.ErrUnreadable, err: errDown}
	require.Same(t, errDown, receive(t, tp, next).Ack(context.Background()))
	require.Equal(t, "ack", next.answer)
	require.Empty(t, spans.names())
}

type brokenSource struct{}

func (brokenSource) Next(context.Context) (inbox.Delivery, error) { return nil, errDown }

func TestSourcePassesErrorsOn(t *testing.T) {
	tp, _ := record()
	delivery, err := telemetry.TraceSource(tp, "billing", brokenSource{}).Next(context.Background())
	require.Same(t, errDown, err)
	require.Nil(t, delivery)
}
