package relaying_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// elections returns how many terms there were in all.
func (h *harness) elections() int64 {
	_, token := h.lease.Holder()
	return token
}

// pair starts a leader, which publishes some events, and a follower.
func (h *harness) pair(t *testing.T) (leader, follower *instance) {
	t.Helper()
	leader, follower = h.run("first"), h.run("second")
	h.record(t, 3)
	time.Sleep(10 * time.Second)
	require.Equal(t, relaying.Leading, leader.relay.Status().State)
	require.Len(t, h.stream.Entries(), 3)
	return leader, follower
}

// kill ends an instance at once, like kill -9.
func (h *harness) kill(i *instance) {
	i.crash()
	h.leave(i)
}

// requireFollowed commits an event now. It requires that the event is published between least and most after the commit. The
// parameter leads is the instance that must be the leader then.
func (h *harness) requireFollowed(t *testing.T, leads *instance, least, most time.Duration) {
	t.Helper()
	began, events := time.Now(), len(h.stream.Entries())
	h.record(t, 1)
	for len(h.stream.Entries()) == events && time.Since(began) < time.Minute {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	require.GreaterOrEqual(t, took, least)
	require.LessOrEqual(t, took, most)
	require.Equal(t, relaying.Leading, leads.relay.Status().State)
}

// TestDeadLeaderIsFollowedAtOnce checks that a follower does not wait for the lease of a leader that the broker reports as gone.
func TestDeadLeaderIsFollowedAtOnce(t *testing.T) {
	for after := range 10 { // at any moment between two probes
		inFakeTime(t, func(t *testing.T, h *harness) {
			leader, follower := h.pair(t)
			time.Sleep(time.Duration(after) * 11 * time.Millisecond)
			h.kill(leader)
			h.requireFollowed(t, follower, 0, 220*time.Millisecond)
			require.EqualValues(t, 2, h.elections())
		})
	}
}

// TestDeadLeaderIsFollowedWithoutAnEvent checks that a follower does not wait for the lease of a dead leader, even if no notification
// arrives.
func TestDeadLeaderIsFollowedWithoutAnEvent(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader, follower := h.pair(t)
		h.kill(leader)
		time.Sleep(220 * time.Millisecond)
		require.Equal(t, relaying.Leading, follower.relay.Status().State)
	})
}

// TestDeadLeadersAreFollowedAgainAndAgain checks that an instance which took the lease early is itself replaced early when it dies.
func TestDeadLeadersAreFollowedAgainAndAgain(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader, follower := h.pair(t)
		for range 20 {
			h.kill(leader)
			h.requireFollowed(t, follower, 0, 220*time.Millisecond)
			leader, follower = follower, h.run("another")
			time.Sleep(time.Second)
		}
		require.EqualValues(t, 21, h.elections())
	})
}

// TestStartedAgainUnderItsOwnName checks that an instance which was killed and started again does not wait for its own former lease.
func TestStartedAgainUnderItsOwnName(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		only := h.run("only")
		h.record(t, 3)
		time.Sleep(10 * time.Second)
		h.kill(only)
		h.requireFollowed(t, h.run("only"), 0, 220*time.Millisecond)
	})
}

// TestFrozenLeaderKeepsItsLease checks that a frozen leader is replaced only when its lease expires: its connection stays open, so the
// broker does not report it as gone.
func TestFrozenLeaderKeepsItsLease(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader, follower := h.pair(t)
		leader.stall(time.Minute)
		h.requireFollowed(t, follower, ttl*3/4-50*time.Millisecond, ttl+500*time.Millisecond)
	})
}

// TestYoungSessionWaits checks that a follower which has just reconnected waits for the leader to reconnect, but not for ever.
func TestYoungSessionWaits(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader, follower := h.pair(t)
		leader.broker.Disconnect()
		follower.broker.Disconnect()
		follower.broker.Reconnect()
		time.Sleep(1900 * time.Millisecond)
		require.EqualValues(t, 1, h.elections())
		time.Sleep(400 * time.Millisecond)
		require.EqualValues(t, 2, h.elections(), "but not for ever")
		require.Equal(t, relaying.Leading, follower.relay.Status().State)
	})
}

// TestFollowerThatCannotPublishWaits checks that a follower which reaches neither the leader nor the stream does not take the lease early.
func TestFollowerThatCannotPublishWaits(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		var cut atomic.Bool
		leader := h.run("leader")
		h.publisher = unreachableStream{h.stream, &cut}
		h.run("follower")
		h.record(t, 1)
		cut.Store(true)
		leader.broker.Disconnect()
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, h.elections())
		require.Equal(t, relaying.Leading, leader.relay.Status().State)
		cut.Store(false)
		time.Sleep(time.Second)
		require.EqualValues(t, 2, h.elections())
	})
}

// TestMisdirectedFollowerWaits checks that a follower at another broker, which does not know the leader, does not take the lease early.
func TestMisdirectedFollowerWaits(t *testing.T) {
	for name, has := range map[string]bool{"no stream": false, "another stream": true} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, h *harness) {
				leader := h.run("leader")
				h.record(t, 3)
				time.Sleep(time.Second)
				elsewhere := memory.NewOtherStream()
				if has { // twice, because the identity of a stream in memory is its number
					for range 2 {
						elsewhere.Drop()
						_, err := elsewhere.Open(t.Context(), 1)
						require.NoError(t, err)
					}
				}
				h.publisher, h.presence = elsewhere, memory.NewPresence()
				h.run("misdirected")
				time.Sleep(time.Minute)
				require.EqualValues(t, 1, h.elections())
				require.Equal(t, relaying.Leading, leader.relay.Status().State)
			})
		})
	}
}

// TestReconnectingLeaderKeepsItsLease checks that a leader which reconnects quickly keeps its lease.
func TestReconnectingLeaderKeepsItsLease(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader, _ := h.pair(t)
		for n := range 20 {
			leader.broker.Disconnect()
			time.Sleep(time.Duration(n) * 5 * time.Millisecond)
			leader.broker.Reconnect()
			time.Sleep(time.Second + time.Duration(n)*7*time.Millisecond)
		}
		require.EqualValues(t, 1, h.elections())
		require.EqualValues(t, 1, leader.relay.Status().Elections)
	})
}

// TestRestartingBrokerKeepsTheLeader checks that the leader keeps its lease over restarts of the broker, though it reconnects last.
func TestRestartingBrokerKeepsTheLeader(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader, follower := h.pair(t)
		third := h.run("third")
		for range 20 {
			for _, each := range []*instance{leader, follower, third} {
				each.broker.Disconnect()
			}
			time.Sleep(time.Second)
			for _, each := range []*instance{third, follower, leader} {
				each.broker.Reconnect()
				time.Sleep(800 * time.Millisecond)
			}
			time.Sleep(time.Second)
		}
		require.EqualValues(t, 1, h.elections())
	})
}

// TestNoTakingTurns checks that two instances do not take the lease from each other all the time, although neither sees the other through
// the broker.
func TestNoTakingTurns(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		first, second := h.pair(t)
		first.mislead(true, time.Hour)
		second.mislead(true, time.Hour)
		for range 100 {
			h.record(t, 1)
			time.Sleep(200 * time.Millisecond)
		}
		require.EqualValues(t, 2, h.elections(), "in twenty seconds")
		time.Sleep(4 * time.Minute)
		require.LessOrEqual(t, h.elections(), int64(2+8), "afterwards one in ten times the lease")
	})
}

// TestFollowerAsksTheBroker checks that a follower asks for the lease at most twice a second, however many notifications arrive.
func TestFollowerAsksTheBroker(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		_, follower := h.pair(t)
		tries, probes := h.times("Acquire: fine"), h.times("Probe: fine")
		for range 1000 {
			follower.notifier.Notify()
			time.Sleep(10 * time.Millisecond)
		}
		require.InDelta(t, 20, h.times("Acquire: fine")-tries, 2, "in ten seconds")
		require.InDelta(t, 200, h.times("Probe: fine")-probes, 20)

		tries, probes = h.times("Acquire: fine"), h.times("Probe: fine")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.InDelta(t, 20, h.times("Acquire: fine")-tries, 2)
		require.InDelta(t, 100, h.times("Probe: fine")-probes, 2)
	})
}

// TestLeaderThatGaveUpIsNotHasty checks that an instance which has just given up does not take the lease early from the next leader.
func TestLeaderThatGaveUpIsNotHasty(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		var fails atomic.Bool
		h.publisher = readOnlyStream{h.stream, &fails}
		leader := h.run("leader")
		h.publisher = h.stream
		follower := h.run("follower")
		h.record(t, 3)
		fails.Store(true)
		h.record(t, 1)
		time.Sleep(ttl + 1500*time.Millisecond)
		require.Equal(t, relaying.Leading, follower.relay.Status().State)
		leader.mislead(true, time.Hour)
		time.Sleep(9 * ttl)
		require.EqualValues(t, 2, h.elections())
		require.Len(t, h.stream.Entries(), 4)
	})
}

// TestWithdrawsFirst checks that a leader withdraws its announcement and frees the lease before it notifies the followers.
func TestWithdrawsFirst(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		o := &callRecorder{Elector: memory.NewElector(h.lease, "me"), Liveness: memory.NewLiveness(h.presence)}
		r := h.newRelay(h.logger, func(p *relaying.Ports) { p.Elector, p.Liveness, p.Notifier = o, o, o })
		ctx, cancel := context.WithCancel(t.Context())
		h.running.Go(func() { _ = r.Run(ctx) })
		time.Sleep(time.Second)
		cancel()
		h.running.Wait()
		require.Equal(t, []string{"acquire", "announce", "withdraw", "resign", "notify"}, o.calls)
	})
}

// callRecorder records the order of calls.
type callRecorder struct {
	relay.Elector
	relay.Liveness
	calls []string
}

func (o *callRecorder) Acquire(ctx context.Context, gone int64) (relay.Term, error) {
	o.calls = append(o.calls, "acquire")
	return o.Elector.Acquire(ctx, gone)
}

func (o *callRecorder) Resign(ctx context.Context, term relay.Term) error {
	o.calls = append(o.calls, "resign")
	return o.Elector.Resign(ctx, term)
}

func (o *callRecorder) Announce(token int64) (withdraw func()) {
	o.calls = append(o.calls, "announce")
	inner := o.Liveness.Announce(token)
	return func() {
		o.calls = append(o.calls, "withdraw")
		inner()
	}
}

func (o *callRecorder) Notify() { o.calls = append(o.calls, "notify") }

// readOnlyStream is a stream that can be read, and that fails to append while now is true.
type readOnlyStream struct {
	relay.Publisher
	now *atomic.Bool
}

func (f readOnlyStream) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	if f.now.Load() {
		return after, errOutage
	}
	return f.Publisher.Publish(ctx, after, batch)
}
