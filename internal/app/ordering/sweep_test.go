package ordering_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// expired is a store with left expired keys. It records each deletion and its time.
type expired struct {
	mu      sync.Mutex
	left    int
	fails   error // error of the next call; nil: it succeeds
	began   time.Time
	deleted []deletion
}

type deletion struct {
	after time.Duration
	count int
}

func (e *expired) Delete(ctx context.Context, most int) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := errors.Join(ctx.Err(), e.fails)
	if e.fails = nil; err != nil {
		return 0, err
	}
	count := min(most, e.left)
	e.left -= count
	e.deleted = append(e.deleted, deletion{time.Since(e.began), count})
	return count, nil
}

// so returns the deletions so far, and adds more expired keys.
func (e *expired) so(more int) []deletion {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left += more
	return e.deleted
}

// TestSweep checks that a sweep deletes keys in chunks, at once and every five minutes, also after a failure. It runs in fake time.
func TestSweep(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		said  string
		first time.Duration // time of the first sweep that succeeds
	}{
		"works":            {nil, "", 0},
		"outage":           {fault.New(fault.Unavailable, "down", "it is down"), "level=WARN", 5 * time.Minute},
		"something wicked": {errors.New("permission denied"), "level=ERROR", 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				store := &expired{left: 2500, fails: c.err, began: time.Now()}
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- ordering.NewSweep(store, slog.New(slog.NewTextHandler(&log, nil))).Run(ctx) }()

				time.Sleep(c.first + time.Second)
				want := []deletion{{c.first, 1000}, {c.first, 1000}, {c.first, 500}}
				require.Equal(t, want, store.so(1000))
				time.Sleep(10 * time.Minute)
				want = append(want, deletion{c.first + 5*time.Minute, 1000}, deletion{c.first + 5*time.Minute, 0}, deletion{c.first + 10*time.Minute, 0})
				require.Equal(t, want, store.so(0))

				stop()
				require.NoError(t, <-ended)
				if c.err == nil {
					require.Empty(t, log.String())
					return
				}
				require.Contains(t, log.String(), c.said)
				require.Contains(t, log.String(), c.err.Error())
				require.Contains(t, log.String(), "trying again in 5m0s")
			})
		})
	}
}

// TestSweepThatIsStopped checks that the end of the program is not logged as a failure.
func TestSweepThatIsStopped(t *testing.T) {
	var log bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, ordering.NewSweep(&expired{}, slog.New(slog.NewTextHandler(&log, nil))).Run(ctx))
	require.Empty(t, log.String())
}
