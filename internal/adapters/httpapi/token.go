package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// access decides which requests may get more than the short answers of the probes.
type access struct {
	open   bool // every request is allowed
	token  [sha256.Size]byte
	usable bool // there is a token that opens
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
	sent := sha256.Sum256([]byte(strings.TrimLeft(given, " "))) // of the same length as the token's, so that the comparison tells nothing
	if subtle.ConstantTimeCompare(sent[:], a.token[:]) != 1 || !strings.EqualFold(scheme, "Bearer") || !a.usable {
		return false, refusedToken
	}
	return true, ""
}

// needsToken reports whether a request is for more than a probe. Probes are open to everybody, and come every few seconds.
func needsToken(r *http.Request) bool { return r.URL.Path != "/healthz" && r.URL.Path != "/readyz" }

// require refuses a request without the token, unless it is a probe.
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
