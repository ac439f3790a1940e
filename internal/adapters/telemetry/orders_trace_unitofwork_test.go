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
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// ledger is a fake unit of work that keeps the appended messages.
type ledger struct {
	orders.Keys
	orders.Orders
	err       error // the error of the commit
	appendErr error
	appended  []outbox.Message
}

func (l *ledger) Do(ctx context.Context, fn func(context.Context, orders.Tx) error) error {
	if err := fn(ctx, orders.Tx{Keys: l, Orders: l, Outbox: l}); err != nil {
		return err
	}
	return l.err
}

func (l *ledger) Append(_ context.Context, messages ...outbox.Message) error {
	l.appended = append(l.appended, messages...)
	return l.appendErr
}

func appendAll(messages ...outbox.Message) func(context.Context, orders.Tx) error {
	return func(ctx context.Context, tx orders.Tx) error { return tx.Outbox.Append(ctx, messages...) }
}

func TestUnitOfWorkStoresTheCreationContext(t *testing.T) {
	tp, spans := record()
	ctx, parent := inSpan(tp)
	state, err := trace.ParseTraceState("vendor=1")
	require.NoError(t, err)
	ctx = trace.ContextWithSpanContext(ctx, parent.SpanContext().WithTraceState(state))
	headers := map[string]string{"tenant": "a", "traceparent": unsampledParent, "tracestate": "stale=1"}
	next := &ledger{}

	err = telemetry.TraceUnitOfWork(tp, next).Do(ctx, func(ctx context.Context, tx orders.Tx) error {
		require.Same(t, next, tx.Keys)
		require.Same(t, next, tx.Orders)
		return tx.Outbox.Append(ctx, message("e1", headers), message("e2", nil))
	})
	require.NoError(t, err)

	transaction := spans.one(t, "transaction")
	require.Equal(t, trace.SpanKindInternal, transaction.SpanKind())
	require.Equal(t, parent.SpanContext().SpanID(), transaction.Parent().SpanID())
	created := spans.all("create orders.created")
	require.Len(t, created, 2)
	byID := map[any]sdktrace.ReadOnlySpan{}
	for _, span := range created {
		require.Equal(t, trace.SpanKindProducer, span.SpanKind())
		requireChild(t, span, transaction)
		byID[attributeOf(span, "messaging.message.id")] = span
	}
	require.Equal(t, map[string]any{
		"messaging.system": "nats", "messaging.operation.name": "create", "messaging.operation.type": "create",
		"messaging.destination.name": "orders.created", "messaging.message.id": "e1",
		"outboxie.aggregate.type": "order", "outboxie.aggregate.id": "order-1", "outboxie.aggregate.version": int64(1),
	}, attributesOf(byID["e1"]))

	require.Equal(t, map[string]string{
		"tenant": "a", "traceparent": traceparent(byID["e1"].SpanContext()), "tracestate": "vendor=1",
	}, next.appended[0].Headers)
	require.Equal(t, traceparent(byID["e2"].SpanContext()), next.appended[1].Headers["traceparent"])
	require.Equal(t, "stale=1", headers["tracestate"], "the caller's map was changed")
	require.Equal(t, unsampledParent, headers["traceparent"], "the caller's map was changed")

	stripped := next.appended[0]
	stripped.Headers = headers
	require.Equal(t, message("e1", headers), stripped, "only headers may change")
}

func traceparent(span trace.SpanContext) string {
	return "00-" + span.TraceID().String() + "-" + span.SpanID().String() + "-" + span.TraceFlags().String()
}

func TestUnitOfWorkForgetsAStateThatBelongsToAnotherTrace(t *testing.T) {
	tp, _ := record()
	next := &ledger{}
	uow := telemetry.TraceUnitOfWork(tp, next)
	headers := map[string]string{"traceparent": sampledParent, "tracestate": "stale=1"}
	require.NoError(t, uow.Do(context.Background(), appendAll(message("e1", headers))))
	require.NotContains(t, next.appended[0].Headers, "tracestate")
}

func TestUnsampledTraceIsStoredAsUnsampled(t *testing.T) {
	tp, spans := record(sdktrace.WithSampler(sdktrace.NeverSample()))
	next := &ledger{}
	require.NoError(t, telemetry.TraceUnitOfWork(tp, next).Do(context.Background(), appendAll(message("e1", nil))))
	require.Empty(t, spans.names())
	require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`, next.appended[0].Headers["traceparent"])
}

func TestWithoutTracingMessagesAreLeftAlone(t *testing.T) {
	next := &ledger{}
	uow := telemetry.TraceUnitOfWork(noop.NewTracerProvider(), next)
	require.NoError(t, uow.Do(context.Background(), appendAll(message("e1", nil))))
	require.Equal(t, []outbox.Message{message("e1", nil)}, next.appended)
}

func TestUnitOfWorkPassesErrorsOn(t *testing.T) {
	t.Run("commit", func(t *testing.T) {
		tp, spans := record()
		err := telemetry.TraceUnitOfWork(tp, &ledger{err: errDown}).Do(context.Background(), appendAll(message("e1", nil)))
		require.Same(t, errDown, err)
		require.Equal(t, codes.Error, spans.one(t, "transaction").Status().Code)
		require.Equal(t, codes.Unset, spans.one(t, "create orders.created").Status().Code)
	})
	t.Run("append", func(t *testing.T) {
		tp, spans := record()
		uow := telemetry.TraceUnitOfWork(tp, &ledger{appendErr: errDown})
		require.Same(t, errDown, uow.Do(context.Background(), appendAll(message("e1", nil))))
		require.Equal(t, codes.Error, spans.one(t, "create orders.created").Status().Code)
	})
	t.Run("conflict", func(t *testing.T) {
		tp, spans := record()
		uow := telemetry.TraceUnitOfWork(tp, &ledger{})
		err := uow.Do(context.Background(), func(context.Context, orders.Tx) error { return errConflict })
		require.Same(t, errConflict, err)
		require.Equal(t, codes.Unset, spans.one(t, "transaction").Status().Code)
	})
	t.Run("panic", func(t *testing.T) {
		tp, spans := record()
		uow := telemetry.TraceUnitOfWork(tp, &ledger{})
		require.PanicsWithValue(t, "boom", func() {
			_ = uow.Do(context.Background(), func(context.Context, orders.Tx) error { panic("boom") })
		})
		spans.one(t, "transaction")
	})
}
