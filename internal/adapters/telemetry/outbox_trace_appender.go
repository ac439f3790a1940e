package telemetry

import (
	"context"
	"maps"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TraceAppender returns next with a PRODUCER span for each appended message, "create <subject>". The message's headers store that span's
// context, so later spans of the message belong to the same trace. Every unit of work wraps the appender that it gives to a transaction:
// a message that is appended without TraceAppender has no trace.
func TraceAppender(tp trace.TracerProvider, next relay.Appender) relay.Appender {
	return &appender{tracer: Tracer(tp), next: next}
}

type appender struct {
	tracer trace.Tracer
	next   relay.Appender
}

func (a *appender) Append(ctx context.Context, messages ...outbox.Message) error {
	return create(ctx, a.tracer, messages, func(traced []outbox.Message) error { return a.next.Append(ctx, traced...) })
}

// create starts a PRODUCER span for each message, and calls write with copies of the messages whose headers store the spans' contexts. The
// spans end when write returns.
func create(
	ctx context.Context, tracer trace.Tracer, messages []outbox.Message, write func([]outbox.Message) error, more ...attribute.KeyValue,
) error {
	more = append(more, semconv.MessagingOperationName("create"), semconv.MessagingOperationTypeCreate)
	traced := make([]outbox.Message, len(messages))
	spans := make([]trace.Span, len(messages))
	for i, message := range messages {
		created, span := tracer.Start(ctx, "create "+message.Subject, trace.WithSpanKind(trace.SpanKindProducer),
			messageAttributes(&message, "", more...))
		defer span.End()
		message.Headers = withCreationContext(created, message.Headers)
		traced[i], spans[i] = message, span
	}
	err := write(traced)
	for _, span := range spans {
		Record(span, err)
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
