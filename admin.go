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
	Token string
	// ReadToken is what operators send who may only read: status, metrics, events and the pages of the console, and no profile. It must not be
	// Token. Empty: the token in ADMIN_READ_TOKEN or ADMIN_READ_TOKEN_FILE counts, if there is one.
	ReadToken    string
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
	if len(options.AllowedHosts) > 0 {
		c.HTTP.AdminAllowedHosts = options.AllowedHosts
	}
	if options.HidePayloads {
		c.HTTP.ConsolePayloads = config.HidePayloads
	}
	token, readToken, open, err := options.tokens(c)
	if err != nil {
		return nil, err
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
		Config: c, Version: version(), Token: token, ReadToken: readToken, Open: open, Inspector: admin, Repair: admin, Publisher: publisher,
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

// tokens returns the tokens of the handler, and whether nobody needs one.
func (o AdminOptions) tokens(c config.Config) (token, readToken string, open bool, err error) {
	token, open = o.Token, o.Open || c.HTTP.AdminToken == config.Off
	switch {
	case o.Token != "" && o.Open:
		return "", "", false, errors.New("the admin handler has both a token and Open: set one of them")
	case o.ReadToken != "" && open:
		return "", "", false, errors.New("the admin handler has a ReadToken, and nobody needs a token: set Token, and neither Open nor ADMIN_TOKEN=off")
	case open && c.HTTP.AdminReadToken != "":
		return "", "", false, errors.New("ADMIN_READ_TOKEN is set, and nobody needs a token: leave it out, or do not set Open or ADMIN_TOKEN=off")
	}
	if token == "" && !open {
		token = string(c.HTTP.AdminToken)
	}
	if o.ReadToken != "" {
		c.HTTP.AdminReadToken, c.HTTP.AdminReadFile = config.Secret(o.ReadToken), ""
	}
	if token != "" && !config.IsToken(token) || o.ReadToken != "" && !config.IsToken(o.ReadToken) {
		return "", "", false, errors.New("the token of the admin handler must be " + config.AcceptedToken)
	}
	if token == "" && !open {
		return "", "", false, errors.New("the admin handler needs a token: set AdminOptions.Token or ADMIN_TOKEN, or AdminOptions.Open if nobody else reaches it")
	}
	read, err := c.ReadOnlyToken(config.Secret(token))
	return token, string(read), open, err
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
