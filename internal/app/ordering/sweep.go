package ordering

import (
	"context"
	"log/slog"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

const (
	sweepEvery = 5 * time.Minute
	sweepChunk = 1000 // claims that one transaction deletes, so that no transaction takes long
)

// Sweep deletes expired idempotency keys. Any number of instances may run it at the same time.
type Sweep struct {
	expired orders.ExpiredKeys
	logger  *slog.Logger
}

// NewSweep returns a Sweep, which does nothing until Run.
func NewSweep(expired orders.ExpiredKeys, logger *slog.Logger) *Sweep {
	return &Sweep{expired: expired, logger: logger}
}

// Run deletes expired keys at once and every five minutes. It returns nil when ctx ends. After an error, Run logs the error, and the next
// round tries again. A key that is not deleted expires all the same.
func (s *Sweep) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		s.once(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// once deletes all expired keys, in chunks.
func (s *Sweep) once(ctx context.Context) {
	total := 0
	for {
		deleted, err := s.expired.Delete(ctx, sweepChunk)
		total += deleted
		if err != nil {
			s.reportTrouble(ctx, total, err)
			return
		}
		if deleted < sweepChunk {
			s.logger.DebugContext(ctx, "deleted expired idempotency keys", "deleted", total)
			return
		}
	}
}

func (s *Sweep) reportTrouble(ctx context.Context, deleted int, err error) {
	level := slog.LevelError
	switch {
	case ctx.Err() != nil:
		return
	case fault.KindOf(err) == fault.Unavailable:
		level = slog.LevelWarn
	}
	s.logger.Log(ctx, level, "cannot delete expired idempotency keys, trying again in "+sweepEvery.String(),
		"deleted", deleted, "error", err)
}
