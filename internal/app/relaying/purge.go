package relaying

import (
	"errors"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// What old entries are removed in: chunks that take Postgres some milliseconds, with time for others in between.
const (
	purgeChunk = 1000
	purgePause = 20 * time.Millisecond
	purgeEvery = time.Minute // at the longest
)

// purge removes from the log what is older than the retention, until the tenure ends. It rests while the stream is not
// taken over or the relay halts: what the stream may have lost must not be removed.
func (r *Relay) purge(t *tenure, logger *slog.Logger) {
	every := min(max(r.opts.Retention/10, time.Second), purgeEvery)
	for failing := false; ; {
		sleep(t.ctx, t.ctx, every)
		removed, err := 0, error(nil)
		for more := true; more && err == nil && t.ctx.Err() == nil && t.placed.Load(); {
			var n int
			n, err = r.Retention.Purge(t.ctx, t.term().Token, r.opts.Retention, purgeChunk)
			removed, more = removed+n, n == purgeChunk
			if more {
				sleep(t.ctx, t.ctx, purgePause)
			}
		}
		if removed > 0 {
			logger.Debug("removed old entries from the log", "entries", removed)
		}
		if t.ctx.Err() != nil || errors.Is(err, relay.ErrLeaseLost) {
			return
		}
		if err != nil && !failing {
			logger.Warn("cannot remove old entries from the log, trying again", "every", every, "error", err)
		}
		failing = err != nil
	}
}
