package httpapi

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/cors"
)

// allowOrigins lets scripts of pages of other origins call the API and read its answers (CORS). Without origins it does nothing.
func allowOrigins(origins []string) gin.HandlerFunc {
	if len(origins) == 0 {
		return func(*gin.Context) {}
	}
	policy := cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost},
		AllowedHeaders: []string{"Authorization", "Content-Type", keyHeader, matchHeader, "If-None-Match", "Traceparent", "Tracestate"},
		ExposedHeaders: []string{"ETag", "Location", "Retry-After", "Trace-Id", "WWW-Authenticate"},
		MaxAge:         int((10 * time.Minute).Seconds()),
	})
	return func(c *gin.Context) {
		policy.HandlerFunc(c.Writer, c.Request)
		if c.Request.Method == http.MethodOptions && c.GetHeader("Access-Control-Request-Method") != "" {
			c.Writer.WriteHeaderNow()
			c.Abort()
		}
	}
}
