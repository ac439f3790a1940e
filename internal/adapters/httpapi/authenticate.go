package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// errNoBearer has the code of errToken, because clients do the same about both.
var errNoBearer = fault.New(fault.Refused, errToken.Code, "the request needs a token: Authorization: Bearer TOKEN")

// principalKey is the key of the principal in a gin context.
const principalKey = "principal"

// principalOf returns who sends the request. If no middleware found that out, it returns the zero principal, which may do nothing.
func principalOf(c *gin.Context) order.Principal {
	who, _ := c.Value(principalKey).(order.Principal)
	return who
}

// authenticate finds out who sends a request about orders, and limits how many requests that one sends. If authenticator is nil, nobody is
// asked. The documentation needs no token.
func authenticate(authenticator orders.Authenticator, limits *rateLimits, refused *refusals) gin.HandlerFunc {
	return func(c *gin.Context) {
		if !isOrders(c.Request.URL.Path) {
			return
		}
		who := order.Anyone()
		if authenticator != nil {
			var err error
			if who, err = readBearer(c.Request, authenticator); err != nil {
				refuseToken(c, err, limits, refused)
				return
			}
		}
		if limits.refuse(c, limitedAs(c.Request, who)) {
			return
		}
		c.Set(principalKey, who)
	}
}

func isOrders(path string) bool { return path == "/orders" || strings.HasPrefix(path, "/orders/") }

// readBearer returns the principal that the request's token names.
func readBearer(r *http.Request, authenticator orders.Authenticator) (order.Principal, error) {
	lines := r.Header.Values("Authorization")
	if len(lines) == 0 {
		return order.Principal{}, errNoBearer
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	if len(lines) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return order.Principal{}, errNoBearer
	}
	return authenticator.Authenticate(r.Context(), strings.TrimLeft(token, " "))
}

// refuseToken answers a request without an accepted token. Such requests count for the address of the client.
func refuseToken(c *gin.Context, err error, limits *rateLimits, refused *refusals) {
	switch {
	case errors.Is(err, errNoBearer):
		refused.note(c, refusedAnonymous)
	case errors.Is(err, orders.ErrToken):
		refused.note(c, refusedBearer)
	}
	if !limits.refuse(c, addressOf(c.Request)) {
		refuse(c, err)
	}
}

// challenge returns the WWW-Authenticate header of an answer to a request for which the token does not suffice (RFC 6750, section 3).
func challenge(f *fault.Error) string {
	const realm = `Bearer realm="outboxie orders"`
	switch f.Code {
	case orders.ErrToken.Code, order.ErrPermission.Code:
		return realm + `, error="` + f.Code + `"`
	case errNoBearer.Code:
		return realm
	}
	return ""
}
