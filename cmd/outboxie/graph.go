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
	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// sliceBytes bounds how much of the log a relay holds at once: one slice that is being published and one read ahead.
const sliceBytes = 4 << 20

// The names under which telemetry knows the program's services.
const (
	serviceName           = "outboxie"
	subscriberServiceName = "outboxie-subscriber"
)

func telemetryOptions(c config.Config, service string, logger *slog.Logger) telemetry.Options {
	return telemetry.Options{
		ServiceName: service, Version: release(), InstanceID: c.InstanceID, Logger: logger, TrustClients: c.HTTP.TrustTraceparent,
	}
}

// foundation is the common part of all graphs: settings, logger, telemetry, and the adapters with their options. fx constructs only what is
// asked for.
func foundation(c config.Config, service string, logger *slog.Logger) fx.Option {
	return fx.Options(
		fx.Supply(c, logger),
		fx.WithLogger(func() fxevent.Logger {
			quiet := &fxevent.SlogLogger{Logger: logger}
			quiet.UseLogLevel(slog.LevelDebug)
			quiet.UseErrorLevel(slog.LevelDebug) // errors come back from the start and the stop
			return quiet
		}),
		fx.StartTimeout(30*time.Second), fx.StopTimeout(30*time.Second),
		fx.Supply(
			telemetryOptions(c, service, logger),
			brokerOptions(c, logger),
			jetstream.PublisherOptions{
				Stream: c.Stream.Name, MaxBytes: c.Stream.MaxBytes, MaxAge: c.Stream.MaxAge, Replicas: c.Stream.Replicas, Logger: logger,
			},
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
		fx.Invoke(observeConnections),
	)
}

// brokerOptions is how to reach the broker.
func brokerOptions(c config.Config, logger *slog.Logger) jetstream.Options {
	return jetstream.Options{
		URL: string(c.NATS.URL), Name: c.InstanceID, Logger: logger,
		Creds: c.NATS.Creds, CA: c.NATS.CA, Cert: c.NATS.Cert, Key: c.NATS.Key,
		InboxPrefix: c.NATS.InboxPrefix,
	}
}

// serving is the graph of an instance: the API and the relay, or one of them.
func serving(c config.Config) fx.Option {
	graph := fx.Options(
		fx.Provide(newOrdering, ordering.NewSweep, newRelay, apiOptions, servingChecks),
		fx.Decorate(telemetry.TraceService, telemetry.TraceUnitOfWork),
		fx.Invoke(runNotifier), // before the relay, so that it stops after the relay, which notifies the others when it resigns
	)
	if c.Roles.Relay {
		graph = fx.Options(graph, fx.Invoke(observeRelay, observeShared, runRelay))
	}
	if c.Roles.API {
		graph = fx.Options(graph, fx.Invoke(runSweep, func(*httpapi.API) {}))
	}
	return graph
}

// administering adds the admin listener.
func administering() fx.Option {
	return fx.Options(
		fx.Provide(adminOptions),
		fx.Invoke(func(*httpapi.Admin) {}),
	)
}

// orderingParts is the driven ports of the order service.
type orderingParts struct {
	fx.In
	Work     orders.UnitOfWork
	Encoder  orders.Encoder
	Notifier relay.Notifier
	EventLog operations.EventLog
	Finder   relay.Finder
}

func newOrdering(parts orderingParts) orders.Service {
	newID := func() order.ID { return order.ID(uuid.Must(uuid.NewV7()).String()) }
	return ordering.New(ordering.Ports{
		Work: parts.Work, Encoder: parts.Encoder, Notifier: parts.Notifier, Log: parts.EventLog, Finder: parts.Finder,
	}, newID, time.Now)
}

// relayParts is the driven ports of a relay.
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

func newRelay(
	parts relayParts, c config.Config, tp trace.TracerProvider, mp metric.MeterProvider, logger *slog.Logger,
) *relaying.Relay {
	traced := telemetry.TraceRelay(tp, c.Stream.Name, telemetry.RelayPorts{
		Log: parts.Log, Cursors: parts.Cursors, Publisher: parts.Publisher, Elector: parts.Elector,
	})
	return relaying.New(
		relaying.Ports{
			Log: traced.Log, Cursors: traced.Cursors, Elector: traced.Elector, Liveness: parts.Liveness,
			Publisher: telemetry.MeasurePublisher(mp, c.Stream.Name, traced.Publisher),
			Parking:   parts.Parking, Retention: telemetry.MeasureRetention(mp, parts.Retention), Halts: parts.Halts,
			Notifier: parts.Notifier, Listener: parts.Listener,
		},
		relaying.Options{
			LeaseTTL: c.Outbox.LeaseTTL, Poll: c.Outbox.PollInterval,
			Slice: relay.ReadLimit{Count: c.Outbox.BatchSize, Bytes: sliceBytes}, Retention: c.Outbox.Retention,
		},
		logger.With("instance", c.InstanceID))
}

func apiOptions(
	c config.Config, listeners boundParts, service orders.Service, tp trace.TracerProvider, mp metric.MeterProvider,
	propagator propagation.TextMapPropagator, logger *slog.Logger,
) httpapi.Options {
	return httpapi.Options{
		Addr: c.HTTP.Addr, Listener: listeners.api(), Service: service, MaxConnections: c.HTTP.MaxConnections,
		AllowedHosts: c.HTTP.AllowedHosts, TrustedOrigins: c.HTTP.TrustedOrigins,
		Logger: logger, TracerProvider: tp, MeterProvider: mp, Propagator: propagator,
	}
}

// adminParts is the ports of the admin listener.
type adminParts struct {
	fx.In
	Listeners    boundParts
	Telemetry    *telemetry.Telemetry
	Config       config.Config
	Checks       []httpapi.Check
	Inspector    operations.RelayInspector
	ParkingAdmin operations.ParkingAdmin
	DeadLetters  operations.DeadLetterAdmin
	Operator     inbox.Operator
	Log          inbox.Log
	NATS         *nats.Conn
	Consumers    *jetstream.Consumers
	Traces       trace.TracerProvider
	Meters       metric.MeterProvider
	Propagator   propagation.TextMapPropagator
	Logger       *slog.Logger
}

func adminOptions(parts adminParts) (httpapi.AdminOptions, error) {
	token, open, err := adminToken(parts.Config, parts.Logger)
	return httpapi.AdminOptions{
		Addr: parts.Config.HTTP.AdminAddr, Listener: parts.Listeners.admin(), Token: token, Open: open, AllowedHosts: parts.Config.HTTP.AdminAllowedHosts,
		Checks: parts.Checks, Metrics: parts.Telemetry.Metrics(), Inspector: parts.Inspector, ParkingAdmin: parts.ParkingAdmin,
		Parked: operating.UndecidedParked(parts.ParkingAdmin), DeadLetters: operating.NewDeadLetters(parts.DeadLetters),
		Subscribers: operating.NewSubscribers(operating.SubscriberPorts{
			Operator: parts.Operator, Stream: jetstream.NewSpectator(parts.NATS, parts.Config.Stream.Name, parts.Logger), Lags: parts.Consumers,
			Log: parts.Log,
		}),
		Logger: parts.Logger, TracerProvider: parts.Traces, MeterProvider: parts.Meters, Propagator: parts.Propagator,
	}, err
}

func runNotifier(background background, notifier *jetstream.Notifier) {
	background.run("notifier", notifier.Run)
}

func runSweep(background background, s *ordering.Sweep) {
	background.run("sweep of idempotency keys", s.Run)
}

func runRelay(background background, r *relaying.Relay) { background.run("relay", r.Run) }

// databaseCheck asks whether the database answers.
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

// longWait is how long an open transaction may hold the relay up until readiness reports it.
const longWait = 2 * time.Second

// servingChecks returns the checks of a serving instance. It accepts orders as long as the database answers. Without the broker, or while
// the relay is halted, their events wait in the outbox.
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
			return errors.New("events are parked, because the broker cannot take one of their aggregate: outboxie outbox parked")
		}
		if wait := log.OldestWait(); wait > longWait {
			return fmt.Errorf("events wait for an open transaction that writes the outbox, for %s so far; the log names it",
				wait.Round(time.Second))
		}
		return nil
	}}, streamCheck(r, publisher))
}

// streamCheck reports, for the leader, which settings of the stream limit what it holds.
func streamCheck(r *relaying.Relay, publisher *jetstream.Publisher) httpapi.Check {
	return httpapi.Check{Name: "stream", Probe: func(context.Context) error {
		if findings := publisher.Findings(); r.Status().State == relaying.Leading && len(findings) > 0 {
			return errors.New(strings.Join(findings, "; "))
		}
		return nil
	}}
}
