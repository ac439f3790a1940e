package httpapi

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// refusal is the reason why a request was refused before a handler got it.
type refusal string

const (
	refusedHost    refusal = "host"
	refusedOrigin  refusal = "origin"
	refusedNoToken refusal = "token_missing"
	refusedToken   refusal = "token_wrong"
	refusedScope   refusal = "token_scope"

	refusedAnonymous refusal = "bearer_missing"
	refusedBearer    refusal = "bearer_wrong"
)

// message returns the log message of a refusal.
func (r refusal) message() string {
	return map[refusal]string{
		refusedHost:    "refused a request for a host that is not allowed",
		refusedOrigin:  "refused a request from a page of another origin",
		refusedNoToken: "refused a request without the admin token",
		refusedToken:   "a request had a wrong admin token",
		refusedScope:   "refused a request whose admin token does not allow it",

		refusedAnonymous: "refused a request about orders without a token",
		refusedBearer:    "refused a request about orders with a token that is not accepted",
	}[r]
}

// refusalInterval is the least time between two log lines about one kind of refusal. Strangers decide how many such requests come, so the
// log needs a limit.
const refusalInterval = time.Minute

// maxLogged is how many bytes of a client's text a log line repeats.
const maxLogged = 200

// refusals counts and logs the requests that a listener refuses. It logs the first one of each kind at once, then at most one of each kind
// a minute.
type refusals struct {
	server  string
	logger  *slog.Logger
	counter metric.Int64Counter

	mu         sync.Mutex
	quietUntil map[refusal]time.Time
	suppressed map[refusal]int
}

func newRefusals(server string, logger *slog.Logger, mp metric.MeterProvider, kinds ...refusal) *refusals {
	if mp == nil {
		mp = otel.GetMeterProvider()
	}
	counter, err := mp.Meter("github.com/assylzhan-a/outboxie/internal/adapters/httpapi").Int64Counter("outboxie.http.refusals",
		metric.WithDescription("Requests that were refused for their host, their origin or their token."))
	if err != nil {
		otel.Handle(err) // the counter can be used in any case
	}
	r := &refusals{
		server: server, logger: logger, counter: counter,
		quietUntil: make(map[refusal]time.Time), suppressed: make(map[refusal]int),
	}
	for _, kind := range kinds {
		r.count(context.Background(), kind, 0) // shows 0, so a scrape sees the first refusal as an increase
	}
	return r
}

func (r *refusals) count(ctx context.Context, kind refusal, by int64) {
	r.counter.Add(ctx, by, metric.WithAttributeSet(attribute.NewSet(attribute.String("outboxie.refusal", string(kind)))))
}

// note counts a refused request. If a log line is due, note logs who sent the request, but not the token.
func (r *refusals) note(c *gin.Context, kind refusal) {
	ctx := c.Request.Context()
	r.count(ctx, kind, 1)
	suppressed, due := r.due(kind)
	if !due {
		return
	}
	r.logger.WarnContext(ctx, kind.message(), "server", r.server, "remote", c.Request.RemoteAddr, "host", cut(c.Request.Host),
		"origin", cut(c.GetHeader("Origin")), "method", c.Request.Method, "path", cut(c.Request.URL.Path), "suppressed", suppressed)
}

// due reports whether a line about this kind may be logged, and how many refusals were not logged since the last line.
func (r *refusals) due(kind refusal) (suppressed int, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Before(r.quietUntil[kind]) {
		r.suppressed[kind]++
		return 0, false
	}
	suppressed = r.suppressed[kind]
	r.suppressed[kind], r.quietUntil[kind] = 0, now.Add(refusalInterval)
	return suppressed, true
}

// cut shortens a text for the log. It keeps no part of a character that the limit cuts: an exporter drops a whole batch of log lines if one
// text is not UTF-8.
func cut(text string) string {
	if len(text) > maxLogged {
		return strings.ToValidUTF8(text[:maxLogged], "") + "…"
	}
	return text
}
