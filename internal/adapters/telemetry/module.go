package telemetry

import (
	"context"

	"go.uber.org/fx"
)

// Module provides the Telemetry made from Options, its TracerProvider, its MeterProvider and its TextMapPropagator. When the program stops,
// the users of these values stop first. Then Module exports the remaining spans and metrics.
//
// fx can use the Trace functions as decorators: fx.Decorate(telemetry.TraceAppender, telemetry.TraceEmitter).
var Module = fx.Module("telemetry",
	fx.Provide(
		start,
		(*Telemetry).TracerProvider,
		(*Telemetry).MeterProvider,
		(*Telemetry).Propagator,
	),
)

func start(lifecycle fx.Lifecycle, options Options) (*Telemetry, error) {
	t, err := Setup(context.Background(), options)
	if err != nil {
		return nil, err
	}
	lifecycle.Append(fx.StopHook(func(ctx context.Context) {
		if err := t.Shutdown(ctx); err != nil {
			t.logger.Warn("the last spans or metrics were not exported", "error", err)
		}
	}))
	return t, nil
}
