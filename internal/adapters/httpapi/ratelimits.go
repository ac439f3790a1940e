package httpapi

import (
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
)

var errRate = fault.New(fault.Refused, "rate_limited", "too many requests from this client; nothing was done")

// maxClients is how many clients each generation of rateLimits has. A client needs about 200 bytes.
const maxClients = 10_000

// rateLimits limits how many requests a second each client sends. A client may send the requests of one second at once.
//
// The memory is bounded. Clients are in two generations. If the young generation is full, it becomes the old one, and the former old one is
// forgotten. A client that sends requests stays in the young generation.
type rateLimits struct {
	perSecond int // 0: any number

	mu         sync.Mutex
	young, old map[string]*rate.Limiter
}

func newRateLimits(perSecond int) *rateLimits {
	return &rateLimits{perSecond: perSecond, young: make(map[string]*rate.Limiter)}
}

// refuse counts a request of a client. If the client has sent too many, refuse answers the request and returns true.
func (l *rateLimits) refuse(c *gin.Context, client string) bool {
	if l.perSecond == 0 {
		return false
	}
	pause := l.take(client, time.Now())
	if pause == 0 {
		return false
	}
	c.Header("Retry-After", strconv.Itoa(int(math.Ceil(pause.Seconds()))))
	refuse(c, errRate)
	return true
}

// take returns 0 if the client may send a request now, and otherwise when it may.
func (l *rateLimits) take(client string, now time.Time) time.Duration {
	reserved := l.of(client).ReserveN(now, 1)
	pause := reserved.DelayFrom(now)
	if pause > 0 {
		reserved.CancelAt(now)
	}
	return pause
}

func (l *rateLimits) of(client string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if limiter, known := l.young[client]; known {
		return limiter
	}
	limiter, known := l.old[client]
	if !known {
		limiter = rate.NewLimiter(rate.Limit(l.perSecond), l.perSecond)
	}
	if len(l.young) >= maxClients {
		l.old, l.young = l.young, make(map[string]*rate.Limiter)
	}
	l.young[client] = limiter
	return limiter
}

// limitedAs returns the name under which a request counts: that of the principal, or of the address if nobody checks who the principal is.
func limitedAs(r *http.Request, who order.Principal) string {
	if who.Kind == order.KindAnyone {
		return addressOf(r)
	}
	return string(who.Kind) + " " + who.ID
}

// addressOf returns the address of the client. A client with IPv6 has a network of 64 bits.
func addressOf(r *http.Request) string {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	address, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if address = address.Unmap().WithZone(""); address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			return network.String()
		}
	}
	return address.String()
}
