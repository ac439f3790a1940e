package modules

import (
	"cmp"
	"context"
	"log/slog"

	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
)

// Telemetry provides the Telemetry made from Options, its TracerProvider, its MeterProvider and its TextMapPropagator. When the program stops,
// the users of these values stop first. Then Telemetry exports the remaining spans and metrics.
//
// fx can use the Trace functions as decorators: fx.Decorate(telemetry.TraceAppender, telemetry.TraceEmitter).
var Telemetry = fx.Module("telemetry",
	fx.Provide(
		startTelemetry,
		(*telemetry.Telemetry).TracerProvider,
		(*telemetry.Telemetry).MeterProvider,
		(*telemetry.Telemetry).Propagator,
	),
)

func startTelemetry(lifecycle fx.Lifecycle, options telemetry.Options) (*telemetry.Telemetry, error) {
	t, err := telemetry.Setup(context.Background(), options)
	if err != nil {
		return nil, err
	}
	lifecycle.Append(fx.StopHook(func(ctx context.Context) {
		if err := t.Shutdown(ctx); err != nil {
			cmp.Or(options.Logger, slog.Default()).Warn("the last spans or metrics were not exported", "error", err)
		}
	}))
	return t, nil
}
