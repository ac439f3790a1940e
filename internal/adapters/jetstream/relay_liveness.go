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

// probeTimeout limits the wait for an answer. A leader that is there answers within a round trip. If nobody is there, the broker answers as
// fast. Only a frozen leader keeps the follower waiting.
const probeTimeout = 100 * time.Millisecond

// deniedPause is how long nothing is asked after the broker has denied the right to ask, because the broker logs each denial.
const deniedPause = 10 * time.Second

// Liveness announces a leader by a subscription to a subject with the leader's token. The broker forgets the subscription as soon as the
// connection of the process ends. It answers a request on a subject without subscribers with "no responders". After each reconnect the
// client subscribes again.
type Liveness struct {
	nc     *nats.Conn
	stream string
	logger *slog.Logger
	denied atomic.Int64 // nothing is asked before this time, in Unix nanoseconds
}

var _ relay.Liveness = (*Liveness)(nil)

// NewLiveness returns the liveness of a stream's relays.
func NewLiveness(nc *nats.Conn, stream string, logger *slog.Logger) *Liveness {
	return &Liveness{nc: nc, stream: stream, logger: logger}
}

// Announce answers probes, so that a follower does not have to wait for probeTimeout. If the leader has no right to answer, it still does
// not count as gone.
func (l *Liveness) Announce(token int64) (withdraw func()) {
	announced, err := l.nc.Subscribe(leaderSubject(l.stream, token), func(probe *nats.Msg) { _ = probe.Respond(nil) })
	if err != nil { // the connection was closed for good, so nothing can be published either
		l.logger.Debug("could not announce the leader to the other instances", "token", token, "error", err)
		return func() {}
	}
	return func() { _ = announced.Unsubscribe() } // fails only after an earlier call, or if the connection was closed
}

// Probe says that the leader is gone only if the answer came in the session that the result names.
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
