package httpapi

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	runtimepprof "runtime/pprof"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

const probeTimeout = 2 * time.Second

// Check is one check of readiness. If a required check fails, the process cannot serve requests. If another one fails, the process serves
// them and is degraded.
type Check struct {
	Name     string
	Required bool
	// Probe returns nil, or an error that says why the check fails. Several calls may run at once. A call returns soon after ctx ends.
	Probe func(ctx context.Context) error
}

// AdminOptions configures the admin listener. All requests except probes need a token, unless Open is set. Checks, AllowedHosts and Timeouts are
// optional. A nil provider or propagator stands for the global one.
type AdminOptions struct {
	Addr           string                   // port 0 takes a free one
	Listener       net.Listener             // returned by Bind, used instead of Addr; nil: none
	Token          string                   // allows every request; empty: nobody has such a token
	ReadToken      string                   // allows requests that only read, except for profiles; empty: nobody has such a token
	Issuer         operations.Authenticator // accepts access tokens; nil: they are not accepted
	Open           bool                     // no request needs a token
	AllowedHosts   []string                 // as for the API. An Open listener checks the host too
	Checks         []Check
	Metrics        http.Handler              // GET /metrics; nil: there is no such route
	Relays         func() []RelayState       // the relays of the process; nil: it has none
	Inspector      operations.RelayInspector // nil: there are no routes for the outbox
	ParkingAdmin   operations.ParkingAdmin
	Parked         operations.UndecidedEventsAdmin // the parking lot; nil: there are no routes for its groups
	DeadLetters    operations.DeadLetterFinder     // nil: there are no routes for dead letters
	Subscribers    operations.SubscriberAdmin      // nil: there are no such routes
	Console        Console                         // nil: there are no pages
	Logger         *slog.Logger
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider // counts refusals; requests are not measured
	Propagator     propagation.TextMapPropagator
	Timeouts       Timeouts
	Drain          *Drain // nil: the process never drains
}

// Console serves pages below ConsolePath. It asks for a token itself, and refuses foreign pages itself. It logs who signs in.
type Console interface {
	http.Handler
	// Operator returns who sends a request. Without a session that is nobody: the zero Operator.
	Operator(r *http.Request) operations.Operator
	// Close ends the requests that would go on for ever.
	Close()
}

// ConsolePath is where the console is.
const ConsolePath = "/console"

const profilesPath = "/debug/pprof"

// Admin is the server for operators: probes, metrics, relay and subscribers, profiles.
type Admin struct{ *Server }

// NewAdmin returns the admin server. It does not listen yet.
func NewAdmin(options AdminOptions) *Admin {
	engine := newEngine(options.Logger, traced(options.TracerProvider, nil, options.Propagator, needsToken, notMetrics))
	allowed := newHosts(options.Addr, options.AllowedHosts, options.Open || onLoopback(options.Addr))
	refused := newRefusals("admin listener", options.Logger, options.MeterProvider, refusedHost, refusedOrigin, refusedNoToken, refusedToken, refusedScope)
	who := newAccess(options)
	engine.Use(requireHost(allowed, "ADMIN_ALLOWED_HOSTS", refused), requireOwnPage(refused), who.require(refused), readParameters,
		auditOperators(options.Open, options.Console, options.Logger))
	probes := &probes{checks: options.Checks, access: who, refused: refused, drain: options.Drain, logger: options.Logger, failed: make(map[string]bool)}
	engine.GET("/healthz", handle(func(c *gin.Context) error { return answer(c, http.StatusOK, Health{Status: HealthStatusOk}) }))
	engine.GET("/readyz", handle(probes.ready))
	if options.Metrics != nil {
		engine.GET("/metrics", gin.WrapH(options.Metrics))
	}
	bodies := newBodies(options.Logger)
	engine.GET("/relays", handle(relaysRoute(options.Relays)))
	if options.Inspector != nil {
		outboxRoutes{options.Inspector, options.ParkingAdmin, options.Subscribers, bodies, options.Logger}.serve(engine)
	}
	undecidedRoutes{options.Parked, options.DeadLetters, bodies}.serve(engine)
	if options.Subscribers != nil {
		subscriberRoutes{options.Subscribers, bodies}.serve(engine)
	}
	engine.GET(profilesPath+"/*profile", profile)
	serveDocs(engine, adminPage)
	answerHead(engine)
	if options.Console != nil {
		serveConsole(engine, options.Console)
	}
	admin := &Admin{newServer(serverOptions{
		name: AdminName, addr: options.Addr, bound: options.Listener, maxConnections: maxAdminConnections,
		console: options.Console != nil, timeouts: options.Timeouts.orDefault(), logger: options.Logger,
	}, engine, compressesItself)}
	if options.Console != nil {
		admin.http.RegisterOnShutdown(options.Console.Close)
	}
	return admin
}

func serveConsole(engine *gin.Engine, console Console) {
	engine.Any(ConsolePath, gin.WrapH(console))
	engine.Any(ConsolePath+"/*page", gin.WrapH(console))
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		engine.Handle(method, "/", func(c *gin.Context) { c.Redirect(http.StatusSeeOther, ConsolePath) })
	}
}

// compressesItself reports whether the answers of a path are not compressed by the server: the console sends events one by one, and metrics and
// profiles have a compression of their own.
func compressesItself(path string) bool {
	return path == "/metrics" || path == ConsolePath || strings.HasPrefix(path, ConsolePath+"/") || strings.HasPrefix(path, "/debug/")
}

func notMetrics(r *http.Request) bool { return r.URL.Path != "/metrics" }

// profile serves net/http/pprof, which writes its own errors.
func profile(c *gin.Context) {
	switch name := strings.TrimPrefix(c.Param("profile"), "/"); name {
	case "cmdline":
		pprof.Cmdline(c.Writer, c.Request)
	case "profile":
		pprof.Profile(c.Writer, c.Request)
	case "symbol":
		pprof.Symbol(c.Writer, c.Request)
	case "trace":
		pprof.Trace(c.Writer, c.Request)
	default:
		if name != "" && runtimepprof.Lookup(name) == nil {
			refuse(c, errRoute)
			return
		}
		pprof.Index(c.Writer, c.Request)
	}
}
