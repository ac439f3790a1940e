package main

import (
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/opening"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/modules"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// serviceName is the name of the program's service in telemetry.
const serviceName = "outboxie"

// subscriberServiceName returns the name of a subscriber in telemetry. Each subscriber is a service of its own, because it fails and scales
// alone; its copies are instances of that service.
func subscriberServiceName(c config.Config) string {
	return serviceName + "-subscriber-" + c.Subscriber.ID
}

func telemetryOptions(c config.Config, service string, logger *slog.Logger) telemetry.Options {
	return telemetry.Options{
		ServiceName: service, Version: release(), InstanceID: c.InstanceID, Logger: logger, TrustClients: c.HTTP.TrustTraceparent,
	}
}

// serveGraph is an instance: the API and the relay, or one of them, and the admin listener.
func serveGraph(c config.Config, logger *slog.Logger) fx.Option {
	return fx.Options(foundation(c, serviceName, logger), serving(c), administering(), traceLinks(c, logger), fx.Invoke(runDraining))
}

// subscribeGraph is a copy of a subscriber, with an admin listener if one is configured.
func subscribeGraph(c config.Config, logger *slog.Logger) fx.Option {
	graph := fx.Options(
		foundation(c, subscriberServiceName(c), logger),
		fx.Provide(newSubscriber, newHandlers, newEndpoint, subscribingChecks),
		fx.Decorate(remoteNotifier), // instead of the notifier of a process that runs a relay
		fx.Invoke(runSubscriber),
	)
	if c.Given(config.AdminAddr) {
		graph = fx.Options(graph, administering())
	}
	return graph
}

// foundation is the part that all graphs share: settings, logger, telemetry, the adapters with their options, and the decorators.
// fx constructs only the values that a constructor or an Invoke asks for.
func foundation(c config.Config, service string, logger *slog.Logger) fx.Option {
	return fx.Options(
		fx.Supply(c, logger, new(draining)),
		fx.WithLogger(func() fxevent.Logger {
			events := &fxevent.SlogLogger{Logger: logger}
			events.UseLogLevel(slog.LevelDebug)
			events.UseErrorLevel(slog.LevelDebug) // errors too: the program prints the errors of start and stop itself
			return events
		}),
		fx.StartTimeout(30*time.Second), fx.StopTimeout(30*time.Second+c.HTTP.Drain),
		fx.Supply(
			telemetryOptions(c, service, logger),
			engine.Broker(c, logger),
			engine.Publisher(c, logger),
			engine.RelayName(c),
			engine.Inbox(c),
		),
		fx.Provide(newTokenIssuer, func(tp trace.TracerProvider) postgres.Options { return engine.Database(c, tp) }),
		modules.Telemetry, modules.Postgres, modules.JetStream, modules.Codec, modules.HTTPAPI,
		fx.Provide(func(keys orders.KeyRing) *opening.Ring { return opening.NewRing(keys, time.Now) }),
		decorators,
		fx.Invoke(observeConnections),
	)
}

// serving is the graph of an instance: the API and the relay, or one of them.
func serving(c config.Config) fx.Option {
	graph := fx.Options(
		fx.Provide(newOrdering, ordering.NewSweep, newRelay, apiOptions, servingChecks),
		fx.Invoke(runNotifier), // before the relay, so the notifier stops after the relay: a relay that resigns notifies the others
	)
	if c.Roles.Relay {
		graph = fx.Options(graph, fx.Invoke(observeRelay, observeShared, runRelay))
	}
	if c.Roles.API {
		graph = fx.Options(graph, fx.Provide(newAuthentication), fx.Invoke(runSweep, func(*httpapi.API) {}), fx.Provide(serveOrders))
	}
	return graph
}

// administering adds the admin listener.
func administering() fx.Option {
	return fx.Options(
		fx.Provide(newAccess, newSubscriberAdmin, newWatcher, newOperating, adminOptions),
		fx.Invoke(runWatcher, func(*httpapi.Admin) {}),
	)
}

// orderingParts are the ports that the order service drives.
type orderingParts struct {
	fx.In
	Work     orders.UnitOfWork
	Orders   orders.OrderReader
	Encoder  orders.Encoder
	Notifier relay.Notifier
	EventLog operations.EventLog
	Finder   relay.Finder
}

func newOrdering(parts orderingParts, c config.Config) orders.Service {
	newID := func() order.ID { return order.ID(uuid.Must(uuid.NewV7()).String()) }
	return ordering.New(ordering.Ports{
		Work: parts.Work, Orders: parts.Orders, Encoder: parts.Encoder, Seal: c.Personal.Data == config.SealedData,
		Notifier: parts.Notifier, Log: parts.EventLog, Finder: parts.Finder,
	}, newID, time.Now)
}

// relayParts are the ports that a relay drives.
type relayParts struct {
	fx.In
	Log       relay.Log
	Cursors   relay.CursorStore
	Publisher relay.Publisher
	Parking   relay.Parking
	Retention relay.Retention
	Elector   relay.Elector
	Halts     relay.InstanceHalts
	Liveness  relay.Liveness
	Notifier  relay.Notifier
	Listener  relay.Listener
}

func newRelay(parts relayParts, c config.Config, logger *slog.Logger) *relaying.Relay {
	return engine.NewRelay(c, relaying.Ports{
		Log: parts.Log, Cursors: parts.Cursors, Publisher: parts.Publisher, Parking: parts.Parking, Retention: parts.Retention,
		Elector: parts.Elector, Halts: parts.Halts, Liveness: parts.Liveness, Notifier: parts.Notifier, Listener: parts.Listener,
	}, logger)
}

func apiOptions(
	c config.Config, listeners listenerParts, service orders.Service, access authentication, tp trace.TracerProvider, mp metric.MeterProvider,
	propagator propagation.TextMapPropagator, d *draining, logger *slog.Logger,
) httpapi.Options {
	return httpapi.Options{
		Addr: c.HTTP.Addr, Listener: listeners.api(), Service: service, MaxConnections: c.HTTP.MaxConnections,
		AllowedHosts: c.HTTP.AllowedHosts, TrustedOrigins: c.HTTP.TrustedOrigins, CORSOrigins: c.HTTP.CORSOrigins,
		Authenticator: access.authenticator, RateLimit: c.HTTP.RateLimit,
		Logger: logger, TracerProvider: tp, MeterProvider: mp, Propagator: propagator, Drain: &d.http,
	}
}

func runNotifier(background background, notifier *jetstream.Notifier) {
	background.run("notifier", notifier.Run)
}

func runSweep(background background, s *ordering.Sweep) {
	background.run("sweep of idempotency keys", s.Run)
}

func runRelay(background background, r *relaying.Relay, d *draining) {
	d.resign = background.run("relay", r.Run)
}

// servingChecks returns the checks of an instance. Only the database is required: without the broker, or while the relay is halted,
// orders are accepted and their events wait in the outbox.
func servingChecks(
	c config.Config, db *bun.DB, nc *nats.Conn, r *relaying.Relay, log *postgres.Log, publisher *jetstream.Publisher,
) []httpapi.Check {
	checks := []httpapi.Check{engine.DatabaseCheck(db), engine.BrokerCheck(nc, false)}
	if c.Roles.Relay {
		checks = append(checks, engine.RelayChecks(r, log, publisher)...)
	}
	return checks
}
