package telemetry

import (
	"context"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TraceSource returns next with a CLIENT span around what settles a delivery, "ack orders.created" or "nak
// orders.created", in the trace of the order. Waiting for the next event is not traced: it belongs to no order.
func TraceSource(tp trace.TracerProvider, subscriber string, next inbox.Source) inbox.Source {
	return &source{tracer: tracer(tp), subscriber: subscriber, next: next}
}

type source struct {
	tracer     trace.Tracer
	subscriber string
	next       inbox.Source
}

func (s *source) Next(ctx context.Context) (inbox.Delivery, error) {
	received, err := s.next.Next(ctx)
	if err != nil || received == nil {
		return received, err
	}
	return &delivery{Delivery: received, source: s}, nil
}

type delivery struct {
	inbox.Delivery
	source *source
}

func (d *delivery) Ack(ctx context.Context) error { return d.settle(ctx, "ack", d.Delivery.Ack) }

func (d *delivery) Retry(ctx context.Context, after time.Duration) error {
	return d.settle(ctx, "nak", func(ctx context.Context) error { return d.Delivery.Retry(ctx, after) })
}

// settle leaves a message that is not one of the engine's without a span: it has no trace to belong to.
func (d *delivery) settle(ctx context.Context, operation string, call func(context.Context) error) error {
	entry, err := d.Entry()
	if err != nil {
		return call(ctx)
	}
	ctx, link := inCreationContext(ctx, entry.Headers)
	ctx, span := d.source.tracer.Start(ctx, operation+" "+entry.Subject, trace.WithSpanKind(trace.SpanKindClient), link,
		messageAttributes(&entry.Message,
			semconv.MessagingOperationName(operation), semconv.MessagingOperationTypeSettle,
			semconv.MessagingConsumerGroupName(d.source.subscriber), positionKey.Int64(int64(entry.Position))))
	defer span.End()
	err = call(ctx)
	record(span, err)
	return err
}
