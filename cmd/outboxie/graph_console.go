package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/watching"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// access says who may use the admin listener and the console.
type access struct {
	token string
	open  bool
}

func newAccess(c config.Config, logger *slog.Logger) (access, error) {
	token, open, err := adminToken(c, logger)
	return access{token, open}, err
}

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
	return operating.NewSubscribers(operating.SubscriberPorts{
		Operator: parts.Operator, Stream: jetstream.NewStateReader(parts.NATS, parts.Config.Stream.Name, parts.Logger), Lags: parts.Lags,
		Log: parts.Log,
	})
}

func newWatcher(inspector operations.RelayInspector, subscribers operations.SubscriberAdmin, processes operations.ConnectedProcesses) *watching.Watcher {
	return watching.New(watching.Ports{Relay: inspector, Subscribers: subscribers, Processes: processes})
}

func runWatcher(background background, watcher *watching.Watcher) {
	background.run("watcher", watcher.Run)
}

// servedOrders is the order service of a process that serves the API.
type servedOrders struct{ orders.Service }

func serveOrders(service orders.Service) servedOrders { return servedOrders{service} }

// consoleParts are what the console drives.
type consoleParts struct {
	fx.In
	Config      config.Config
	Access      access
	Orders      servedOrders `optional:"true"`
	Inspector   operations.RelayInspector
	Repair      operations.RelayRepair
	Publisher   *jetstream.Publisher
	Parking     operations.ParkingAdmin
	DeadLetters operations.DeadLetterAdmin
	Subscribers operations.SubscriberAdmin
	Watcher     *watching.Watcher
	Effects     operations.EffectReader
	Checks      []httpapi.Check
	Logger      *slog.Logger
}

func newConsole(parts consoleParts) *console.Console {
	c := parts.Config
	options := console.Options{
		Token: parts.Access.token, Open: parts.Access.open, Instance: c.InstanceID, Version: release(),
		Relay: parts.Inspector, Parking: parts.Parking, Parked: operating.UndecidedParked(parts.Parking),
		DeadLetters: parts.DeadLetters, DeadGroups: operating.NewDeadLetters(parts.DeadLetters),
		Subscribers: parts.Subscribers, Watcher: parts.Watcher, Adopt: adoptionPlanner(c.Stream.Name, operating.NewAdopter(parts.Repair, parts.Publisher)),
		Effects: parts.Effects, Checks: consoleChecks(parts.Checks), Logger: parts.Logger,
		HidePayload: c.HTTP.ConsolePayloads == config.HidePayloads, Grant: postgres.OperatorGrant(string(c.Database.URL)),
	}
	if c.Given(config.JaegerURL) {
		options.Traces = traceAddress(string(c.Jaeger.URL))
	}
	if parts.Orders.Service != nil {
		options.Orders = parts.Orders
	}
	for _, setting := range c.Settings() {
		options.Settings = append(options.Settings, console.Setting{Name: string(setting.Name), Value: setting.Value, Source: string(setting.Source)})
	}
	return console.New(options)
}

// traceAddress returns the address of Jaeger for links. It has no credentials and no query, because they may be secret.
func traceAddress(text string) string {
	address, err := url.Parse(text)
	if err != nil {
		return ""
	}
	address.User, address.RawQuery, address.Fragment = nil, "", ""
	return strings.TrimSuffix(address.String(), "/")
}

// adoptionPlanner returns the plans of an adopter in the words of `outboxie outbox adopt`.
func adoptionPlanner(stream string, adopter *operating.Adopter) console.PlanAdoption {
	return func(ctx context.Context, position *outbox.Position, acceptRepeats bool) (console.Adoption, error) {
		plan, err := adopter.Plan(ctx, position)
		if err != nil {
			return console.Adoption{}, withAdoptHint(err)
		}
		plan.AcceptRepeats = acceptRepeats
		var text bytes.Buffer
		if err := describeAdoption(&text, stream, plan); err != nil {
			return console.Adoption{}, err
		}
		return console.Adoption{
			Text: text.String(), Version: plan.Version(),
			Do: func(ctx context.Context) error { return withAdoptHint(adopter.Do(ctx, plan)) },
		}, nil
	}
}

func consoleChecks(checks []httpapi.Check) func(ctx context.Context) []console.Check {
	return func(ctx context.Context) []console.Check {
		shown := make([]console.Check, len(checks))
		for i, err := range httpapi.RunChecks(ctx, checks) {
			shown[i] = console.Check{Name: checks[i].Name, Required: checks[i].Required, Err: err}
		}
		return shown
	}
}
