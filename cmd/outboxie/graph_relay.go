package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/nats-io/nats.go"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/modules"
)

const relayServiceName = "outboxie-relay"

// relaysGraph is a process that relays for other services: telemetry, the admin listener, and a loop that runs the relays. Each relay has a
// relayGraph of its own.
func relaysGraph(c config.Config, relays []config.Relay, logger *slog.Logger) fx.Option {
	return fx.Options(
		quietly(logger),
		fx.Supply(c, relays, telemetryOptions(c, relayServiceName, logger)),
		modules.Telemetry, modules.HTTPAPI,
		fx.Provide(newTokenIssuer, newAccess, newSupervisedRelays, relaysAdminOptions),
		fx.Invoke(runRelays, func(*httpapi.Admin) {}),
	)
}

// relayGraph is one relay with its connections. It shares only telemetry with other relays.
func relayGraph(s *supervisedRelay) fx.Option {
	c := s.config
	c.Roles = config.Roles{Relay: true}
	return fx.Options(
		quietly(s.logger),
		fx.Supply(c, engine.Broker(c, s.logger), engine.Publisher(c, s.logger), engine.RelayName(c), engine.Database(c, s.traces), new(draining)),
		fx.Provide(func() trace.TracerProvider { return s.traces }, func() metric.MeterProvider { return s.meters }),
		modules.Postgres, modules.JetStream,
		fx.Decorate(decorateRelay),
		fx.Provide(newRelay, servingChecks),
		fx.Invoke(
			func(*nats.Conn) {}, // first: if it fails, nothing else is open yet
			runNotifier,         // before the relay, so the notifier stops after the relay: a relay that resigns notifies the others
			observeConnections, observeLease, observeShared, runRelay, s.started,
		),
	)
}

// quietly supplies the logger, and the limits of start and stop. The program prints the errors of start and stop itself.
func quietly(logger *slog.Logger) fx.Option {
	return fx.Options(
		fx.Supply(logger),
		fx.WithLogger(func() fxevent.Logger {
			events := &fxevent.SlogLogger{Logger: logger}
			events.UseLogLevel(slog.LevelDebug)
			events.UseErrorLevel(slog.LevelDebug)
			return events
		}),
		fx.StartTimeout(30*time.Second), fx.StopTimeout(30*time.Second),
	)
}

// newSupervisedRelays returns the relays in order of their names. Each is measured from now on, so that one that cannot start is seen.
func newSupervisedRelays(
	lifecycle fx.Lifecycle, relays []config.Relay, t *telemetry.Telemetry, logger *slog.Logger,
) ([]*supervisedRelay, error) {
	var made []*supervisedRelay
	for _, relay := range relays {
		meters, err := t.ForRelay(context.Background(), relay.Name, relay.Config.Stream.Name)
		if err != nil {
			return nil, err
		}
		s := &supervisedRelay{
			name: relay.Name, config: relay.Config, logger: logger.With("relay", relay.Name), meters: meters, traces: t.TracerProvider(),
		}
		if err := observed(lifecycle)(telemetry.ObserveRelay(meters, s.measured)); err != nil {
			return nil, err
		}
		made = append(made, s)
	}
	slices.SortFunc(made, func(a, b *supervisedRelay) int { return strings.Compare(a.name, b.name) })
	return made, nil
}

// runRelays runs all relays in one loop, so that they also stop at the same time: one whose database hangs stops late.
func runRelays(background background, relays []*supervisedRelay) {
	background.run("relays", func(ctx context.Context) error {
		var running sync.WaitGroup
		for _, relay := range relays {
			running.Go(func() {
				if err := relay.Run(ctx); err != nil {
					relay.logger.Error("the relay failed while it was stopped", "error", err)
				}
			})
		}
		running.Wait()
		return nil
	})
}

// relaysAdminOptions returns the options of the admin listener: probes, metrics, profiles, and the list of relays. Operators use the commands
// with the file of the relay for everything else.
func relaysAdminOptions(
	c config.Config, who access, listeners listenerParts, relays []*supervisedRelay, t *telemetry.Telemetry, traces trace.TracerProvider,
	meters metric.MeterProvider, propagator propagation.TextMapPropagator, logger *slog.Logger,
) httpapi.AdminOptions {
	var checks []httpapi.Check
	for _, relay := range relays {
		checks = append(checks, relay.checks()...)
	}
	return httpapi.AdminOptions{
		Addr: c.HTTP.AdminAddr, Listener: listeners.admin(), AllowedHosts: c.HTTP.AdminAllowedHosts,
		Token: who.token, ReadToken: who.readToken, Issuer: who.issuer, Open: who.open,
		Checks: checks, Metrics: t.Metrics(),
		Relays: func() []httpapi.RelayState {
			var shown []httpapi.RelayState
			for _, relay := range relays {
				shown = append(shown, relay.shown())
			}
			return shown
		},
		Logger: logger, TracerProvider: traces, MeterProvider: meters, Propagator: propagator,
	}
}
