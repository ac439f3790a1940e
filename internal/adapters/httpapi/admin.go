package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	runtimepprof "runtime/pprof"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/ports/operating"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

const probeTimeout = 2 * time.Second

// Check is one thing that readiness asks. When a required one fails, requests cannot be served; when another one does,
// they still are, and the process is degraded.
type Check struct {
	Name     string
	Required bool
	// Probe returns nil when all is well, else why not. It may run several times at once, and returns soon after ctx ends.
	Probe func(ctx context.Context) error
}

// AdminOptions is what the admin listener needs. What is nil of OpenTelemetry is taken from its globals, and Checks, Token and
// Timeouts may be left out.
type AdminOptions struct {
	Addr           string       // port 0 takes a free one
	Listener       net.Listener // what Bind returned, which is used instead of Addr; nil: none
	Token          string       // that all but the probes have to be asked with; empty: none
	Checks         []Check
	Metrics        http.Handler // GET /metrics; nil: there is no such route
	Desk           operating.Desk
	Attendant      ports.Attendant
	Logger         *slog.Logger
	TracerProvider trace.TracerProvider
	Propagator     propagation.TextMapPropagator
	Timeouts       Timeouts
}

// Admin is the server for those who run the process: probes, metrics, what the relay does, profiles.
type Admin struct{ *Server }

// NewAdmin makes the admin server. It does not listen yet.
func NewAdmin(options AdminOptions) *Admin {
	engine := newEngine(options.Logger, traced(options.TracerProvider, nil, options.Propagator, notProbe, notMetrics))
	engine.Use(requireToken(options.Token), readParameters)
	engine.GET("/healthz", func(c *gin.Context) { c.JSON(http.StatusOK, Health{Status: HealthStatusOk}) })
	engine.GET("/readyz", func(c *gin.Context) {
		report := readiness(c.Request.Context(), options.Checks)
		status := http.StatusOK
		if report.Status == ReadinessStatusUnavailable {
			status = http.StatusServiceUnavailable
		}
		c.JSON(status, report)
	})
	if options.Metrics != nil {
		engine.GET("/metrics", gin.WrapH(options.Metrics))
	}
	operators{options.Desk, options.Attendant, newBodies(options.Logger)}.serve(engine)
	engine.GET("/debug/pprof/*profile", profile)
	answerHead(engine)
	return &Admin{newServer(serverOptions{
		name: AdminName, addr: options.Addr, bound: options.Listener, most: adminConnections,
		timeouts: options.Timeouts.orDefault(), logger: options.Logger,
	}, engine)}
}

// notProbe tells what is neither traced nor open to everybody from what asks how the process is, every few seconds.
func notProbe(r *http.Request) bool { return r.URL.Path != "/healthz" && r.URL.Path != "/readyz" }

func notMetrics(r *http.Request) bool { return r.URL.Path != "/metrics" }

// requireToken lets a request through that has the token, if there is one. It guards whatever the listener serves but for
// the probes.
func requireToken(token string) gin.HandlerFunc {
	wanted := sha256.Sum256([]byte(token))
	return func(c *gin.Context) {
		if token == "" || !notProbe(c.Request) {
			return
		}
		given, isBearer := strings.CutPrefix(c.GetHeader("Authorization"), "Bearer ")
		sent := sha256.Sum256([]byte(given)) // of the same length as wanted, so that the comparison tells nothing
		if subtle.ConstantTimeCompare(sent[:], wanted[:]) != 1 || !isBearer {
			c.Header("WWW-Authenticate", `Bearer realm="outboxie admin"`)
			refuse(c, errToken)
		}
	}
}

// profile answers as net/http/pprof does, which writes its own errors.
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

// readiness asks all checks at once. One that does not answer within two seconds has failed.
func readiness(ctx context.Context, checks []Check) Readiness {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	answers := make([]chan error, len(checks))
	for i, check := range checks {
		answers[i] = make(chan error, 1)
		go func() { answers[i] <- probe(ctx, check) }()
	}
	report := Readiness{Status: ReadinessStatusReady, Checks: make([]CheckResult, len(checks))}
	for i, check := range checks {
		report.Checks[i] = CheckResult{Name: check.Name, Status: CheckResultStatusOk}
		if err := await(ctx, answers[i]); err != nil {
			reason := err.Error()
			report.Checks[i].Status, report.Checks[i].Reason = CheckResultStatusFailed, &reason
			switch {
			case check.Required:
				report.Status = ReadinessStatusUnavailable
			case report.Status == ReadinessStatusReady:
				report.Status = ReadinessStatusDegraded
			}
		}
	}
	return report
}

// await prefers an answer to the end of ctx.
func await(ctx context.Context, answer <-chan error) error {
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-answer:
		return err
	default:
		return fmt.Errorf("no answer within %s", probeTimeout)
	}
}

func probe(ctx context.Context, check Check) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the check panicked: %v", reason)
		}
	}()
	return check.Probe(ctx)
}
