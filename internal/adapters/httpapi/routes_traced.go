package httpapi

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// withoutEmptyRoutes returns tp without http.route on the spans of requests that match no route. otelgin gives such a span an empty
// http.route, which the conventions forbid: the attribute is then to be absent.
func withoutEmptyRoutes(tp trace.TracerProvider) trace.TracerProvider { return routedProvider{tp} }

type routedProvider struct{ trace.TracerProvider }

func (p routedProvider) Tracer(name string, options ...trace.TracerOption) trace.Tracer {
	return routedTracer{p.TracerProvider.Tracer(name, options...)}
}

type routedTracer struct{ trace.Tracer }

func (t routedTracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	config := trace.NewSpanStartConfig(options...)
	kept := make([]attribute.KeyValue, 0, len(config.Attributes()))
	for _, attribute := range config.Attributes() {
		if attribute.Key != semconv.HTTPRouteKey || attribute.Value.AsString() != "" {
			kept = append(kept, attribute)
		}
	}
	return t.Tracer.Start(ctx, name, trace.WithSpanKind(config.SpanKind()), trace.WithAttributes(kept...))
}
