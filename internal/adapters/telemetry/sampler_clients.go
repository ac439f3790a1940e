package telemetry

import (
	"context"
	"crypto/rand"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// clientContext is the key of the span context that a client has sent.
type clientContext struct{}

// fromClients marks the span contexts that come over HTTP as sent by a client. Such a trace is continued, and its flag is not
// believed: see forClients.
type fromClients struct{ propagation.TextMapPropagator }

// Extract reads what the client has sent.
func (p fromClients) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	ctx = p.TextMapPropagator.Extract(ctx, carrier)
	if sent := trace.SpanContextFromContext(ctx); sent.IsRemote() {
		ctx = context.WithValue(ctx, clientContext{}, sent)
	}
	return ctx
}

// forClients samples a span whose parent a client has sent as if it had no parent. A ratio takes it by an id that the client does
// not choose. What happens within the span, and to the messages that are made there, follows the decision as ever.
type forClients struct {
	sdktrace.Sampler                  // for all other spans
	root             sdktrace.Sampler // for spans without a parent
}

// ShouldSample decides about a span.
func (s forClients) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	sent, marked := p.ParentContext.Value(clientContext{}).(trace.SpanContext)
	if !marked || !sent.Equal(trace.SpanContextFromContext(p.ParentContext)) {
		return s.Sampler.ShouldSample(p)
	}
	_, _ = rand.Read(p.TraceID[:]) // never fails
	return s.root.ShouldSample(p)
}

// Description names both.
func (s forClients) Description() string {
	return "ForClients{" + s.root.Description() + "," + s.Sampler.Description() + "}"
}
