package subscribing_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// countedCheckpoints counts the heartbeats.
type countedCheckpoints struct {
	inbox.Checkpoints
	heartbeats atomic.Int64
}

func (c *countedCheckpoints) Heartbeat(ctx context.Context, subscriber, instance string) (inbox.View, error) {
	c.heartbeats.Add(1)
	return c.Checkpoints.Heartbeat(ctx, subscriber, instance)
}

// TestIdleCopyIsQuiet checks that a lone copy without events sends about one heartbeat a second and nothing else, and that it sends three a second
// while there is another copy, or while there are events.
func TestIdleCopyIsQuiet(t *testing.T) {
	inFakeTime(t, subscribing.Options{Lanes: 4}, func(t *testing.T, s *service) {
		counted := &countedCheckpoints{Checkpoints: s.inbox}
		_, stop := s.run("a", copyHandler{s, "a"}, counted)
		s.publish(100)
		pass(10 * time.Second)
		require.Equal(t, 100, s.count())
		during := func(do func()) (heartbeats, redeliveries int64) {
			heartbeats, redeliveries = counted.heartbeats.Load(), s.redeliveries.Load()
			do()
			return counted.heartbeats.Load() - heartbeats, s.redeliveries.Load() - redeliveries
		}
		heartbeats, redeliveries := during(func() { pass(100 * time.Second) })
		require.InDelta(t, 111, heartbeats, 2)
		require.Zero(t, redeliveries)

		heartbeats, _ = during(func() {
			for range 100 {
				s.publish(8)
				pass(100 * time.Millisecond)
			}
		})
		require.Greater(t, heartbeats, int64(28), "while there are events")

		stopOther := s.start("b")
		pass(loneHeartbeat)
		heartbeats, _ = during(func() { pass(10 * time.Second) })
		require.InDelta(t, 33, heartbeats, 2, "while there is another copy")
		stop()
		stopOther()
		s.running.Wait()
	})
}

// TestLettersOfAnIdleCopy checks that a copy without other events looks for due letters every second while the subscriber has letters.
func TestLettersOfAnIdleCopy(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		var heals atomic.Bool
		s.handle = func(context.Context, outbox.Entry) error {
			if !heals.Load() {
				return errors.New("not yet")
			}
			return nil
		}
		stop := s.start("a")
		pass(time.Minute)
		require.LessOrEqual(t, s.redeliveries.Load(), int64(1))
		s.publish(1)
		pass(5 * time.Second)
		require.GreaterOrEqual(t, s.redeliveries.Load(), int64(4))
		heals.Store(true)
		pass(5 * time.Second)
		require.Equal(t, 1, s.count())
		pass(2 * loneHeartbeat)
		before := s.redeliveries.Load()
		pass(time.Minute)
		require.Equal(t, before, s.redeliveries.Load(), "there are no letters any more")
		stop()
		s.running.Wait()
	})
}

// loneHeartbeat is the time between two heartbeats of a lone copy that has nothing to do.
const loneHeartbeat = 900 * time.Millisecond
