package ordertrace

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// TraceUnitOfWork returns next with a span around each transaction, and in it the spans of telemetry.TraceAppender.
func TraceUnitOfWork(tp trace.TracerProvider, next orders.UnitOfWork) orders.UnitOfWork {
	return &unitOfWork{provider: tp, tracer: telemetry.Tracer(tp), next: next}
}

type unitOfWork struct {
	provider trace.TracerProvider
	tracer   trace.Tracer
	next     orders.UnitOfWork
}

func (u *unitOfWork) Do(ctx context.Context, fn func(ctx context.Context, tx orders.Tx) error) error {
	ctx, span := u.tracer.Start(ctx, "transaction")
	defer span.End()
	err := u.next.Do(ctx, func(ctx context.Context, tx orders.Tx) error {
		tx.Outbox = telemetry.TraceAppender(u.provider, tx.Outbox)
		return fn(ctx, tx)
	})
	telemetry.Record(span, err)
	return err
}
