package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/gin-gonic/gin"
)

// AnyHost among the allowed hosts allows every name.
const AnyHost = "*"

// hosts has the host names that requests to a listener may use. It protects against DNS rebinding: a foreign page makes a browser send
// requests to a foreign name that resolves to this listener. The page's author cannot reach the listener, but a browser in the same network
// can. Such a request has the foreign name in its Host header.
type hosts struct {
	any   bool
	names map[string]bool
}

// newHosts returns the hosts of a listener at addr. If careful is false and allowed is empty, they are all hosts. Otherwise they are the
// names in allowed, localhost, the name in addr, and every IP address: a request for an IP address did not use a foreign name.
func newHosts(addr string, allowed []string, careful bool) hosts {
	h := hosts{any: !careful && len(allowed) == 0, names: map[string]bool{"localhost": true}}
	if own, _, err := net.SplitHostPort(addr); err == nil && own != "" {
		h.names[strings.ToLower(own)] = true
	}
	for _, name := range allowed {
		h.any = h.any || name == AnyHost
		h.names[strings.ToLower(name)] = true
	}
	return h
}

// allows reports whether a Host header is allowed. An empty header is allowed: browsers never send it, but health checks over HTTP/1.0 do.
func (h hosts) allows(host string) bool {
	if h.any || host == "" {
		return true
	}
	name := host
	if before, _, err := net.SplitHostPort(host); err == nil {
		name = before
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return h.names[strings.ToLower(strings.TrimSuffix(name, "."))]
}

// String describes the hosts for the log.
func (h hosts) String() string {
	if h.any {
		return "any"
	}
	return "listed"
}

// onLoopback reports whether only this machine can reach an address. It is false for a name other than localhost, because the name may
// resolve to another address later.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && (strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback())
}

// requireHost lets a request through if it names an allowed host.
func requireHost(allowed hosts, setting string, refused *refusals) gin.HandlerFunc {
	problem := errHost.With("the request is for a host that this listener does not know; %s names the hosts", setting)
	return func(c *gin.Context) {
		if !allowed.allows(c.Request.Host) {
			refused.note(c, refusedHost)
			refuse(c, problem)
		}
	}
}

// requireSameOrigin refuses a request that may change something, if a browser sends it for a page of another origin. Other programs send
// neither Sec-Fetch-Site nor Origin.
func requireSameOrigin(trusted []string, refused *refusals) gin.HandlerFunc {
	protection := http.NewCrossOriginProtection()
	for _, origin := range trusted {
		_ = protection.AddTrustedOrigin(origin) // an origin that cannot be read is not trusted
	}
	return func(c *gin.Context) {
		if protection.Check(c.Request) != nil {
			refused.note(c, refusedOrigin)
			refuse(c, errOrigin)
		}
	}
}

// requireOwnPage does the same as requireSameOrigin for all requests that need a token, also for those that only read: some answers are
// expensive for the process. No other origin is trusted.
func requireOwnPage(refused *refusals) gin.HandlerFunc {
	protection := http.NewCrossOriginProtection()
	return func(c *gin.Context) {
		asChange := *c.Request
		asChange.Method = http.MethodPost
		if needsToken(c.Request) && protection.Check(&asChange) != nil {
			refused.note(c, refusedOrigin)
			refuse(c, errOrigin)
		}
	}
}
