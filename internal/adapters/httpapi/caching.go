package httpapi

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/klauspost/compress/gzhttp"
)

// minCompressed is the size in bytes from which an answer is compressed. Below it, compression costs more than it saves.
const minCompressed = 1400

// compressed compresses large answers with gzip for clients that accept it. It does not touch the paths that skip accepts.
func compressed(next http.Handler, skip func(path string) bool) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(minCompressed), gzhttp.EnableZstd(false))
	if err != nil {
		panic(err) // the options are constants
	}
	zipped := wrap(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if skip(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		zipped.ServeHTTP(w, r)
	})
}

// neverCompressed keeps an answer as it is. An answer with a strong ETag must have the same bytes for every client.
func neverCompressed(c *gin.Context) { c.Header(gzhttp.HeaderNoCompression, "1") }

// unchanged answers with 304 if the client already has the version of the tag. The comparison is weak (RFC 9110, section 13.1.2).
func unchanged(c *gin.Context, tag string) bool {
	text := strings.TrimSpace(strings.Join(c.Request.Header.Values("If-None-Match"), ","))
	known := text == "*"
	for _, found := range entityTag.FindAllStringSubmatch(text, -1) {
		known = known || `"`+found[2]+`"` == strings.TrimPrefix(tag, "W/")
	}
	if known {
		c.Status(http.StatusNotModified)
		c.Writer.WriteHeaderNow()
	}
	return known
}
