// Package telemetry traces and measures the ports, and sets OpenTelemetry up. A Trace or Measure function is a decorator: it takes a port
// and returns the same port with spans or measurements around it. So domain, ports and application know nothing of telemetry. Start with
// Setup, or with Module in an fx graph. The Observe functions make instruments that are read at each collection.
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

// ErrSettings reports that an OTEL_* variable has a value that cannot be used.
var ErrSettings = fault.New(fault.Invalid, "invalid_telemetry", "the OTEL_* environment cannot be used")

// FlushTimeout bounds Shutdown: data that the collector has not accepted by then is lost.
const FlushTimeout = 3 * time.Second

// Options identify the program. The OTEL_* environment variables say what is exported, and where to.
type Options struct {
	ServiceName string // default outboxie; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
	Version     string
	InstanceID  string
	Logger      *slog.Logger // gets the errors of OpenTelemetry, a few a minute; default slog.Default()
	Endpoint    string       // the OTLP/HTTP endpoint for spans if the environment names none, such as http://localhost:4318
	// TrustClients uses the sampled flag of a client's traceparent. Without TrustClients the client's trace is continued too, but this program
	// decides whether it is sampled.
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
	setup     *metricsSetup // nil if OpenTelemetry is disabled
	logger    *slog.Logger
	exporting bool
	shutdown  func(context.Context) error
}

// Setup reads the OTEL_* environment. Spans are exported only if OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT,
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or Options.Endpoint is set. Without an export, traces still have ids. The ids are passed on and appear
// in logs. Such a trace is sampled only if a trusted caller has sampled the trace, or if OTEL_TRACES_SAMPLER says so. Metrics are always
// measured. They are pushed only if OTEL_METRICS_EXPORTER or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is set. With OTEL_SDK_DISABLED=true there
// are no ids either.
//
// Setup does not wait for a collector. It replaces OpenTelemetry's global error handler and logger, and no other global. The caller must
// call Shutdown at the end.
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
	measured, err := newMetricsSetup(ctx, who)
	if err != nil {
		return nil, err
	}
	settings := []sdktrace.TracerProviderOption{sdktrace.WithResource(who), sdktrace.WithSampler(sampler)}
	if exporter != nil {
		settings = append(settings, sdktrace.WithBatcher(exporter))
	}
	provider := sdktrace.NewTracerProvider(settings...)
	return &Telemetry{
		provider: provider, meters: measured.provider, metrics: measured.handler, setup: measured, logger: logger, exporting: exporter != nil,
		shutdown: shutdownOf(both{provider, measured}, exporter),
	}, nil
}

// TracerProvider returns the provider of the tracers of decorators, HTTP server and database hook.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.provider }

// MeterProvider returns the provider of the meters of measuring decorators, HTTP server and Observe functions.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.meters }

// Metrics returns the handler that Prometheus scrapes, or nil if OpenTelemetry is disabled.
func (t *Telemetry) Metrics() http.Handler { return t.metrics }

// Exporting reports whether spans leave the program.
func (t *Telemetry) Exporting() bool { return t.exporting }

// Propagator returns the propagator of traces over HTTP: W3C trace context and baggage.
func (t *Telemetry) Propagator() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(fromClients{propagation.TraceContext{}}, propagation.Baggage{})
}

// Shutdown exports the remaining spans and metrics. It returns after FlushTimeout at the latest, with an error if the collector does not
// answer. The program need not fail because of that error. Spans that end after Shutdown are dropped.
func (t *Telemetry) Shutdown(ctx context.Context) error { return t.shutdown(ctx) }

// newResource returns a resource without a schema URL, because the libraries that add attributes use different versions of the conventions.
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
	if err != nil { // some attributes of the environment are broken; detected has the others
		otel.Handle(err)
	}
	return resource.NewSchemaless(append(attributes, detected.Attributes()...)...) // if a key has two values, the later value wins
}

func env(name string) string { return strings.TrimSpace(os.Getenv(name)) }
