package relaying_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// bubble runs a test on a world in fake time, and ends what it left running.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer func() {
			for _, i := range w.everyone() {
				i.cancel()
			}
			w.running.Wait()
			require.Empty(t, w.complaints)
		}()
		test(t, w)
	})
}

func (w *world) run(name string) *instance {
	i := w.start(name)
	w.join(i)
	synctest.Wait()
	return i
}

// record commits count events of one aggregate and wakes everybody.
func (w *world) record(t *testing.T, count int) {
	tx, ok := w.begin(0, count)
	require.True(t, ok)
	w.end(tx, true)
	w.wakeSome(0)
	synctest.Wait()
}

// TestHeals publishes again, from the log, what the stream had acknowledged and lost.
func TestHeals(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 6)
		w.stream.Regress(2)
		time.Sleep(time.Second)
		require.Len(t, w.stream.Entries(), 6)
		status := leader.relay.Status()
		require.Equal(t, relaying.Counts{Elections: 1, TakeOvers: 2, Heals: 1}, status.Counts)
		require.EqualValues(t, 6, status.Position)
		require.Empty(t, w.judge(nil, false))
	})
}

// TestHandover resigns on a stop, so that the next relay leads within 100 ms, from a cursor that is up to date.
func TestHandover(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first := w.run("first")
		second := w.run("second")
		time.Sleep(10 * time.Second)
		w.record(t, 3)
		first.cancel()
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, relaying.Following, first.relay.Status().State)
		status := second.relay.Status()
		require.Equal(t, relaying.Leading, status.State)
		require.EqualValues(t, 3, status.Position, "known before anything is published")
		require.EqualValues(t, 1, first.relay.Status().Elections, "what happened is not forgotten with the term")
		cursor, err := w.cursors.Load(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3, cursor.Position)
	})
}

// TestDeadLeader is followed within the lease's time to live and half a second.
func TestDeadLeader(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first := w.run("first")
		second := w.run("second")
		time.Sleep(10 * time.Second)
		first.crash()
		w.leave(first)
		w.record(t, 1)
		time.Sleep(ttl + 500*time.Millisecond)
		synctest.Wait()
		require.Equal(t, relaying.Leading, second.relay.Status().State)
		require.Len(t, w.stream.Entries(), 1)
	})
}

// TestStepsDownOnTime ends a leadership that cannot be renewed before the lease runs out for the others.
func TestStepsDownOnTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		time.Sleep(10 * time.Second)
		stop := make(chan struct{})
		w.running.Go(func() { // the keeper of the lease cannot be reached
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					leader.plan("Renew", planned{mishap: failBefore})
					leader.plan("Acquire", planned{mishap: failBefore})
				}
			}
		})
		time.Sleep(ttl)
		require.Equal(t, relaying.Following, leader.relay.Status().State)
		require.Contains(t, leader.relay.Status().Trouble, "injected outage")
		close(stop)
		time.Sleep(ttl)
		require.Equal(t, relaying.Leading, leader.relay.Status().State)
	})
}

// TestCutOffLeaderLetsAnotherTry gives the lease up when nothing has worked for as long as it lives: another instance may
// reach the broker.
func TestCutOffLeaderLetsAnotherTry(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		var cut atomic.Bool
		leader.inner.Publisher = outage{w.stream, &cut}
		w.run("second")
		w.record(t, 1)
		cut.Store(true)
		w.record(t, 1)
		time.Sleep(ttl + time.Second)
		require.Len(t, w.stream.Entries(), 2)
		holder, _ := w.lease.Holder()
		require.Equal(t, "second", holder)
	})
}

// TestLongOutageIsFewLines says for each term, of which there are ever fewer, that the relay is in trouble, and once that it
// works again.
func TestLongOutageIsFewLines(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var text bytes.Buffer
		i := w.start("unused")
		i.crash()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var down atomic.Bool
		down.Store(true)
		r := relaying.New(relaying.Ports{
			Log: w.log, Cursors: w.cursors, Publisher: outage{w.stream, &down}, Parking: w.parking, Retention: w.cursors, Elector: i.inner.Elector, Halts: i.inner.Halts, Liveness: i.inner.Liveness, Notifier: i.bell, Listener: i.bell,
		}, relaying.Options{LeaseTTL: ttl, Poll: 500 * time.Millisecond, Slice: relay.ReadLimit{Count: 4, Bytes: 1000}},
			slog.New(slog.NewTextHandler(&text, nil)))
		w.running.Go(func() { _ = r.Run(ctx) })
		time.Sleep(time.Minute)
		require.Contains(t, r.Status().Trouble, "injected outage")
		down.Store(false)
		time.Sleep(time.Second)
		require.Empty(t, r.Status().Trouble)
		cancel()
		w.running.Wait()
		for _, line := range []string{"became leader", "in trouble", "lost leadership"} { // after 3, 6, 12 and 24 seconds, and in the end
			require.Equal(t, 5, strings.Count(text.String(), line), text.String())
		}
		require.Equal(t, 1, strings.Count(text.String(), "relaying again"))
	})
}

// TestNewStreamIsRemembered halts on a stream that went away before anything was in it: one that the cursor never saw
// would simply be made again.
func TestNewStreamIsRemembered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first := w.run("first")
		first.crash()
		w.leave(first)
		w.stream.Drop()
		second := w.run("second")
		time.Sleep(2 * ttl)
		require.NotNil(t, second.relay.Status().Halt)
		require.Equal(t, relay.HaltStreamMissing, second.relay.Status().Halt.Reason)
	})
}

// TestCopiedTailUnderARunningLeader halts although the saved cursor lags behind the copy: what the leader had acknowledged
// is saved before the tail is judged.
func TestCopiedTailUnderARunningLeader(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 6) // within the second in which the cursor may lag
		w.stream.AppendCopy(3)
		w.record(t, 1)
		require.NotNil(t, leader.relay.Status().Halt)
		require.Equal(t, relay.HaltTailCopied, leader.relay.Status().Halt.Reason)
		require.Len(t, w.stream.Entries(), 7, "six events and the copy")
	})
}

// TestHealSavesTheCursorFirst moves the cursor back before anything is published again, so that retention cannot remove
// what the stream still needs.
func TestHealSavesTheCursorFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 6)
		time.Sleep(2 * time.Second) // the cursor is saved
		w.stream.Regress(2)
		leader.plan("Publish", planned{mishap: crashBefore})
		time.Sleep(time.Second)
		require.Len(t, w.stream.Entries(), 2)
		cursor, err := w.cursors.Load(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, cursor.StreamSequence)
		require.EqualValues(t, 2, cursor.Position)
	})
}

// TestDoubtConfirmsTheLease asks for the lease after a failure, and steps down at once if it is somebody else's.
func TestDoubtConfirmsTheLease(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		time.Sleep(ttl/4 + 10*time.Millisecond) // just renewed
		w.lease.Advance(2 * ttl)
		_, err := memory.NewElector(w.lease, "thief").Acquire(t.Context(), 0)
		require.NoError(t, err)
		leader.plan("Publish", planned{mishap: loseAnswer})
		w.record(t, 1)
		time.Sleep(50 * time.Millisecond)
		require.Equal(t, relaying.Following, leader.relay.Status().State)
	})
}

// TestOneHangingRenewalIsSurvived keeps the leadership when a single request to the lease's keeper never comes back.
func TestOneHangingRenewalIsSurvived(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		elector := &hanging{Elector: memory.NewElector(w.lease, "me")}
		bell := memory.NewNotifier()
		var text bytes.Buffer
		r := relaying.New(relaying.Ports{
			Log: w.log, Cursors: w.cursors, Publisher: w.stream, Parking: w.parking, Retention: w.cursors, Elector: elector, Liveness: memory.NewLiveness(w.presence), Notifier: bell, Listener: bell,
		}, relaying.Options{LeaseTTL: ttl, Poll: 500 * time.Millisecond, Slice: relay.ReadLimit{Count: 4, Bytes: 1000}},
			slog.New(slog.NewTextHandler(&text, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		w.running.Go(func() { _ = r.Run(ctx) })
		time.Sleep(time.Second)
		elector.next.Store(true)
		time.Sleep(5 * ttl)
		require.False(t, elector.next.Load(), "a renewal hung")
		cancel()
		w.running.Wait()
		require.Equal(t, 1, strings.Count(text.String(), "lost leadership"), text.String())
		require.Contains(t, text.String(), "reason=resigned")
	})
}

// TestForeignMessage goes on after a message of somebody else, and warns of each once, however often it looks at it again.
func TestForeignMessage(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var text bytes.Buffer
		var down atomic.Bool
		bell := memory.NewNotifier()
		r := relaying.New(relaying.Ports{
			Log: w.log, Cursors: w.cursors, Publisher: outage{w.stream, &down}, Parking: w.parking, Retention: w.cursors, Elector: memory.NewElector(w.lease, "me"), Liveness: memory.NewLiveness(w.presence), Notifier: bell, Listener: bell,
		}, relaying.Options{LeaseTTL: ttl, Poll: 500 * time.Millisecond, Slice: relay.ReadLimit{Count: 4, Bytes: 1000}},
			slog.New(slog.NewTextHandler(&text, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		w.running.Go(func() { _ = r.Run(ctx) })
		w.record(t, 3)
		time.Sleep(time.Second)
		w.stream.AppendForeign()
		time.Sleep(time.Second)
		w.record(t, 3)
		down.Store(true) // so that it takes over again and again
		time.Sleep(time.Minute)
		down.Store(false)
		w.stream.AppendForeign()
		time.Sleep(time.Second)
		cancel()
		w.running.Wait()
		require.Len(t, w.stream.Entries(), 6)
		require.Empty(t, w.judge(nil, false))
		require.Equal(t, 2, strings.Count(text.String(), "somebody else"), text.String())
	})
}

// TestManyForeignMessages looks once at each message of somebody else, so that they cannot keep it from publishing.
func TestManyForeignMessages(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		counted := &slowAt{Publisher: w.stream}
		w.publisher = counted
		w.run("leader")
		w.record(t, 1)
		ctx, stop := context.WithCancel(t.Context())
		w.running.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(100 * time.Millisecond)
				w.stream.AppendForeign()
			}
		})
		defer stop()
		time.Sleep(10 * time.Minute)
		require.Less(t, counted.asked.Load(), int64(2*w.stream.Len()))
		w.write(t, 1, `2`)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, 2}, w.positions())
	})
}

// slowAt is a stream that takes a millisecond to read a message.
type slowAt struct {
	relay.Publisher
	asked atomic.Int64
}

func (s *slowAt) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	s.asked.Add(1)
	time.Sleep(time.Millisecond)
	return s.Publisher.At(ctx, sequence)
}
