package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// access finds out who sends a request to the admin listener, and what the sender may do.
type access struct {
	open   bool // every request is allowed
	tokens operations.Tokens
}

func newAccess(options AdminOptions) access {
	return access{open: options.Open, tokens: operations.NewTokens(options.Token, options.ReadToken, options.Issuer)}
}

// identify returns who sends a request. If no token is accepted, it returns the error and the refusal. Another error is no refusal: the token
// cannot be checked at the moment.
func (a access) identify(r *http.Request) (who operations.Operator, why refusal, err error) {
	if a.open {
		return operations.Operator{Scope: operations.ScopeWrite}, "", nil
	}
	lines := r.Header.Values("Authorization")
	if len(lines) == 0 {
		return who, refusedNoToken, errToken
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	if len(lines) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return who, refusedToken, errToken
	}
	who, err = a.tokens.Authenticate(r.Context(), strings.TrimLeft(token, " "))
	if errors.Is(err, operations.ErrToken) {
		why = refusedToken
		if !a.tokens.HasIssuer() {
			err = errToken // there is nothing to say about access tokens
		}
	}
	return who, why, err
}

// judge does the same as identify, and also refuses a sender who may not do what needs the scope.
func (a access) judge(r *http.Request, needed operations.Scope) (who operations.Operator, why refusal, err error) {
	who, why, err = a.identify(r)
	if err == nil && !who.Scope.Allows(needed) {
		return who, refusedScope, lacking(needed)
	}
	return who, why, err
}

// lacking returns the error about a token that lacks the scope.
func lacking(needed operations.Scope) error {
	if needed == operations.ScopeRead {
		return operations.ErrScope.With("the access token is not for operators: it needs the scope %s or %s",
			operations.ScopeRead.Claim(), operations.ScopeWrite.Claim())
	}
	return operations.ErrScope.With("the token may only read; changes and profiles need ADMIN_TOKEN, or an access token with the scope %s", needed.Claim())
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

// neededScope returns the scope that a request needs: to read, unless it may change something or takes a profile. Profiles hold parts of the
// memory, so they may hold what the process keeps secret, and taking them costs processor time.
func neededScope(r *http.Request) operations.Scope {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !reads || r.URL.Path == profilesPath || strings.HasPrefix(r.URL.Path, profilesPath+"/") {
		return operations.ScopeWrite
	}
	return operations.ScopeRead
}

// operatorKey is the key of the operator in a gin context.
const operatorKey = "operator"

// operatorOf returns who sends a request that needs a token.
func operatorOf(c *gin.Context) operations.Operator {
	who, _ := c.Value(operatorKey).(operations.Operator)
	return who
}

// require refuses a request without a token that allows it, if it needs one.
func (a access) require(refused *refusals) gin.HandlerFunc {
	return func(c *gin.Context) {
		if !needsToken(c.Request) {
			return
		}
		needed := neededScope(c.Request)
		who, why, err := a.judge(c.Request, needed)
		if err == nil {
			c.Set(operatorKey, who)
			return
		}
		if why != "" {
			refused.note(c, why)
			c.Header("WWW-Authenticate", adminChallenge(err, needed))
		}
		refuse(c, err)
	}
}

// adminChallenge returns the WWW-Authenticate header of a refused request (RFC 6750, section 3).
func adminChallenge(err error, needed operations.Scope) string {
	const realm = `Bearer realm="outboxie admin"`
	switch {
	case errors.Is(err, operations.ErrToken):
		return realm + `, error="` + operations.ErrToken.Code + `"`
	case errors.Is(err, operations.ErrScope):
		return realm + `, error="` + operations.ErrScope.Code + `", scope="` + string(needed) + `"`
	}
	return realm
}
