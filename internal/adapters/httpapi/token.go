package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// access judges who may see more than the probes' short answers.
type access struct {
	open   bool // everybody may
	token  [sha256.Size]byte
	usable bool // there is a token that opens
}

func newAccess(token string, open bool) access {
	return access{open: open, token: sha256.Sum256([]byte(token)), usable: token != ""}
}

// judge reports whether a request may, and else how it failed.
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

// guarded reports whether a request is for more than a probe: those are open to everybody, and come every few seconds.
func needsToken(r *http.Request) bool { return r.URL.Path != "/healthz" && r.URL.Path != "/readyz" }

// require lets a request through that may have what it asks for. It guards everything that the listener serves but the probes.
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
