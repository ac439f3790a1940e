package outboxie

import (
	"errors"
	"net/http"
	"runtime/debug"

	"go.opentelemetry.io/otel/propagation"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/watching"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
)

// AdminOptions configure Admin.
type AdminOptions struct {
	// Token is what operators send: Authorization: Bearer TOKEN, or on the sign-in page of the console. It has 16 characters or more. Empty: the
	// token in ADMIN_TOKEN counts.
	Token        string
	Open         bool         // no request needs a token: only for an address that nobody else reaches
	AllowedHosts []string     // host names that requests may name, beside localhost and IP addresses; nil: those in ADMIN_ALLOWED_HOSTS
	Metrics      http.Handler // GET /metrics; nil: there is no such route
	HidePayloads bool         // the console never shows a payload
}

// Admin returns a handler with /healthz, /readyz, /metrics, the operators' API and the console at /console. Its addresses begin at the root, so
// give it a listener of its own. It works while Run runs. Declare it once, after every other part: readiness shows what was declared.
func (e *Engine) Admin(options AdminOptions) (http.Handler, error) {
	var handler http.Handler
	err := e.declare(func() (err error) {
		handler, err = e.newAdmin(options)
		e.admin = err == nil
		return err
	})
	return handler, err
}

func (e *Engine) newAdmin(options AdminOptions) (http.Handler, error) {
	c := e.config
	if options.Token != "" && options.Open {
		return nil, errors.New("the admin handler has both a token and Open: set one of them")
	}
	if len(options.AllowedHosts) > 0 {
		c.HTTP.AdminAllowedHosts = options.AllowedHosts
	}
	if options.HidePayloads {
		c.HTTP.ConsolePayloads = config.HidePayloads
	}
	token := options.Token
	if token == "" && c.HTTP.AdminToken != config.Off {
		token = string(c.HTTP.AdminToken)
	}
	open := options.Open || c.HTTP.AdminToken == config.Off
	if token != "" && !config.IsToken(token) {
		return nil, errors.New("the token of the admin handler must be " + config.AcceptedToken)
	}
	if token == "" && !open {
		return nil, errors.New("the admin handler needs a token: set AdminOptions.Token or ADMIN_TOKEN, or AdminOptions.Open if nobody else reaches it")
	}
	lags, err := jetstream.NewSubscriberLags(e.nats, c.Stream.Name, c.Stream.Subjects)
	if err != nil {
		return nil, err
	}
	publisher, err := jetstream.NewPublisher(e.nats, engine.Publisher(c, e.logger))
	if err != nil {
		return nil, err
	}
	name := engine.RelayName(c)
	admin := postgres.NewRelayAdmin(e.db, name.Name, name.Stream)
	store := postgres.NewInbox(e.db, engine.Inbox(c))
	subscribers := engine.NewSubscriberAdmin(c, postgres.NewOperator(e.db), store, e.nats, lags, e.logger)
	watcher := watching.New(watching.Ports{Relay: admin, Subscribers: subscribers, Processes: postgres.NewProcesses(e.db)})
	parts := engine.Operating{
		Config: c, Version: version(), Token: token, Open: open, Inspector: admin, Repair: admin, Publisher: publisher,
		Parking: postgres.NewParking(e.db, name.Name), DeadLetters: store, Subscribers: subscribers, Effects: postgres.NewEffectReader(e.db),
		Watcher: watcher, Checks: e.checks, Metrics: options.Metrics, Logger: e.logger, Traces: e.traces, Meters: e.meters,
		Propagator: propagation.TraceContext{},
	}
	if e.relay != nil {
		parts.Relays = func() []httpapi.RelayState {
			return []httpapi.RelayState{engine.ShownRelay(c.Stream.Name, c.Stream.Name, e.relay.relay)}
		}
	}
	pages := console.New(parts.Console())
	e.closers = append(e.closers, pages.Close)
	e.loops = append(e.loops, loop{name: "watcher", run: watcher.Run})
	return httpapi.NewAdmin(parts.Admin(pages)).Handler(), nil
}

// version returns the version of this module in the program.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == "github.com/assylzhan-a/outboxie" {
				return dependency.Version
			}
		}
	}
	return "(devel)"
}
