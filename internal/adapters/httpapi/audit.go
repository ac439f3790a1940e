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

// auditOperators logs each request to the admin listener that may have changed something: what was asked for, and that the sender has the
// admin token. The order service has an audit of its own, with the orders. The log never has the body of a sign-in, which is the token.
func auditOperators(open bool, logger *slog.Logger) gin.HandlerFunc {
	actor := "holder of the admin token"
	if open {
		actor = "anybody, because ADMIN_TOKEN is off"
	}
	return func(c *gin.Context) {
		if c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead {
			return
		}
		path, asked := c.Request.URL.Path, new(beginning)
		if path != ConsolePath+"/sign-in" && !strings.HasPrefix(path, ConsolePath+"/orders") {
			c.Request.Body = readCloser{io.TeeReader(c.Request.Body, asked), c.Request.Body}
		}
		c.Next()
		if status := c.Writer.Status(); status < http.StatusBadRequest {
			logger.InfoContext(c.Request.Context(), "audit", "action", c.Request.Method+" "+cut(path), "request", cut(asked.String()),
				"actor", actor, "remote", c.Request.RemoteAddr, "status", status)
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
