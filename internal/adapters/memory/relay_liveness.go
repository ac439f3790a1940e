package memory

import (
	"context"
	"sync"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// LivenessBroker is a broker that knows which fencing tokens its clients have announced.
type LivenessBroker struct {
	mu      sync.Mutex
	clients []*Liveness
}

// NewPresence returns a broker without clients.
func NewPresence() *LivenessBroker { return &LivenessBroker{} }

// Liveness is one process's connection to a Presence.
type Liveness struct {
	presence  *LivenessBroker
	announced map[int64]int // how often, by token
	session   uint64
	cut       bool
}

var _ relay.Liveness = (*Liveness)(nil)

// NewLiveness returns the connection of one more process.
func NewLiveness(presence *LivenessBroker) *Liveness {
	l := &Liveness{presence: presence, announced: make(map[int64]int)}
	presence.mu.Lock()
	defer presence.mu.Unlock()
	presence.clients = append(presence.clients, l)
	return l
}

// Announce counts its calls: each call has to be withdrawn.
func (l *Liveness) Announce(token int64) (withdraw func()) {
	l.change(func() { l.announced[token]++ })
	return sync.OnceFunc(func() { l.change(func() { l.announced[token]-- }) })
}

// Probe answers at once.
func (l *Liveness) Probe(ctx context.Context, token int64) relay.ProbeResult {
	l.presence.mu.Lock()
	defer l.presence.mu.Unlock()
	sighting := relay.ProbeResult{Session: l.session, Gone: !l.cut && ctx.Err() == nil}
	for _, other := range l.presence.clients {
		if other != l && !other.cut && other.announced[token] > 0 {
			sighting.Gone = false
		}
	}
	return sighting
}

// Disconnect cuts the connection. The process cannot ask, and the other processes do not see its announcements.
func (l *Liveness) Disconnect() { l.change(func() { l.cut = true }) }

// Reconnect begins another session. The other processes see the announcements again.
func (l *Liveness) Reconnect() {
	l.change(func() {
		l.cut = false
		l.session++
	})
}

func (l *Liveness) change(do func()) {
	l.presence.mu.Lock()
	defer l.presence.mu.Unlock()
	do()
}
