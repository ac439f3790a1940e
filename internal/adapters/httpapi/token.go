package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// access decides which requests may get more than the short answers of probes.
type access struct {
	open   bool // every request is allowed
	token  [sha256.Size]byte
	usable bool // there is a token; without one, no request is allowed
}

func newAccess(token string, open bool) access {
	return access{open: open, token: sha256.Sum256([]byte(token)), usable: token != ""}
}

// judge reports whether a request is allowed, and if not, why.
func (a access) judge(r *http.Request) (allowed bool, why refusal) {
	header := r.Header.Get("Authorization")
	switch {
	case a.open:
		return true, ""
	case header == "":
		return false, refusedNoToken
	}
	scheme, given, _ := strings.Cut(header, " ")
	sent := sha256.Sum256([]byte(strings.TrimLeft(given, " "))) // a hash has a fixed length, so the comparison tells nothing about the token
	if subtle.ConstantTimeCompare(sent[:], a.token[:]) != 1 || !strings.EqualFold(scheme, "Bearer") || !a.usable {
		return false, refusedToken
	}
	return true, ""
}

// needsToken reports whether a request is neither a probe nor for the console or the documentation. Probes come every few seconds, and need no
// token. The console has sessions. The documentation is public.
func needsToken(r *http.Request) bool {
	switch path := r.URL.Path; path {
	case "/", "/docs", "/healthz", "/readyz", ConsolePath:
		return false
	default:
		return !strings.HasPrefix(path, ConsolePath+"/") && !strings.HasPrefix(path, "/docs/")
	}
}

// require refuses a request without the token, if it needs one.
func (a access) require(refused *refusals) gin.HandlerFunc {
	return func(c *gin.Context) {
		if !needsToken(c.Request) {
			return
		}
		if allowed, why := a.judge(c.Request); !allowed {
			refused.note(c, why)
			c.Header("WWW-Authenticate", `Bearer realm="outboxie admin"`)
			refuse(c, errToken)
		}
	}
}
