package relaying

import (
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Old entries are removed in chunks, each of which takes the database a few milliseconds, with a pause between two chunks.
const (
	purgeChunk       = 1000
	purgePause       = 20 * time.Millisecond
	maxPurgeInterval = time.Minute
)

// purge removes entries that are older than the retention from the log, until the leadership ends. It pauses while the stream is not
// taken over: the stream may have lost messages, which the log must still have.
func (r *Relay) purge(l *leadership, logger *slog.Logger) {
	every := min(max(r.opts.Retention/10, time.Second), maxPurgeInterval)
	for failing := false; ; {
		sleep(l.ctx, l.ctx, every)
		removed, err := 0, error(nil)
		for more := true; more && err == nil && l.ctx.Err() == nil && l.tookOver.Load(); {
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
