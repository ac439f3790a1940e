package telemetry

import (
	"context"
	"maps"

	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TraceUnitOfWork returns next with a span around each transaction, and in it a PRODUCER span for each appended message, "create
// orders.created". The message's headers store that span's context, so later spans of the message belong to the same trace.
func TraceUnitOfWork(tp trace.TracerProvider, next orders.UnitOfWork) orders.UnitOfWork {
	return &unitOfWork{tracer: tracer(tp), next: next}
}

type unitOfWork struct {
	tracer trace.Tracer
	next   orders.UnitOfWork
}

func (u *unitOfWork) Do(ctx context.Context, fn func(ctx context.Context, tx orders.Tx) error) error {
	ctx, span := u.tracer.Start(ctx, "transaction")
	defer span.End()
	err := u.next.Do(ctx, func(ctx context.Context, tx orders.Tx) error {
		tx.Outbox = &appender{tracer: u.tracer, next: tx.Outbox}
		return fn(ctx, tx)
	})
	record(span, err)
	return err
}

type appender struct {
	tracer trace.Tracer
	next   relay.Appender
}

func (a *appender) Append(ctx context.Context, messages ...outbox.Message) error {
	traced := make([]outbox.Message, len(messages))
	spans := make([]trace.Span, len(messages))
	for i, message := range messages {
		created, span := a.tracer.Start(ctx, "create "+message.Subject, trace.WithSpanKind(trace.SpanKindProducer),
			messageAttributes(&message, semconv.MessagingOperationName("create"), semconv.MessagingOperationTypeCreate))
		defer span.End()
		message.Headers = withCreationContext(created, message.Headers)
		traced[i], spans[i] = message, span
	}
	err := a.next.Append(ctx, traced...)
	for _, span := range spans {
		record(span, err)
	}
	return err
}

// withCreationContext returns a copy of headers with the span of ctx as creation context. It replaces a creation context that is already
// there. If ctx has no span, the headers stay as they are.
func withCreationContext(ctx context.Context, headers map[string]string) map[string]string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return headers
	}
	traced := make(map[string]string, len(headers)+2)
	maps.Copy(traced, headers)
	delete(traced, traceState)
	propagation.TraceContext{}.Inject(ctx, propagation.MapCarrier(traced))
	return traced
}
