package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// sliceBytes bounds one read of the log. A relay holds two slices: the one that it publishes, and the next one.
const sliceBytes = 4 << 20

// The names of the program's services in telemetry.
const (
	serviceName           = "outboxie"
	subscriberServiceName = "outboxie-subscriber"
)

func telemetryOptions(c config.Config, service string, logger *slog.Logger) telemetry.Options {
	return telemetry.Options{
		ServiceName: service, Version: release(), InstanceID: c.InstanceID, Logger: logger, TrustClients: c.HTTP.TrustTraceparent,
	}
}

// serveGraph is an instance: the API and the relay, or one of them, and the admin listener.
func serveGraph(c config.Config, logger *slog.Logger) fx.Option {
	return fx.Options(foundation(c, serviceName, logger), serving(c), administering(), traceLinks(c, logger))
}

// subscribeGraph is a copy of a subscriber, with an admin listener if one is configured.
func subscribeGraph(c config.Config, logger *slog.Logger) fx.Option {
	graph := fx.Options(
		foundation(c, subscriberServiceName, logger),
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
		fx.Supply(c, logger),
		fx.WithLogger(func() fxevent.Logger {
			events := &fxevent.SlogLogger{Logger: logger}
			events.UseLogLevel(slog.LevelDebug)
			events.UseErrorLevel(slog.LevelDebug) // errors too: the program prints the errors of start and stop itself
			return events
		}),
		fx.StartTimeout(30*time.Second), fx.StopTimeout(30*time.Second),
		fx.Supply(
			telemetryOptions(c, service, logger),
			brokerOptions(c, logger),
			publisherOptions(c, logger),
			postgres.RelayOptions{
				Name: c.Stream.Name, Stream: c.Stream.Name, Holder: c.InstanceID, LeaseTTL: c.Outbox.LeaseTTL,
			},
		),
		fx.Provide(func(tp trace.TracerProvider) postgres.Options {
			return postgres.Options{
				URL: string(c.Database.URL), MaxOpenConns: c.Database.MaxConns, ApplicationName: c.InstanceID, TracerProvider: tp,
			}
		}),
		fx.Supply(postgres.InboxOptions{IdleTimeout: c.Subscriber.IdleTimeout}),
		telemetry.Module, postgres.Module, jetstream.Module, codec.Module, httpapi.Module,
		decorators,
		fx.Invoke(observeConnections),
	)
}

// brokerOptions returns the options of a connection to the broker.
func brokerOptions(c config.Config, logger *slog.Logger) jetstream.Options {
	return jetstream.Options{
		URL: string(c.NATS.URL), Name: c.InstanceID, Logger: logger,
		Creds: c.NATS.Creds, CA: c.NATS.CA, Cert: c.NATS.Cert, Key: c.NATS.Key,
		InboxPrefix: c.NATS.InboxPrefix,
	}
}

// publisherOptions returns the options of the relay's publisher.
func publisherOptions(c config.Config, logger *slog.Logger) jetstream.PublisherOptions {
	return jetstream.PublisherOptions{
		Stream: c.Stream.Name, Subjects: c.Stream.Subjects, Source: c.Stream.Source,
		MaxBytes: c.Stream.MaxBytes, MaxAge: c.Stream.MaxAge, Replicas: c.Stream.Replicas, Logger: logger,
	}
}

// stateReader returns a reader for operators.
func stateReader(nc *nats.Conn, c config.Config, logger *slog.Logger) *jetstream.Reader {
	return jetstream.NewStateReader(nc, jetstream.ReaderOptions{Stream: c.Stream.Name, Subjects: c.Stream.Subjects, Logger: logger})
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
		graph = fx.Options(graph, fx.Provide(serveOrders), fx.Invoke(runSweep, func(*httpapi.API) {}))
	}
	return graph
}

// administering adds the admin listener.
func administering() fx.Option {
	return fx.Options(
		fx.Provide(newAccess, newSubscriberAdmin, newWatcher, newConsole, adminOptions),
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

func newOrdering(parts orderingParts) orders.Service {
	newID := func() order.ID { return order.ID(uuid.Must(uuid.NewV7()).String()) }
	return ordering.New(ordering.Ports{
		Work: parts.Work, Orders: parts.Orders, Encoder: parts.Encoder, Notifier: parts.Notifier, Log: parts.EventLog, Finder: parts.Finder,
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
	return relaying.New(
		relaying.Ports{
			Log: parts.Log, Cursors: parts.Cursors, Publisher: parts.Publisher, Parking: parts.Parking, Retention: parts.Retention,
			Elector: parts.Elector, Halts: parts.Halts, Liveness: parts.Liveness, Notifier: parts.Notifier, Listener: parts.Listener,
		},
		relaying.Options{
			LeaseTTL: c.Outbox.LeaseTTL, Poll: c.Outbox.PollInterval,
			Batch: relay.ReadLimit{Count: c.Outbox.BatchSize, Bytes: sliceBytes}, Retention: c.Outbox.Retention,
		},
		logger.With("instance", c.InstanceID))
}

func apiOptions(
	c config.Config, listeners listenerParts, service orders.Service, tp trace.TracerProvider, mp metric.MeterProvider,
	propagator propagation.TextMapPropagator, logger *slog.Logger,
) httpapi.Options {
	return httpapi.Options{
		Addr: c.HTTP.Addr, Listener: listeners.api(), Service: service, MaxConnections: c.HTTP.MaxConnections,
		AllowedHosts: c.HTTP.AllowedHosts, TrustedOrigins: c.HTTP.TrustedOrigins,
		Logger: logger, TracerProvider: tp, MeterProvider: mp, Propagator: propagator,
	}
}

// adminParts are what the admin listener needs.
type adminParts struct {
	fx.In
	Listeners    listenerParts
	Access       access
	Telemetry    *telemetry.Telemetry
	Config       config.Config
	Checks       []httpapi.Check
	Inspector    operations.RelayInspector
	ParkingAdmin operations.ParkingAdmin
	DeadLetters  operations.DeadLetterAdmin
	Subscribers  operations.SubscriberAdmin
	Console      *console.Console
	Traces       trace.TracerProvider
	Meters       metric.MeterProvider
	Propagator   propagation.TextMapPropagator
	Logger       *slog.Logger
}

func adminOptions(parts adminParts) httpapi.AdminOptions {
	return httpapi.AdminOptions{
		Addr: parts.Config.HTTP.AdminAddr, Listener: parts.Listeners.admin(), Token: parts.Access.token, Open: parts.Access.open, AllowedHosts: parts.Config.HTTP.AdminAllowedHosts,
		Checks: parts.Checks, Metrics: parts.Telemetry.Metrics(), Inspector: parts.Inspector, ParkingAdmin: parts.ParkingAdmin,
		Parked: operating.UndecidedParked(parts.ParkingAdmin), DeadLetters: operating.NewDeadLetters(parts.DeadLetters),
		Subscribers: parts.Subscribers, Console: parts.Console,
		Logger: parts.Logger, TracerProvider: parts.Traces, MeterProvider: parts.Meters, Propagator: parts.Propagator,
	}
}

func runNotifier(background background, notifier *jetstream.Notifier) {
	background.run("notifier", notifier.Run)
}

func runSweep(background background, s *ordering.Sweep) {
	background.run("sweep of idempotency keys", s.Run)
}

func runRelay(background background, r *relaying.Relay) { background.run("relay", r.Run) }

// databaseCheck checks that the database answers.
func databaseCheck(db *bun.DB) httpapi.Check {
	return httpapi.Check{Name: "database", Required: true, Probe: db.PingContext}
}

func brokerCheck(nc *nats.Conn, required bool) httpapi.Check {
	return httpapi.Check{Name: "broker", Required: required, Probe: func(context.Context) error {
		if !nc.IsConnected() {
			return fmt.Errorf("not connected to NATS (%s)", nc.Status())
		}
		return nil
	}}
}

// longWait is how long an open transaction may delay the relay before readiness reports the transaction.
const longWait = 2 * time.Second

// servingChecks returns the checks of an instance. Only the database is required: without the broker, or while the relay is halted,
// orders are accepted and their events wait in the outbox.
func servingChecks(
	c config.Config, db *bun.DB, nc *nats.Conn, r *relaying.Relay, log *postgres.Log, publisher *jetstream.Publisher,
) []httpapi.Check {
	checks := []httpapi.Check{databaseCheck(db), brokerCheck(nc, false)}
	if !c.Roles.Relay {
		return checks
	}
	return append(checks, httpapi.Check{Name: "relay", Probe: func(context.Context) error {
		switch status := r.Status(); {
		case status.Halt != nil:
			return status.Halt
		case status.Trouble != "":
			return errors.New(status.Trouble)
		case status.Parked:
			return errors.New("events are parked, because the broker cannot take an earlier event of their aggregate: outboxie outbox parked")
		}
		if wait := log.OldestWait(); wait > longWait {
			return fmt.Errorf("events wait for an open transaction that writes the outbox, for %s so far; the log names it",
				wait.Round(time.Second))
		}
		return nil
	}}, streamCheck(r, publisher))
}

// streamCheck returns a check that fails on the leader if settings limit what the stream holds. The error names these settings.
func streamCheck(r *relaying.Relay, publisher *jetstream.Publisher) httpapi.Check {
	return httpapi.Check{Name: "stream", Probe: func(context.Context) error {
		if findings := publisher.Findings(); r.Status().State == relaying.Leading && len(findings) > 0 {
			return errors.New(strings.Join(findings, "; "))
		}
		return nil
	}}
}
