package relaying

import (
	"context"
	"time"
)

// backoff is a pause. Each call of next doubles the pause, from shortest up to longest.
type backoff struct{ shortest, longest, last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(b.last*2, b.shortest), b.longest)
	return b.last
}

func (b *backoff) used() bool { return b.last > 0 }
func (b *backoff) reset()     { b.last = 0 }

// sleep waits for d, or until one of the contexts ends.
func sleep(ctx, other context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-other.Done():
	case <-timer.C:
	}
}
