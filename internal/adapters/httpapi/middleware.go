package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"
)

// newEngine is a gin engine that answers everything that goes wrong with a problem, and logs through logger only. Tracing,
// if any, goes around all the rest.
func newEngine(logger *slog.Logger, tracing ...gin.HandlerFunc) *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	_ = engine.SetTrustedProxies(nil) // cannot fail; a client is the peer, not who it says it is
	engine.Use(tracing...)
	engine.Use(setTraceID, logAccess(logger), recoverPanic(logger), limitHeaders)
	engine.NoRoute(func(c *gin.Context) { refuse(c, errRoute) })
	engine.NoMethod(func(c *gin.Context) { refuse(c, errMethod) })
	return engine
}

// answerHead makes every GET route of engine answer HEAD as well. Middleware of single routes is left out, so what guards
// anything belongs to the engine.
func answerHead(engine *gin.Engine) {
	for _, route := range engine.Routes() {
		if route.Method == http.MethodGet {
			engine.HEAD(route.Path, route.HandlerFunc)
		}
	}
}

func traceID(c *gin.Context) string {
	if span := trace.SpanContextFromContext(c.Request.Context()); span.HasTraceID() {
		return span.TraceID().String()
	}
	return ""
}

// tellTrace answers with the trace id of the request's span.
func setTraceID(c *gin.Context) {
	if id := traceID(c); id != "" {
		c.Header("Trace-Id", id)
	}
}

// longestHeaders is what a request's headers may take, each with headerCosts more than its text, as HTTP/2 counts: many short
// ones need far more memory than their text. The server itself, which adds 4 KiB, cuts off what takes more, before
// anybody could answer it with a problem.
const (
	maxHeaders     = 16 << 10
	cutOffHeaders  = maxHeaders
	headerOverhead = 32
)

// limitHeaders lets a request through whose headers are not too large, and tells browsers not to guess what the answer is.
func limitHeaders(c *gin.Context) {
	c.Header("X-Content-Type-Options", "nosniff")
	size := len(c.Request.RequestURI)
	for name, values := range c.Request.Header {
		for _, value := range values {
			size += len(name) + len(value) + headerOverhead
		}
	}
	if size > maxHeaders {
		refuse(c, errHeaders)
	}
}

// logAccess logs one line for each request, with the reason if the failure is ours: a bug as an error, what is
// unavailable as a warning, everything else for debugging only. Overload is logged where it is noticed, and less often.
func logAccess(logger *slog.Logger) gin.HandlerFunc {
	return func(c *gin.Context) {
		start := time.Now()
		c.Next()
		level, status, last := slog.LevelDebug, c.Writer.Status(), c.Errors.Last()
		switch {
		case status == http.StatusInternalServerError:
			level = slog.LevelError
		case status > http.StatusInternalServerError && (last == nil || !errors.Is(last.Err, errOverload)):
			level = slog.LevelWarn
		}
		attrs := []slog.Attr{
			slog.String("method", c.Request.Method),
			slog.String("path", c.Request.URL.Path),
			slog.Int("status", status),
			slog.Duration("took", time.Since(start)),
		}
		if last != nil {
			attrs = append(attrs, slog.String("error", last.Error()))
		}
		logger.LogAttrs(c.Request.Context(), level, "answered a request", attrs...)
	}
}

// recoverPanic answers a panic as the bug it is. An answer that was begun already is cut off instead, so that the client
// cannot take it for a whole one.
func recoverPanic(logger *slog.Logger) gin.HandlerFunc {
	return func(c *gin.Context) {
		defer func() {
			reason := recover()
			if reason == nil {
				return
			}
			logger.ErrorContext(c.Request.Context(), "a request handler panicked",
				"panic", reason, "method", c.Request.Method, "path", c.Request.URL.Path, "stack", string(debug.Stack()))
			if c.Writer.Written() {
				panic(http.ErrAbortHandler)
			}
			refuse(c, errBug.With("panic: %v", reason))
		}()
		c.Next()
	}
}

// endAfter ends the request's context after limit, for the handlers behind it.
func endAfter(limit time.Duration) gin.HandlerFunc {
	return func(c *gin.Context) {
		request := c.Request
		ctx, cancel := context.WithTimeout(request.Context(), limit)
		defer func() {
			cancel()
			c.Request = request // or else a panic would look like a client that went away
		}()
		c.Request = request.WithContext(ctx)
		c.Next()
	}
}
