// Package telemetry traces and measures the ports, and sets OpenTelemetry up. A Trace or Measure function is a decorator: it takes a port
// and returns the same port with spans or measurements around it, so that domain, ports and application know nothing of telemetry. Start
// with Setup, or with Module in an fx graph. The Observe functions show what instruments read when somebody collects.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	nometer "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrSettings reports that the OTEL_* environment asks for something that does not exist.
var ErrSettings = fault.New(fault.Invalid, "invalid_telemetry", "the OTEL_* environment cannot be used")

// FlushTimeout bounds Shutdown: what the collector has not taken by then is lost.
const FlushTimeout = 3 * time.Second

// Options identify the program. The OTEL_* environment variables say what is exported, and where to.
type Options struct {
	ServiceName string // default outboxie; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word
	Version     string
	InstanceID  string
	Logger      *slog.Logger // gets the exporter's complaints, a few a minute; default slog.Default()
	Endpoint    string       // where spans go, OTLP over HTTP, if the environment says nothing; http://localhost:4318
	// TrustClients believes the sampled flag of a client's traceparent. Otherwise the client's trace is continued, and whether it is
	// sampled is decided here.
	TrustClients bool
}

func (o Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.Default()
	}
	return o.Logger
}

// Telemetry is the tracing and the metrics of one program.
type Telemetry struct {
	provider  trace.TracerProvider
	meters    metric.MeterProvider
	metrics   http.Handler
	logger    *slog.Logger
	exporting bool
	shutdown  func(context.Context) error
}

// Setup reads the OTEL_* environment. Spans are exported only when OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set, or Options.Endpoint. Without, traces still have ids, which travel and appear in
// logs, but are not sampled unless the trusted caller's trace is, or OTEL_TRACES_SAMPLER says so. Metrics are always measured, and
// pushed only if OTEL_METRICS_EXPORTER or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is set. OTEL_SDK_DISABLED=true leaves not even
// the ids.
//
// Setup does not wait for a collector. It replaces OpenTelemetry's global error handler and logger, and no other global.
// The caller must call Shutdown in the end.
func Setup(ctx context.Context, options Options) (*Telemetry, error) {
	logger := options.logger()
	handleErrors(logger)
	if disabled() {
		nothing := func(context.Context) error { return nil }
		return &Telemetry{
			provider: noop.NewTracerProvider(), meters: nometer.NewMeterProvider(), logger: logger, shutdown: nothing,
		}, nil
	}
	exporter, err := newSpanExporter(ctx, options.Endpoint)
	if err != nil {
		return nil, ErrSettings.Wrap(fmt.Errorf("traces: %w", err))
	}
	sampler, err := newSampler(exporter != nil, options.TrustClients)
	if err != nil {
		return nil, ErrSettings.Wrap(err)
	}
	who := newResource(ctx, options)
	measured, err := newMeasuring(ctx, who)
	if err != nil {
		return nil, err
	}
	settings := []sdktrace.TracerProviderOption{sdktrace.WithResource(who), sdktrace.WithSampler(sampler)}
	if exporter != nil {
		settings = append(settings, sdktrace.WithBatcher(exporter))
	}
	provider := sdktrace.NewTracerProvider(settings...)
	return &Telemetry{
		provider: provider, meters: measured.provider, metrics: measured.handler, logger: logger, exporting: exporter != nil,
		shutdown: shutdownOf(both{provider, measured.provider}, exporter),
	}, nil
}

// TracerProvider makes the tracers of the decorators, of the HTTP server and of the database hook.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.provider }

// MeterProvider makes the meters of the measuring decorators, of the HTTP server and of what is observed.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.meters }

// Metrics shows what is measured, as Prometheus scrapes it; nil when OpenTelemetry is disabled.
func (t *Telemetry) Metrics() http.Handler { return t.metrics }

// Exporting reports whether spans leave the program.
func (t *Telemetry) Exporting() bool { return t.exporting }

// Propagator is how a trace crosses HTTP: W3C trace context and baggage.
func (t *Telemetry) Propagator() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(fromClients{propagation.TraceContext{}}, propagation.Baggage{})
}

// Shutdown exports what is left, and returns at the latest after FlushTimeout, even if the collector does not answer;
// then with an error, which is no reason to fail. Spans that end later are dropped.
func (t *Telemetry) Shutdown(ctx context.Context) error { return t.shutdown(ctx) }

// newResource has no schema URL: the libraries that describe it do not agree on a version of the conventions.
func newResource(ctx context.Context, options Options) *resource.Resource {
	name := options.ServiceName
	if name == "" {
		name = "outboxie"
	}
	attributes := []attribute.KeyValue{semconv.ServiceName(name)}
	if options.Version != "" {
		attributes = append(attributes, semconv.ServiceVersion(options.Version))
	}
	if options.InstanceID != "" {
		attributes = append(attributes, semconv.ServiceInstanceID(options.InstanceID))
	}
	detected, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil { // some attributes of the environment are broken; the others are there
		otel.Handle(err)
	}
	return resource.NewSchemaless(append(attributes, detected.Attributes()...)...) // of two values the later one counts
}

func env(name string) string { return strings.TrimSpace(os.Getenv(name)) }
