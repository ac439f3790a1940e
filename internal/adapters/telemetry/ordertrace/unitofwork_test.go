package ordertrace_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry/ordertrace"
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

var created = outbox.Message{ID: "e1", Subject: "orders.created"}

func appendCreated(ctx context.Context, tx orders.Tx) error { return tx.Outbox.Append(ctx, created) }

// TestUnitOfWorkHasASpanForTheTransaction checks that each transaction has a span, that the spans of appended messages are below it, and that
// the other ports of the transaction stay as they are.
func TestUnitOfWorkHasASpanForTheTransaction(t *testing.T) {
	tp, spans := record()
	ctx, parent := tp.Tracer("test").Start(context.Background(), "test")
	next := &ledger{}
	require.NoError(t, ordertrace.TraceUnitOfWork(tp, next).Do(ctx, func(ctx context.Context, tx orders.Tx) error {
		require.Same(t, next, tx.Keys)
		require.Same(t, next, tx.Orders)
		return appendCreated(ctx, tx)
	}))
	transaction, appending := spans.one(t, "transaction"), spans.one(t, "create orders.created")
	require.Equal(t, trace.SpanKindInternal, transaction.SpanKind())
	require.Equal(t, parent.SpanContext().SpanID(), transaction.Parent().SpanID())
	require.Equal(t, transaction.SpanContext().SpanID(), appending.Parent().SpanID())
	require.Contains(t, next.appended[0].Headers["traceparent"], appending.SpanContext().SpanID().String())
}

// TestUnitOfWorkPassesErrorsOn checks that an error reaches the caller and the span of what failed, and that a conflict or a panic leaves the
// transaction a span without an error.
func TestUnitOfWorkPassesErrorsOn(t *testing.T) {
	t.Run("commit", func(t *testing.T) {
		tp, spans := record()
		err := ordertrace.TraceUnitOfWork(tp, &ledger{err: errDown}).Do(context.Background(), appendCreated)
		require.Same(t, errDown, err)
		require.Equal(t, codes.Error, spans.one(t, "transaction").Status().Code)
		require.Equal(t, codes.Unset, spans.one(t, "create orders.created").Status().Code)
	})
	t.Run("append", func(t *testing.T) {
		tp, spans := record()
		require.Same(t, errDown, ordertrace.TraceUnitOfWork(tp, &ledger{appendErr: errDown}).Do(context.Background(), appendCreated))
		require.Equal(t, codes.Error, spans.one(t, "create orders.created").Status().Code)
	})
	t.Run("conflict", func(t *testing.T) {
		tp, spans := record()
		uow := ordertrace.TraceUnitOfWork(tp, &ledger{})
		err := uow.Do(context.Background(), func(context.Context, orders.Tx) error { return errConflict })
		require.Same(t, errConflict, err)
		require.Equal(t, codes.Unset, spans.one(t, "transaction").Status().Code)
	})
	t.Run("panic", func(t *testing.T) {
		tp, spans := record()
		uow := ordertrace.TraceUnitOfWork(tp, &ledger{})
		require.PanicsWithValue(t, "boom", func() {
			_ = uow.Do(context.Background(), func(context.Context, orders.Tx) error { panic("boom") })
		})
		spans.one(t, "transaction")
	})
}
