package telemetry

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// scope names the decorators as the source of their spans.
const scope = "github.com/assylzhan-a/outboxie"

// Attributes that the semantic conventions do not name, and that readers of traces need.
const (
	AggregateIDKey = attribute.Key("outboxie.aggregate.id")    // on every span of a message
	SequenceKey    = attribute.Key("outboxie.stream.sequence") // the message's sequence in the stream
	DetailKey      = attribute.Key("outboxie.detail")          // details of an incident
	TimesKey       = attribute.Key("outboxie.times")           // how often an incident happened in a row
	LastedKey      = attribute.Key("outboxie.lasted")          // how long an incident lasted altogether, in seconds
)

const (
	aggregateTypeKey    = attribute.Key("outboxie.aggregate.type")
	aggregateVersionKey = attribute.Key("outboxie.aggregate.version")
	positionKey         = attribute.Key("outboxie.outbox.position")
	storedKey           = attribute.Key("outboxie.batch.stored")
	faultKindKey        = attribute.Key("outboxie.fault.kind")
	relayKey            = attribute.Key("outboxie.relay.name")
	tokenKey            = attribute.Key("outboxie.lease.token")
	reasonKey           = attribute.Key("outboxie.halt.reason")
	laneKey             = attribute.Key("outboxie.lane")
)

// WaitSpan is the name of the span that shows, in the trace of a message, how long the message waited in the outbox.
const WaitSpan = "outbox relay"

var messagingSystem = semconv.MessagingSystemKey.String("nats")

// Tracer returns the tracer of the decorators.
func Tracer(tp trace.TracerProvider) trace.Tracer {
	return tp.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
}

// messageAttributes returns the attributes that describe one message, and the further attributes in more. What tells one span of a message
// from another comes first, because the pages of tracing tools show the first attributes without a click: the destination, the instance if
// it is known, then more.
func messageAttributes(m *outbox.Message, instance string, more ...attribute.KeyValue) trace.SpanStartOption {
	attributes := make([]attribute.KeyValue, 0, 7+len(more))
	attributes = append(attributes, semconv.MessagingDestinationName(m.Subject))
	if instance != "" {
		attributes = append(attributes, semconv.MessagingClientID(instance))
	}
	attributes = append(attributes, more...)
	if m.ID != "" {
		attributes = append(attributes, semconv.MessagingMessageID(m.ID))
	}
	return trace.WithAttributes(append(attributes,
		messagingSystem,
		aggregateTypeKey.String(m.Key.Type),
		AggregateIDKey.String(m.Key.ID),
		aggregateVersionKey.Int64(m.Version),
	)...)
}

// The creation context is the span in which a message was made. The message's headers store it as W3C trace context, under lower-case
// names. Header names are case-sensitive in NATS and in propagation.MapCarrier.
const (
	traceParent = "traceparent"
	traceState  = "tracestate"
)

// creationContext returns the creation context in headers, or the zero SpanContext if there is no valid one.
func creationContext(ctx context.Context, headers map[string]string) trace.SpanContext {
	if headers[traceParent] == "" {
		return trace.SpanContext{}
	}
	ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{}) // Extract keeps the span of ctx if it finds none
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier(headers)))
}

// inCreationContext returns ctx with the message's creation context as the parent of new spans, and a link to it. For a message without a
// creation context, the parent of ctx stays.
func inCreationContext(ctx context.Context, headers map[string]string) (context.Context, trace.SpanStartOption) {
	created := creationContext(ctx, headers)
	if !created.IsValid() {
		return ctx, trace.WithLinks()
	}
	return trace.ContextWithRemoteSpanContext(ctx, created), trace.WithLinks(trace.Link{SpanContext: created})
}

// sampledContext returns the creation context in headers, or the zero SpanContext if it is not sampled.
func sampledContext(ctx context.Context, headers map[string]string) trace.SpanContext {
	if !isSampled(headers) {
		return trace.SpanContext{}
	}
	return creationContext(ctx, headers)
}

// isSampled reports whether headers hold a sampled trace. It reads the text 00-<32 hex>-<16 hex>-<flags>: the lowest bit of flags is set if
// the trace is sampled. It allocates nothing, because most messages of a busy service are not sampled.
func isSampled(headers map[string]string) bool {
	const lastFlag = len("00-") + 32 + len("-") + 16 + len("-") + 1
	text := headers[traceParent]
	if len(text) <= lastFlag {
		return false
	}
	switch text[lastFlag] {
	case '1', '3', '5', '7', '9', 'b', 'd', 'f':
		return true
	}
	return false
}

// Record records err in span. A mistake of the caller, a conflict with another caller, and a caller that went away do not make the span an
// error.
func Record(span trace.Span, err error) {
	if err == nil || !span.IsRecording() {
		return
	}
	kind := fault.KindOf(err)
	span.SetAttributes(semconv.ErrorTypeKey.String(errorType(err)), faultKindKey.String(kind.String()))
	switch {
	case kind == fault.Invalid, kind == fault.NotFound, errors.Is(err, context.Canceled):
	case kind == fault.Conflict:
		span.AddEvent("conflict", trace.WithAttributes(attribute.String("detail", err.Error())))
	default:
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
}

// errorType returns the most precise name for an error, from a small set of names.
func errorType(err error) string {
	var (
		classified *fault.Error
		refused    *relay.RefusedError
	)
	switch {
	case errors.As(err, &classified):
		return classified.Code
	case errors.As(err, &refused):
		return "refused"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline_exceeded"
	}
	return semconv.ErrorType(err).Value.AsString()
}
