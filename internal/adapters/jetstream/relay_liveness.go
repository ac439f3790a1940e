package jetstream

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// probeTimeout bounds the wait for an answer. A leader that is there answers within a round trip, and so does the broker if
// nobody is there; only a frozen leader keeps the follower waiting.
const probeTimeout = 100 * time.Millisecond

// deniedPause is how long nothing is asked after the broker has denied the right to ask: it logs each denial.
const deniedPause = 10 * time.Second

// Liveness announces a leader by subscribing to a subject of its token. The broker forgets the subscription as soon as the
// process's connection ends, and answers a request to a subject without subscribers with "no responders". The client subscribes
// again with each reconnect.
type Liveness struct {
	nc     *nats.Conn
	stream string
	logger *slog.Logger
	denied atomic.Int64 // until when nothing is asked, in Unix nanoseconds
}

var _ relay.Liveness = (*Liveness)(nil)

// NewLiveness returns the liveness of a stream's relays.
func NewLiveness(nc *nats.Conn, stream string, logger *slog.Logger) *Liveness {
	return &Liveness{nc: nc, stream: stream, logger: logger}
}

// Announce answers probes, so that a follower does not have to wait for probeTimeout. A leader that may not answer is still
// not gone.
func (l *Liveness) Announce(token int64) (withdraw func()) {
	announced, err := l.nc.Subscribe(leaderSubject(l.stream, token), func(probe *nats.Msg) { _ = probe.Respond(nil) })
	if err != nil { // the connection was closed for good, so nothing can be published either
		l.logger.Debug("could not announce the leader to the other instances", "token", token, "error", err)
		return func() {}
	}
	return func() { _ = announced.Unsubscribe() } // it fails only if that was done, or the connection was closed
}

// Probe trusts an answer only if it came in the session that it reports.
func (l *Liveness) Probe(ctx context.Context, token int64) relay.ProbeResult {
	session := l.nc.Stats().Reconnects
	if time.Now().UnixNano() < l.denied.Load() {
		return relay.ProbeResult{Session: session}
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	subject := leaderSubject(l.stream, token)
	_, err := l.nc.RequestWithContext(ctx, subject, nil)
	if last := l.nc.LastError(); err != nil && errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), subject) {
		l.denied.Store(time.Now().Add(deniedPause).UnixNano())
	}
	return relay.ProbeResult{
		Gone:    errors.Is(err, nats.ErrNoResponders) && l.nc.Stats().Reconnects == session,
		Session: session,
	}
}

func leaderSubject(stream string, token int64) string {
	return "outboxie." + stream + ".leader." + strconv.FormatInt(token, 10)
}
