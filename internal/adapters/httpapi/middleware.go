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

// newEngine returns a gin engine that answers every error with a problem, and logs through logger only. The tracing handlers run first.
func newEngine(logger *slog.Logger, tracing ...gin.HandlerFunc) *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	_ = engine.SetTrustedProxies(nil) // cannot fail. The client's address is the peer's, whatever the headers say
	engine.Use(tracing...)
	engine.Use(setTraceID, logAccess(logger), recoverPanic(logger), limitHeaders)
	engine.NoRoute(refuseRoute(engine))
	engine.NoMethod(func(c *gin.Context) { refuse(c, errMethod) })
	return engine
}

// handle makes a handler of a function that answers a request. If the function returns an error, the answer is that error.
func handle(serve func(c *gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := serve(c); err != nil {
			refuse(c, err)
		}
	}
}

// respond answers with a JSON body, or returns err if it is not nil.
func respond(c *gin.Context, body any, err error) error {
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, body)
}

// answer answers with a JSON body. The media type has no charset, because JSON is always UTF-8 (RFC 8259, section 8.1).
func answer(c *gin.Context, status int, body any) error {
	c.Header("Content-Type", "application/json")
	c.JSON(status, body)
	return nil
}

// answerHead makes every GET route of engine answer HEAD too. HEAD skips the middleware of a single route, so every check belongs to the
// engine.
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

// setTraceID sets a header with the trace id of the request's span.
func setTraceID(c *gin.Context) {
	if id := traceID(c); id != "" {
		c.Header("Trace-Id", id)
	}
}

// maxHeaders bounds the headers of a request. Each header counts its text and headerOverhead, as in HTTP/2, because many short headers need
// far more memory than their text. If the headers are 4 KiB larger still, net/http itself refuses the request, without a problem document.
const (
	maxHeaders     = 16 << 10
	cutOffHeaders  = maxHeaders
	headerOverhead = 32
)

// limitHeaders refuses a request whose headers are too large. It tells browsers not to guess the type of the answer.
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

// logAccess logs one line for each request. A bug is an error and unavailability is a warning, both with the reason. Every other request is
// a debug line. Overload is a debug line too: the code that detects it logs a warning, less often.
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

// recoverPanic answers a panic with an internal problem. If the answer has begun already, recoverPanic cuts it off, so the client sees that
// it is not complete.
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

// endAfter ends the request's context after limit, for the handlers that run after it.
func endAfter(limit time.Duration) gin.HandlerFunc {
	return func(c *gin.Context) {
		request := c.Request
		ctx, cancel := context.WithTimeout(request.Context(), limit)
		defer func() {
			cancel()
			c.Request = request // with the cancelled context, a panic would look like a client that went away
		}()
		c.Request = request.WithContext(ctx)
		c.Next()
	}
}
