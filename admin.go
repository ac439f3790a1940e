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
	// Token is what operators send: Authorization: Bearer TOKEN, or on the sign-in page of the console. Empty: the one in ADMIN_TOKEN, which must be
	// set then. Open says that no request needs a token.
	Token        string
	Open         bool
	AllowedHosts []string     // host names that requests may name, beside localhost and IP addresses
	Metrics      http.Handler // GET /metrics; nil: there is no such route
	HidePayloads bool         // the console never shows a payload
}

// Admin returns a handler with /healthz, /readyz, /metrics, the operators' API and the console at /console. Its addresses begin at the root, so give
// it a listener of its own. Run must run, and every part must be declared before Admin: readiness shows what was declared. Declare it once.
func (e *Engine) Admin(options AdminOptions) (http.Handler, error) {
	c := e.config
	c.HTTP.AdminAllowedHosts = options.AllowedHosts
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
	pages := console.New(parts.Console())
	e.closers = append(e.closers, pages.Close)
	e.loops = append(e.loops, loop{"watcher", watcher.Run})
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
