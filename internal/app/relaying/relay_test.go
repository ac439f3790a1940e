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

// inFakeTime runs a test with a harness in fake time. Afterwards it stops all instances.
func inFakeTime(t *testing.T, test func(t *testing.T, h *harness)) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness()
		defer func() {
			for _, i := range h.instances() {
				i.cancel()
			}
			h.running.Wait()
			require.Empty(t, h.complaints)
		}()
		test(t, h)
	})
}

func (h *harness) run(name string) *instance {
	i := h.start(name)
	h.join(i)
	synctest.Wait()
	return i
}

// newRelay returns a relay without injected faults. change replaces some of its ports.
func (h *harness) newRelay(logger *slog.Logger, change func(*relaying.Ports)) *relaying.Relay {
	notifier := memory.NewNotifier()
	ports := relaying.Ports{
		Log: h.log, Cursors: h.cursors, Publisher: h.stream, Parking: h.parking, Retention: h.cursors,
		Elector: memory.NewElector(h.lease, "me"), Halts: h.halts.Of("me"), Liveness: memory.NewLiveness(h.presence),
		Notifier: notifier, Listener: notifier,
	}
	change(&ports)
	return relaying.New(ports, relaying.Options{
		LeaseTTL: ttl, Poll: 500 * time.Millisecond, Batch: relay.ReadLimit{Count: 4, Bytes: 1000},
	}, logger)
}

// record commits count events of one aggregate and notifies all instances.
func (h *harness) record(t *testing.T, count int) {
	tx, ok := h.begin(0, count)
	require.True(t, ok)
	h.end(tx, true)
	h.wakeSome(0)
	synctest.Wait()
}

// TestHeals checks that the relay publishes events again that the stream had acknowledged and lost.
func TestHeals(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 6)
		h.stream.LoseAfter(2)
		time.Sleep(time.Second)
		require.Len(t, h.stream.Entries(), 6)
		status := leader.relay.Status()
		require.Equal(t, relaying.Counts{Elections: 1, TakeOvers: 2, Heals: 1}, status.Counts)
		require.EqualValues(t, 6, status.Position)
		require.Empty(t, h.check(nil, false))
	})
}

// TestHandover checks that a leader which is stopped resigns, so that the next relay leads within 100 ms, from the latest cursor.
func TestHandover(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		first := h.run("first")
		second := h.run("second")
		time.Sleep(10 * time.Second)
		h.record(t, 3)
		first.cancel()
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, relaying.Following, first.relay.Status().State)
		status := second.relay.Status()
		require.Equal(t, relaying.Leading, status.State)
		require.EqualValues(t, 3, status.Position, "known before anything is published")
		require.EqualValues(t, 1, first.relay.Status().Elections, "the counts outlast the term")
		cursor, err := h.cursors.Load(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3, cursor.Position)
	})
}

// TestDeadLeader checks that another relay leads within the lease's time to live and half a second after the leader died.
func TestDeadLeader(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		first := h.run("first")
		second := h.run("second")
		time.Sleep(10 * time.Second)
		first.crash()
		h.leave(first)
		h.record(t, 1)
		time.Sleep(ttl + 500*time.Millisecond)
		synctest.Wait()
		require.Equal(t, relaying.Leading, second.relay.Status().State)
		require.Len(t, h.stream.Entries(), 1)
	})
}

// TestStepsDownOnTime checks that a leader which cannot renew its lease stops before the lease expires for the others.
func TestStepsDownOnTime(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		time.Sleep(10 * time.Second)
		stop := make(chan struct{})
		h.running.Go(func() { // the leader cannot reach the lease
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					leader.inject("Renew", injectedFault{kind: failBefore})
					leader.inject("Acquire", injectedFault{kind: failBefore})
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

// TestCutOffLeaderLetsAnotherTry checks that a leader which cannot reach the broker for a whole lease resigns, so that another instance
// can try.
func TestCutOffLeaderLetsAnotherTry(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		var cut atomic.Bool
		leader.inner.Publisher = unreachableStream{h.stream, &cut}
		h.run("second")
		h.record(t, 1)
		cut.Store(true)
		h.record(t, 1)
		time.Sleep(ttl + time.Second)
		require.Len(t, h.stream.Entries(), 2)
		holder, _ := h.lease.Holder()
		require.Equal(t, "second", holder)
	})
}

// TestLongOutageIsFewLines checks that a long outage leaves one line of trouble for each term, with longer and longer terms, and one line
// when the relay works again.
func TestLongOutageIsFewLines(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		var text bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var down atomic.Bool
		down.Store(true)
		r := h.newRelay(slog.New(slog.NewTextHandler(&text, nil)), func(p *relaying.Ports) { p.Publisher = unreachableStream{h.stream, &down} })
		h.running.Go(func() { _ = r.Run(ctx) })
		time.Sleep(time.Minute)
		require.Contains(t, r.Status().Trouble, "injected outage")
		down.Store(false)
		time.Sleep(time.Second)
		require.Empty(t, r.Status().Trouble)
		cancel()
		h.running.Wait()
		for _, line := range []string{"became leader", "in trouble", "lost leadership"} { // after 3, 6, 12 and 24 seconds, and in the end
			require.Equal(t, 5, strings.Count(text.String(), line), text.String())
		}
		require.Equal(t, 1, strings.Count(text.String(), "relaying again"))
	})
}

// TestNewStreamIsRemembered checks that the relay halts if a new stream is deleted before it held a message. If the cursor did not know the
// stream, the relay would create a stream again.
func TestNewStreamIsRemembered(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		first := h.run("first")
		first.crash()
		h.leave(first)
		h.stream.Drop()
		second := h.run("second")
		time.Sleep(2 * ttl)
		require.NotNil(t, second.relay.Status().Halt)
		require.Equal(t, relay.HaltStreamMissing, second.relay.Status().Halt.Reason)
	})
}

// TestCopiedTailUnderARunningLeader checks that a leader halts on a copied message although the saved cursor is behind. The leader saves
// the cursor before it takes over again.
func TestCopiedTailUnderARunningLeader(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 6) // and the cursor is not saved yet
		h.stream.AppendCopy(3)
		h.record(t, 1)
		require.NotNil(t, leader.relay.Status().Halt)
		require.Equal(t, relay.HaltTailCopied, leader.relay.Status().Halt.Reason)
		require.Len(t, h.stream.Entries(), 7, "six events and the copy")
	})
}

// TestHealSavesTheCursorFirst checks that the cursor goes back before the relay publishes lost events again, so that retention keeps them.
func TestHealSavesTheCursorFirst(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 6)
		time.Sleep(2 * time.Second) // the cursor is saved
		h.stream.LoseAfter(2)
		leader.inject("Publish", injectedFault{kind: crashBefore})
		time.Sleep(time.Second)
		require.Len(t, h.stream.Entries(), 2)
		cursor, err := h.cursors.Load(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, cursor.StreamSequence)
		require.EqualValues(t, 2, cursor.Position)
	})
}

// TestDoubtConfirmsTheLease checks that a leader renews its lease after a failure, and stops at once if the lease is lost.
func TestDoubtConfirmsTheLease(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		time.Sleep(ttl/4 + 10*time.Millisecond) // the leader has just renewed the lease
		h.lease.Advance(2 * ttl)
		_, err := memory.NewElector(h.lease, "thief").Acquire(t.Context(), 0)
		require.NoError(t, err)
		leader.inject("Publish", injectedFault{kind: loseAnswer})
		h.record(t, 1)
		time.Sleep(50 * time.Millisecond)
		require.Equal(t, relaying.Following, leader.relay.Status().State)
	})
}

// TestOneHangingRenewalIsSurvived checks that a leader keeps the lease if a single renewal hangs.
func TestOneHangingRenewalIsSurvived(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		elector := &hangingElector{Elector: memory.NewElector(h.lease, "me")}
		var text bytes.Buffer
		r := h.newRelay(slog.New(slog.NewTextHandler(&text, nil)), func(p *relaying.Ports) { p.Elector = elector })
		ctx, cancel := context.WithCancel(t.Context())
		h.running.Go(func() { _ = r.Run(ctx) })
		time.Sleep(time.Second)
		elector.next.Store(true)
		time.Sleep(5 * ttl)
		require.False(t, elector.next.Load(), "a renewal hung")
		cancel()
		h.running.Wait()
		require.Equal(t, 1, strings.Count(text.String(), "lost leadership"), text.String())
		require.Contains(t, text.String(), "reason=resigned")
	})
}

// TestForeignMessage checks that the relay goes on after messages of somebody else, and warns of each once.
func TestForeignMessage(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		var text bytes.Buffer
		var down atomic.Bool
		r := h.newRelay(slog.New(slog.NewTextHandler(&text, nil)), func(p *relaying.Ports) { p.Publisher = unreachableStream{h.stream, &down} })
		ctx, cancel := context.WithCancel(t.Context())
		h.running.Go(func() { _ = r.Run(ctx) })
		h.record(t, 3)
		time.Sleep(time.Second)
		h.stream.AppendForeign()
		time.Sleep(time.Second)
		h.record(t, 3)
		down.Store(true) // so that the relay takes over again and again
		time.Sleep(time.Minute)
		down.Store(false)
		h.stream.AppendForeign()
		time.Sleep(time.Second)
		cancel()
		h.running.Wait()
		require.Len(t, h.stream.Entries(), 6)
		require.Empty(t, h.check(nil, false))
		require.Equal(t, 2, strings.Count(text.String(), "somebody else"), text.String())
	})
}

// TestManyForeignMessages checks that the relay reads each message of somebody else once, so that many of them do not slow it down.
func TestManyForeignMessages(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		counted := &slowStream{Publisher: h.stream}
		h.publisher = counted
		h.run("leader")
		h.record(t, 1)
		ctx, stop := context.WithCancel(t.Context())
		h.running.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(100 * time.Millisecond)
				h.stream.AppendForeign()
			}
		})
		defer stop()
		time.Sleep(10 * time.Minute)
		require.Less(t, counted.asked.Load(), int64(2*h.stream.LastSequence()))
		h.write(t, 1, `2`)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, 2}, h.positions())
	})
}

// slowStream is a stream that needs a millisecond to read a message.
type slowStream struct {
	relay.Publisher
	asked atomic.Int64
}

func (s *slowStream) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	s.asked.Add(1)
	time.Sleep(time.Millisecond)
	return s.Publisher.At(ctx, sequence)
}
