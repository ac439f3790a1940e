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

// fromClients marks the span contexts that come over HTTP as sent by a client. The program continues such a trace, but ignores its sampled
// flag: see forClients.
type fromClients struct{ propagation.TextMapPropagator }

// Extract reads what the client has sent.
func (p fromClients) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	ctx = p.TextMapPropagator.Extract(ctx, carrier)
	if sent := trace.SpanContextFromContext(ctx); sent.IsRemote() {
		ctx = context.WithValue(ctx, clientContext{}, sent)
	}
	return ctx
}

// forClients ignores the parent of a span if a client sent the parent: it decides as for a span without a parent. A ratio uses a random id,
// which the client does not choose. With a sampler that is based on the parent, the spans below and the messages made there follow that
// decision.
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

// Description names both samplers.
func (s forClients) Description() string {
	return "ForClients{" + s.root.Description() + "," + s.Sampler.Description() + "}"
}
