package main

import (
	"log/slog"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/app/watching"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// subscriberAdminParts are the ports for operating subscribers.
type subscriberAdminParts struct {
	fx.In
	Config   config.Config
	Operator inbox.Operator
	Log      inbox.Log
	NATS     *nats.Conn
	Lags     *jetstream.SubscriberLags
	Logger   *slog.Logger
}

func newSubscriberAdmin(parts subscriberAdminParts) operations.SubscriberAdmin {
	return engine.NewSubscriberAdmin(parts.Config, parts.Operator, parts.Log, parts.NATS, parts.Lags, parts.Logger)
}

func newWatcher(inspector operations.RelayInspector, subscribers operations.SubscriberAdmin, processes operations.ConnectedProcesses) *watching.Watcher {
	return watching.New(watching.Ports{Relay: inspector, Subscribers: subscribers, Processes: processes})
}

func runWatcher(background background, watcher *watching.Watcher) {
	background.run("watcher", watcher.Run)
}

// operatingParts are what the admin listener and its console drive.
type operatingParts struct {
	fx.In
	Config      config.Config
	Access      access
	Listeners   listenerParts
	Telemetry   *telemetry.Telemetry
	Inspector   operations.RelayInspector
	Repair      operations.RelayRepair
	Publisher   *jetstream.Publisher
	Parking     operations.ParkingAdmin
	DeadLetters operations.DeadLetterAdmin
	Subscribers operations.SubscriberAdmin
	Watcher     *watching.Watcher
	Effects     operations.EffectReader
	Checks      []httpapi.Check
	Relay       *relaying.Relay `optional:"true"`
	Traces      trace.TracerProvider
	Meters      metric.MeterProvider
	Propagator  propagation.TextMapPropagator
	Logger      *slog.Logger
}

func newOperating(parts operatingParts) engine.Operating {
	operated := engine.Operating{
		Config: parts.Config, Version: release(), Listener: parts.Listeners.admin(),
		Token: parts.Access.token, ReadToken: parts.Access.readToken, Issuer: parts.Access.issuer, Open: parts.Access.open,
		Inspector: parts.Inspector, Repair: parts.Repair, Publisher: parts.Publisher, Parking: parts.Parking, DeadLetters: parts.DeadLetters,
		Subscribers: parts.Subscribers, Effects: parts.Effects, Checks: parts.Checks, Metrics: parts.Telemetry.Metrics(),
		Watcher: parts.Watcher,
		Logger:  parts.Logger, Traces: parts.Traces, Meters: parts.Meters, Propagator: parts.Propagator,
	}
	if stream := parts.Config.Stream.Name; parts.Relay != nil && parts.Config.Roles.Relay {
		operated.Relays = func() []httpapi.RelayState {
			return []httpapi.RelayState{engine.ShownRelay(stream, stream, parts.Relay)}
		}
	}
	return operated
}

// adminOptions returns the options of the admin listener.
func adminOptions(c config.Config, o engine.Operating, d *draining, parts pagesParts) httpapi.AdminOptions {
	options := o.Admin(newPages(c, o, parts))
	options.Drain = &d.http
	return options
}
