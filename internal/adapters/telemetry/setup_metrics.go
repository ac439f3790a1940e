package telemetry

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// metricsSetup makes instruments. They are read in two ways: a scraper asks the handler, and the providers push them if the environment says
// so.
type metricsSetup struct {
	registry *prometheus.Registry
	resource *resource.Resource
	provider *sdkmetric.MeterProvider   // of the process
	relays   []*sdkmetric.MeterProvider // of its relays, if it has several
	handler  http.Handler
}

// newMetricsSetup returns a metricsSetup, and starts to measure the Go runtime.
func newMetricsSetup(ctx context.Context, from *resource.Resource) (*metricsSetup, error) {
	m := &metricsSetup{registry: prometheus.NewRegistry(), resource: from}
	var err error
	if m.provider, err = m.newProvider(ctx, from); err != nil {
		return nil, err
	}
	if err := runtime.Start(runtime.WithMeterProvider(m.provider)); err != nil {
		return nil, err
	}
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, ErrorHandling: promhttp.ContinueOnError, ErrorLog: scrapeErrors{},
	})
	return m, nil
}

// newProvider returns a provider whose measurements the handler shows.
func (m *metricsSetup) newProvider(ctx context.Context, from *resource.Resource) (*sdkmetric.MeterProvider, error) {
	// The names in a scrape must be the same for every scraper, because rules and dashboards use them.
	pull, err := promexporter.New(promexporter.WithRegisterer(m.registry), promexporter.WithoutScopeInfo(),
		promexporter.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
		promexporter.WithResourceAsConstantLabels(isRelayLabel))
	if err != nil {
		return nil, err
	}
	settings := []sdkmetric.Option{sdkmetric.WithResource(from), sdkmetric.WithReader(pull), sdkmetric.WithView(views()...)}
	if m.provider != nil && env("OTEL_METRICS_EXPORTER") == "prometheus" {
		return sdkmetric.NewMeterProvider(settings...), nil // the listener of this exporter is that of the process
	}
	push, err := newPush(ctx)
	if err != nil {
		return nil, ErrSettings.Wrap(fmt.Errorf("metrics: %w", err))
	}
	if push != nil {
		settings = append(settings, sdkmetric.WithReader(push))
	}
	return sdkmetric.NewMeterProvider(settings...), nil
}

// newPush returns a reader that pushes metrics, or nil if the environment does not ask for that. The general OTEL_EXPORTER_OTLP_ENDPOINT is
// not enough: see ExportLogs.
func newPush(ctx context.Context) (sdkmetric.Reader, error) {
	if env("OTEL_METRICS_EXPORTER") == "" && env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") == "" {
		return nil, nil
	}
	reader, err := autoexport.NewMetricReader(ctx)
	if err != nil || autoexport.IsNoneMetricReader(reader) {
		return nil, err
	}
	return reader, nil
}

// views returns views that reduce the HTTP server's metrics to the duration by method, scheme, route and status. The other attributes of the
// library have no use here, or come from the client, such as the Host header. A client could make any number of series with them.
func views() []sdkmetric.View {
	few := attribute.NewAllowKeysFilter(semconv.HTTPRequestMethodKey, semconv.URLSchemeKey, semconv.HTTPRouteKey, semconv.HTTPResponseStatusCodeKey)
	return []sdkmetric.View{
		sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.request.duration"}, sdkmetric.Stream{AttributeFilter: few}),
		sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.*.body.size"}, sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}}),
	}
}

// scrapeErrors passes the errors of a scrape to OpenTelemetry's error handler. The scrape leaves out only the metrics that have an error.
type scrapeErrors struct{}

// Println passes on one error.
func (scrapeErrors) Println(problem ...any) {
	otel.Handle(fmt.Errorf("show the metrics: %s", fmt.Sprint(problem...)))
}

func meter(mp metric.MeterProvider) metric.Meter {
	return mp.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
}

// orReport returns an instrument. An error is only reported: the names in this package are valid, and the library returns a working instrument
// in any case.
func orReport[T any](instrument T, err error) T {
	if err != nil {
		otel.Handle(err)
	}
	return instrument
}

func set(attributes ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attributes...))
}

// Boundaries of histograms. waitBoundaries is for times that are normally milliseconds, and hours in an outage. callBoundaries is for a
// request to the broker. sizeBoundaries is for the number of events in a batch.
var (
	waitBoundaries = metric.WithExplicitBucketBoundaries(
		.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
	callBoundaries = metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)
	sizeBoundaries = metric.WithExplicitBucketBoundaries(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
)
