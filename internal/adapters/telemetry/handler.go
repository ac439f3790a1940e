package telemetry

import (
	"context"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TraceHandler returns next with a CONSUMER span around each event, "process orders.created", in the trace of the order
// and linked to the message's creation. next runs in its context, so that what it logs carries the trace.
func TraceHandler(tp trace.TracerProvider, subscriber string, next inbox.Handler) inbox.Handler {
	return &handler{tracer: tracer(tp), subscriber: subscriber, next: next}
}

type handler struct {
	tracer     trace.Tracer
	subscriber string
	next       inbox.Handler
}

func (h *handler) Handle(ctx context.Context, entry outbox.Entry) error {
	ctx, link := inCreationContext(ctx, entry.Headers)
	ctx, span := h.tracer.Start(ctx, "process "+entry.Subject, trace.WithSpanKind(trace.SpanKindConsumer), link,
		messageAttributes(&entry.Message,
			semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
			semconv.MessagingConsumerGroupName(h.subscriber), positionKey.Int64(int64(entry.Position))))
	defer span.End()
	err := h.next.Handle(ctx, entry)
	record(span, err)
	return err
}
