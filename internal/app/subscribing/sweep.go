package subscribing

import (
	"context"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	sweepEvery = time.Minute
	sweepChunk = 1000 // rows at a time, so that no statement takes long
)

// Sweep forgets, until ctx ends, what subscriber applied longer than retention ago. Such an event must not come again: the
// stream, and the log that it is healed from, have to forget it before. Then it returns nil.
func Sweep(ctx context.Context, subscriber string, sweeper inbox.Sweeper, retention time.Duration, logger *slog.Logger) error {
	for ; ctx.Err() == nil; sleep(ctx, sweepEvery) {
		total := 0
		for {
			swept, err := sweeper.Sweep(ctx, subscriber, retention, sweepChunk)
			total += swept
			if err != nil && ctx.Err() == nil {
				logger.WarnContext(ctx, "cannot sweep the inbox, trying again in a minute", "error", err)
			}
			if err != nil || swept < sweepChunk {
				break
			}
		}
		if total > 0 {
			logger.DebugContext(ctx, "swept the inbox", "events", total)
		}
	}
	return nil
}
