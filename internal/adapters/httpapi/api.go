// Package httpapi serves the order service over HTTP, and the state of the process on a second, private listener. A program makes an API
// and an Admin from their options; each listens, serves and shuts down.
//
// openapi.yaml is the contract. The types of requests and answers are generated from it. The routes are written by hand, and tests check
// them and their answers against the contract.
package httpapi

import (
	"cmp"
	"log/slog"
	"net"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/contrib/instrumentation/github.com/gin-gonic/gin/otelgin"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

//go:generate go tool -modfile=../../../tools/go.mod oapi-codegen -config oapi-codegen.yaml openapi.yaml

// Options configures the API. Addr, Service and Logger are required. A nil provider or propagator stands for the global one.
type Options struct {
	Addr           string       // port 0 takes a free one
	Listener       net.Listener // returned by Bind, used instead of Addr; nil: none
	Service        orders.Service
	Authenticator  orders.Authenticator // nil: requests need no token, and everybody may do everything
	RateLimit      int                  // requests a second of each principal, or address without a principal; 0: any number
	AllowedHosts   []string             // hosts that requests may name, beside localhost and IP addresses. Empty: any, unless Addr is on loopback
	TrustedOrigins []string             // origins whose pages may change orders, beside the API's own
	CORSOrigins    []string             // origins whose scripts may call the API and read its answers; they are trusted too
	Logger         *slog.Logger
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	Propagator     propagation.TextMapPropagator
	Timeouts       Timeouts
	MaxConnections int    // at a time; 0 is 512
	Drain          *Drain // nil: the process never drains
}

// API is the order service's server.
type API struct{ *Server }

// NewAPI returns the server of openapi.yaml's order operations. It does not listen yet.
func NewAPI(options Options) *API {
	timeouts := options.Timeouts.orDefault()
	engine := newEngine(options.Logger, traced(options.TracerProvider, options.MeterProvider, options.Propagator))
	allowed := newHosts(options.Addr, options.AllowedHosts, onLoopback(options.Addr))
	refused := newRefusals("API", options.Logger, options.MeterProvider, apiRefusals(options)...)
	engine.Use(options.Drain.closeConnections)
	engine.Use(requireHost(allowed, "HTTP_ALLOWED_HOSTS", refused), allowOrigins(options.CORSOrigins))
	engine.Use(requireSameOrigin(slices.Concat(options.TrustedOrigins, options.CORSOrigins), refused))
	engine.Use(authenticate(options.Authenticator, newRateLimits(options.RateLimit), refused))
	engine.Use(readParameters, refuseEarly, newBodies(options.Logger).read, endAfter(timeouts.Handle))
	orderRoutes{options.Service}.serve(engine)
	serveContract(engine)
	serveDocs(engine, apiPage)
	engine.GET("/", func(c *gin.Context) { c.Redirect(http.StatusSeeOther, "/docs") })
	answerHead(engine)
	return &API{newServer(serverOptions{
		name: APIName, addr: options.Addr, bound: options.Listener, maxConnections: cmp.Or(options.MaxConnections, defaultMaxConnections),
		timeouts: timeouts, logger: options.Logger,
	}, engine, func(string) bool { return false })}
}

// apiRefusals returns the kinds of refusals of the API.
func apiRefusals(options Options) []refusal {
	if options.Authenticator == nil {
		return []refusal{refusedHost, refusedOrigin}
	}
	return []refusal{refusedHost, refusedOrigin, refusedAnonymous, refusedBearer}
}

// traced starts a server span for each request that all filters accept. The span is a child of the caller's span. traced also measures how
// long the request takes. A nil provider or propagator stands for the global one.
func traced(
	tp trace.TracerProvider, mp metric.MeterProvider, propagator propagation.TextMapPropagator, filters ...otelgin.Filter,
) gin.HandlerFunc {
	opts := []otelgin.Option{otelgin.WithFilter(filters...)}
	if tp == nil {
		tp = otel.GetTracerProvider()
	}
	opts = append(opts, otelgin.WithTracerProvider(withoutEmptyRoutes(tp)))
	if mp != nil {
		opts = append(opts, otelgin.WithMeterProvider(mp))
	}
	if propagator != nil {
		opts = append(opts, otelgin.WithPropagators(propagator))
	}
	return otelgin.Middleware("", opts...)
}
