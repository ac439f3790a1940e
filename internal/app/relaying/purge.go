package relaying

import (
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// The relay removes old entries in chunks. One chunk takes the database a few milliseconds. Between two chunks the relay pauses.
const (
	purgeChunk       = 1000
	purgePause       = 20 * time.Millisecond
	maxPurgeInterval = time.Minute
)

// purge removes the entries from the log that are older than the retention, until the leadership ends. It removes nothing while a take-over
// is under way: the stream may have lost messages, and then the relay needs their entries in the log.
func (r *Relay) purge(l *leadership, logger *slog.Logger) {
	every := min(max(r.opts.Retention/10, time.Second), maxPurgeInterval)
	for failing := false; ; {
		sleep(l.ctx, l.ctx, every)
		removed, err := 0, error(nil)
		for more := true; more && err == nil && l.ctx.Err() == nil && l.streamVerified.Load(); {
			var n int
			n, err = r.Retention.Purge(l.ctx, l.term().Token, r.opts.Retention, purgeChunk)
			removed, more = removed+n, n == purgeChunk
			if more {
				sleep(l.ctx, l.ctx, purgePause)
			}
		}
		if removed > 0 {
			logger.Debug("removed old entries from the log", "entries", removed)
		}
		if l.ctx.Err() != nil || errors.Is(err, relay.ErrLeaseLost) {
			return
		}
		if err != nil && !failing {
			logger.Warn("cannot remove old entries from the log, trying again", "every", every, "error", err)
		}
		failing = err != nil
	}
}
