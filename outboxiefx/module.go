// Package outboxiefx runs an outboxie.Engine in an application of fx. Module provides *outboxie.Engine and *outboxie.Outbox, and runs the engine
// from the start of the application to its stop. Subscriber declares a subscriber from any module of the application:
//
//	fx.New(
//		outboxiefx.Module(func(b *outboxie.Builder) {
//			b.Environment(os.Environ()).Stream("INVOICES", "invoices.>").Source("/acme/billing")
//		}, outboxiefx.Migrate(), outboxiefx.Relay()),
//		outboxiefx.Subscriber("balances", newBalances, outboxie.SubscriberOptions{}),
//	).Run()
//
// Nothing here is needed to use package outboxie, which knows no fx.
package outboxiefx

import (
	"log/slog"
	"strconv"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie"
)

// group is the fx group of the subscribers.
const group = `group:"outboxie.subscribers"`

// Option changes what Module runs.
type Option func(*settings)

type settings struct {
	migrate, relay bool
	admin          *admin
}

type admin struct {
	address string
	options outboxie.AdminOptions
}

// Migrate brings the engine's tables up to date before the engine runs. The role of the database needs the right to create tables.
func Migrate() Option { return func(s *settings) { s.migrate = true } }

// Relay makes the process take part in the relay.
func Relay() Option { return func(s *settings) { s.relay = true } }

// Admin serves Engine.Admin at an address such as 127.0.0.1:8090.
func Admin(address string, options outboxie.AdminOptions) Option {
	return func(s *settings) { s.admin = &admin{address, options} }
}

// Module provides *outboxie.Engine and *outboxie.Outbox, declares the parts that the options and Subscriber name, and runs them.
//
// configure sets up the builder. If the configuration depends on values of the application, decorate *outboxie.Builder with fx.Decorate
// instead; configure may be nil then. The builder begins with the application's *slog.Logger, trace.TracerProvider and metric.MeterProvider, if
// it has them.
//
// The start of the application waits for neither database nor broker: the engine migrates and runs in the background. If it cannot go on, it
// logs why and shuts the application down with exit code 1, and the stop of the application returns the reason. The stop waits until the
// handlers have returned. Parts of the application that use the Outbox stop before the engine.
func Module(configure func(*outboxie.Builder), options ...Option) fx.Option {
	var s settings
	for _, option := range options {
		option(&s)
	}
	return fx.Module("outboxie",
		fx.Provide(
			func(in telemetry) *outboxie.Builder {
				b := outboxie.Configure().Logger(in.Logger).Tracing(in.Traces).Metrics(in.Meters)
				if configure != nil {
					configure(b)
				}
				return b
			},
			newEngine,
			(*outboxie.Engine).Outbox,
		),
		fx.Supply(s, fx.Private),
		fx.Invoke(run),
	)
}

// telemetry has what the builder takes from the application.
type telemetry struct {
	fx.In

	Logger *slog.Logger         `optional:"true"`
	Traces trace.TracerProvider `optional:"true"`
	Meters metric.MeterProvider `optional:"true"`
}

// newEngine returns an engine that is closed after everything that uses it has stopped.
func newEngine(b *outboxie.Builder, lifecycle fx.Lifecycle) (*outboxie.Engine, error) {
	engine, err := b.Build()
	if err != nil {
		return nil, err
	}
	lifecycle.Append(fx.StopHook(engine.Close))
	return engine, nil
}

// subscriber is a declaration that Subscriber adds to the group.
type subscriber struct {
	id      string
	handler outboxie.AnyHandler
	options outboxie.SubscriberOptions
}

// Subscriber declares a subscriber, as Engine.Subscriber does. constructor is a constructor for fx that returns a *outboxie.Handler or a
// *outboxie.ExternalHandler, and perhaps an error. Its parameters are values of the application, or of the fx.Module that contains Subscriber.
func Subscriber(id string, constructor any, options outboxie.SubscriberOptions) fx.Option {
	name := "name:" + strconv.Quote("outboxie.subscriber."+id)
	return fx.Provide(
		fx.Annotate(constructor, fx.As(new(outboxie.AnyHandler)), fx.ResultTags(name)),
		fx.Annotate(func(handler outboxie.AnyHandler) subscriber { return subscriber{id, handler, options} },
			fx.ParamTags(name), fx.ResultTags(group)),
	)
}
