package subscribing_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// changing is a stream that changes after the first State that follows a Read.
type changing struct {
	inbox.Stream
	read, changed atomic.Bool
	change        func()
}

func (c *changing) Read(ctx context.Context, from uint64, limit inbox.ReadLimit) ([]inbox.Message, error) {
	defer c.read.Store(true)
	return c.Stream.Read(ctx, from, limit)
}

func (c *changing) State(ctx context.Context) (inbox.StreamState, error) {
	state, err := c.Stream.State(ctx)
	if c.read.Load() && c.changed.CompareAndSwap(false, true) {
		c.change()
	}
	return state, err
}

// TestLimitWhileALaneLooksWhatHappened checks a lane whose message was removed. While the lane reconciles, a limit removes more messages,
// so that the stream begins after the lane's position. The lane must not go to the beginning of the stream, because it would miss a
// redriven event in between.
func TestLimitWhileALaneLooksWhatHappened(t *testing.T) {
	lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
		parked := l.write(1)
		l.rows.Park(1, relay.Parked, 0)
		_, err := l.stream.PublishControl(t.Context(), 0, relay.ControlMessage{Progress: parked[0].Progress(), Parked: "too large"})
		require.NoError(t, err)
		require.NoError(t, l.inbox.CreateLanes(t.Context(), subscriber, 1, l.created, inbox.StreamPosition{}))
		last := l.add(9)[8]
		_, stop := l.copy("first")
		pass(5 * time.Second)
		stop()
		l.running.Wait()
		l.requireApplied(from(2, 10)...)
		_, err = l.stream.Redrive(t.Context(), 10, last.Progress(), parked)
		require.NoError(t, err)
		l.rows.Park(1, relay.Redriven, 11)
		l.add(5)
		l.stream.Delete(10)

		stream := &changing{Stream: memory.NewReader(l.stream, subscriber), change: func() { l.remove(1, 11) }}
		second := subscribing.New(subscriber, "second", subscribing.Ports{
			Stream: stream, Checkpoints: l.inbox, Work: l.inbox, Letters: l.inbox, Sweeper: l.inbox, Log: l.inbox,
			Handlers: onlyHandler(effectRecorder{copyHandler{l.service, "second"}}),
		}, l.opts, l.logger)
		ctx, stop := context.WithCancel(t.Context())
		l.running.Go(func() { _ = second.Run(ctx) })
		pass(10 * time.Second)
		require.True(t, stream.changed.Load())
		require.Empty(t, second.Trouble())
		l.requireApplied(upTo(15)...)
		stop()
	})
}

// TestStreamIsRemadeUnderARemovedPlace checks that a lane at a removed message notices that the stream was created again. Otherwise the
// lane would ask the log for missing events, although the log fills another stream now.
func TestStreamIsRemadeUnderARemovedPlace(t *testing.T) {
	lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
		running, stop := l.copy("first")
		l.add(20)
		pass(5 * time.Second)
		l.remove(1, 20)
		pass(5 * time.Second)
		l.rows.Purge(5)
		l.stream.Recreate()
		l.created = "2"
		l.republish(0)
		l.add(15)
		pass(10 * time.Second)
		require.Empty(t, running.Trouble())
		l.requireApplied(upTo(35)...)
		stop()
	})
}

// TestMessageWhereOneWasRemoved checks that a lane at a removed message misses nothing if the stream later has another message at that
// sequence. The stream lost its end and has grown again, or it was created again.
func TestMessageWhereOneWasRemoved(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(l *lossyService)
	}{
		{"the stream lost its end", func(l *lossyService) { l.stream.LoseAfter(7) }},
		{"the stream was created again", func(l *lossyService) {
			l.stream.Recreate()
			state, err := memory.NewReader(l.stream, subscriber).State(l.t.Context())
			require.NoError(l.t, err)
			l.created = state.Created
			_, err = l.stream.Publish(l.t.Context(), 0, l.rows.Readable()[:7])
			require.NoError(l.t, err)
		}},
	} {
		for _, restarts := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, another copy %v", test.name, restarts), func(t *testing.T) {
				lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
					var outage atomic.Bool
					stop := l.standAtRemoved(t, &outage)
					if restarts {
						stop()
						l.running.Wait()
					}
					test.change(l)
					log := l.rows.Readable()
					_, err := l.stream.Publish(t.Context(), 7, []outbox.Entry{log[7], log[10]})
					require.NoError(t, err)
					_, err = l.stream.Redrive(t.Context(), 9, log[10].Progress(), log[8:10])
					require.NoError(t, err)
					for i, entry := range log[8:10] {
						l.rows.Park(entry.Position, relay.Redriven, uint64(10+i))
					}
					l.save()
					outage.Store(false)
					if restarts {
						_, stop = l.copy("second")
					}
					pass(20 * time.Second)
					l.requireApplied(upTo(11)...)
					stop()
				})
			})
		}
	}
}

// standAtRemoved starts a copy whose lane stands at sequence 10, a removed message. Positions 9 and 10 of the log are parked. While outage
// is set, the handler fails at position 11 with an outage.
func (l *lossyService) standAtRemoved(t *testing.T, outage *atomic.Bool) (stop func()) {
	t.Helper()
	outage.Store(true)
	_, stop = l.copy("first")
	l.add(7)
	pass(time.Second)
	stop()
	l.running.Wait()
	l.add(1)
	for _, entry := range l.write(2) {
		l.rows.Park(entry.Position, relay.Parked, 0)
		l.stream.AppendForeign()
	}
	l.add(1)
	l.remove(8, 10)
	l.handle = func(_ context.Context, entry outbox.Entry) error {
		if entry.Position == 11 && outage.Load() {
			return fault.New(fault.Unavailable, "away", "what the handler works on is away")
		}
		return nil
	}
	_, stop = l.copy("first")
	pass(5 * time.Second)
	require.Equal(t, uint64(10), l.lanes()[0].Sequence)
	require.Zero(t, l.lanes()[0].StoredAt)
	return stop
}
