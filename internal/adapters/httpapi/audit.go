package httpapi

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// maxAudited is how many bytes of a request's body are kept for the audit.
const maxAudited = 1 << 10

// auditOperators logs each request to the admin listener that may have changed something: what was asked for, and by whom. The order service has
// an audit of its own, with the orders. The console logs itself who signs in, because the body of a sign-in is a token.
func auditOperators(open bool, console Console, logger *slog.Logger) gin.HandlerFunc {
	return func(c *gin.Context) {
		path, asked := c.Request.URL.Path, new(beginning)
		if c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead || path == ConsolePath+"/sign-in" {
			return
		}
		who := operatorOf(c)
		if console != nil && !needsToken(c.Request) {
			who = console.Operator(c.Request)
		}
		if who.Scope == "" {
			return // nobody has signed in to the console, so the request changes nothing
		}
		if !strings.HasPrefix(path, ConsolePath+"/orders") {
			c.Request.Body = readCloser{io.TeeReader(c.Request.Body, asked), c.Request.Body}
		}
		c.Next()
		if status := c.Writer.Status(); status < http.StatusBadRequest {
			kind, name := who.Actor()
			if open {
				kind, name = "unauthenticated", "anybody, because ADMIN_TOKEN is off"
			}
			logger.InfoContext(c.Request.Context(), "audit", "action", c.Request.Method+" "+cut(path), "request", cut(asked.String()),
				"actor_type", kind, "actor", name, "remote", c.Request.RemoteAddr, "status", status)
		}
	}
}

type readCloser struct {
	io.Reader
	io.Closer
}

// beginning keeps the first maxAudited bytes that are written into it.
type beginning struct{ kept bytes.Buffer }

func (b *beginning) Write(part []byte) (int, error) {
	b.kept.Write(part[:min(len(part), maxAudited-b.kept.Len())])
	return len(part), nil
}

// String returns what was kept, as text that logs can carry.
func (b *beginning) String() string { return strings.ToValidUTF8(b.kept.String(), "") }
