package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func disabled() bool { return strings.EqualFold(env("OTEL_SDK_DISABLED"), "true") }

// TracesConfigured reports whether the OTEL_* environment decides where traces go, or disables them.
func TracesConfigured() bool {
	return disabled() || env("OTEL_TRACES_EXPORTER") != "" || env("OTEL_EXPORTER_OTLP_ENDPOINT") != "" ||
		env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// newSpanExporter returns the exporter that the environment asks for. If the environment says nothing, it exports to endpoint, or returns
// nil if endpoint is empty.
func newSpanExporter(ctx context.Context, endpoint string) (sdktrace.SpanExporter, error) {
	if !TracesConfigured() {
		if endpoint == "" {
			return nil, nil
		}
		return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimSuffix(endpoint, "/")+"/v1/traces"))
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil || autoexport.IsNoneSpanExporter(exporter) {
		return nil, err
	}
	return exporter, nil
}

// ExportLogs returns a logger that writes to the logger of options. If OTEL_LOGS_EXPORTER or OTEL_EXPORTER_OTLP_LOGS_ENDPOINT is set, the
// returned logger also sends each record over OTLP, with trace and span ids. The general OTEL_EXPORTER_OTLP_ENDPOINT is not enough, because
// it often names a Jaeger, which does not accept logs. ExportLogs does not wait for a collector. The caller must call shutdown at the end.
// shutdown sends the remaining records, and returns after FlushTimeout at the latest.
func ExportLogs(ctx context.Context, options Options) (logger *slog.Logger, shutdown func(context.Context) error, err error) {
	logger = options.logger()
	handleErrors(logger)
	nothing := func(context.Context) error { return nil }
	if disabled() || env("OTEL_LOGS_EXPORTER") == "" && env("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") == "" {
		return logger, nothing, nil
	}
	exporter, err := autoexport.NewLogExporter(ctx)
	if err != nil {
		return nil, nil, ErrSettings.Wrap(fmt.Errorf("logs: %w", err))
	}
	if autoexport.IsNoneLogExporter(exporter) {
		return logger, nothing, nil
	}
	provider := sdklog.NewLoggerProvider(sdklog.WithResource(newResource(ctx, options)),
		sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)))
	exported := sameLevel{
		Handler: otelslog.NewHandler(scope, otelslog.WithLoggerProvider(provider)),
		as:      logger.Handler(),
	}
	return slog.New(slog.NewMultiHandler(logger.Handler(), exported)), shutdownOf(provider, exporter), nil
}

type shutdowner interface{ Shutdown(context.Context) error }

// shutdownOf returns a function that sends the data that provider still has, for at most FlushTimeout. So a collector that does not answer
// cannot delay the end of the program. exporter may be nil.
func shutdownOf(provider, exporter shutdowner) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, FlushTimeout)
		defer cancel()
		err := provider.Shutdown(ctx)
		if exporter != nil && ctx.Err() != nil {
			// The provider has given up, but its last export goes on in the background until the exporter shuts down too.
			err = errors.Join(err, exporter.Shutdown(ctx))
		}
		return err
	}
}

// both shuts down traces and metrics at the same time, so neither uses up the time of the other.
type both struct{ traces, metrics shutdowner }

// Shutdown waits until both have ended.
func (b both) Shutdown(ctx context.Context) error {
	traces := make(chan error, 1)
	go func() { traces <- b.traces.Shutdown(ctx) }()
	return errors.Join(b.metrics.Shutdown(ctx), <-traces)
}

// sameLevel is a handler that accepts the same levels as another handler. The other handler is in the field as.
type sameLevel struct {
	slog.Handler
	as slog.Handler
}

// Enabled reports whether the other handler accepts the level.
func (h sameLevel) Enabled(ctx context.Context, level slog.Level) bool {
	return h.as.Enabled(ctx, level)
}

// WithAttrs keeps the level.
func (h sameLevel) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sameLevel{h.Handler.WithAttrs(attrs), h.as}
}

// WithGroup keeps the level.
func (h sameLevel) WithGroup(name string) slog.Handler {
	return sameLevel{h.Handler.WithGroup(name), h.as}
}
