package telemetry

import (
	"context"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TraceEmitter returns next with a PRODUCER span for each message, "create <subject>". The span is in the trace of the event that
// caused the message. The event's id is the span's messaging.message.conversation_id. The message's headers store the span's context, so
// later spans of the message belong to the same trace.
//
// If the event is sampled, the parent is the span in which the event is handled. If the event is not sampled, the message still
// belongs to the event's trace, but no span is recorded. The span of a batch is never the parent, because the batch has a trace of its own.
func TraceEmitter(tp trace.TracerProvider, next inbox.Emitter) inbox.Emitter {
	return &emitter{tracer: Tracer(tp), next: next}
}

type emitter struct {
	tracer trace.Tracer
	next   inbox.Emitter
}

func (e *emitter) Emit(ctx context.Context, tx inbox.Tx, cause outbox.Entry, messages ...outbox.Message) error {
	created := creationContext(ctx, cause.Headers)
	if created.IsValid() && trace.SpanContextFromContext(ctx).TraceID() != created.TraceID() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, created)
	}
	return create(ctx, e.tracer, messages, func(traced []outbox.Message) error { return e.next.Emit(ctx, tx, cause, traced...) },
		semconv.MessagingMessageConversationID(cause.ID))
}
