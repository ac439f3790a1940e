package telemetry

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// complaintEvery is the least time between two log lines about telemetry. complaintSize is the largest quoted part of an error, because an
// error may contain the whole answer of a server.
const (
	complaintEvery = time.Minute
	complaintSize  = 300
)

// complaints logs errors inside OpenTelemetry: the first one at once, then at most one line a minute. So a collector that is down does not
// fill the log.
type complaints struct {
	logger *slog.Logger

	mu          sync.Mutex
	silentUntil time.Time
	suppressed  int
}

// handleErrors makes OpenTelemetry log its errors to logger. It replaces an earlier setting.
func handleErrors(logger *slog.Logger) {
	c := &complaints{logger: logger}
	otel.SetErrorHandler(c)
	otel.SetLogger(logr.FromSlogHandler(settingsLog{c}))
}

// Handle is called by OpenTelemetry, from any goroutine.
func (c *complaints) Handle(err error) {
	if err != nil {
		c.complain(err.Error())
	}
}

func (c *complaints) complain(problem string) {
	suppressed, due := c.due()
	if !due {
		return
	}
	if len(problem) > complaintSize {
		problem = strings.ToValidUTF8(problem[:complaintSize], "") + "…"
	}
	c.logger.Warn("telemetry has a problem; the program goes on", "error", problem, "suppressed", suppressed)
}

// due reports whether a line may be logged, and how many errors were not logged since the last line.
func (c *complaints) due() (suppressed int, due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Before(c.silentUntil) {
		c.suppressed++
		return 0, false
	}
	suppressed, c.suppressed, c.silentUntil = c.suppressed, 0, now.Add(complaintEvery)
	return suppressed, true
}

// settingsLog is OpenTelemetry's internal log. Its errors are about OTEL_* variables that cannot be parsed. settingsLog passes on only the
// message of an error, because the values may be secrets (OTEL_EXPORTER_OTLP_HEADERS). It drops everything else.
type settingsLog struct{ to *complaints }

// Enabled lets errors pass.
func (settingsLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

// Handle passes the message on.
func (s settingsLog) Handle(_ context.Context, record slog.Record) error {
	s.to.complain("OTEL_* environment: cannot " + record.Message)
	return nil
}

// WithAttrs drops the attributes.
func (s settingsLog) WithAttrs([]slog.Attr) slog.Handler { return s }

// WithGroup drops the group.
func (s settingsLog) WithGroup(string) slog.Handler { return s }
