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

// elections is how often the lease changed hands.
func (w *world) elections() int64 {
	_, token := w.lease.Holder()
	return token
}

// pair is a leader that has published something, and a follower.
func (w *world) pair(t *testing.T) (leader, follower *instance) {
	t.Helper()
	leader, follower = w.run("first"), w.run("second")
	w.record(t, 3)
	time.Sleep(10 * time.Second)
	require.Equal(t, relaying.Leading, leader.relay.Status().State)
	require.Len(t, w.stream.Entries(), 3)
	return leader, follower
}

// kill ends an instance without a word, as kill -9 does.
func (w *world) kill(i *instance) {
	i.crash()
	w.leave(i)
}

// requireFollowed commits an event now, and waits until the other instance publishes it.
func (w *world) requireFollowed(t *testing.T, leads *instance, least, most time.Duration) {
	t.Helper()
	began, events := time.Now(), len(w.stream.Entries())
	w.record(t, 1)
	for len(w.stream.Entries()) == events && time.Since(began) < time.Minute {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	require.GreaterOrEqual(t, took, least)
	require.LessOrEqual(t, took, most)
	require.Equal(t, relaying.Leading, leads.relay.Status().State)
}

// TestDeadLeaderIsFollowedAtOnce does not wait for the lease of a leader that the broker knows to be gone.
func TestDeadLeaderIsFollowedAtOnce(t *testing.T) {
	for after := range 10 { // at any moment between two probes
		bubble(t, func(t *testing.T, w *world) {
			leader, follower := w.pair(t)
			time.Sleep(time.Duration(after) * 11 * time.Millisecond)
			w.kill(leader)
			w.requireFollowed(t, follower, 0, 220*time.Millisecond)
			require.EqualValues(t, 2, w.elections())
		})
	}
}

// TestDeadLeaderIsFollowedWithoutAnEvent is the same on a quiet service: nothing rings.
func TestDeadLeaderIsFollowedWithoutAnEvent(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader, follower := w.pair(t)
		w.kill(leader)
		time.Sleep(220 * time.Millisecond)
		require.Equal(t, relaying.Leading, follower.relay.Status().State)
	})
}

// TestDeadLeadersAreFollowedAgainAndAgain shows that taking a lease early does not keep an instance, or those after it, from being
// followed early.
func TestDeadLeadersAreFollowedAgainAndAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader, follower := w.pair(t)
		for range 20 {
			w.kill(leader)
			w.requireFollowed(t, follower, 0, 220*time.Millisecond)
			leader, follower = follower, w.run("another")
			time.Sleep(time.Second)
		}
		require.EqualValues(t, 21, w.elections())
	})
}

// TestStartedAgainUnderItsOwnName does not wait for the lease that it held before it was killed.
func TestStartedAgainUnderItsOwnName(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		only := w.run("only")
		w.record(t, 3)
		time.Sleep(10 * time.Second)
		w.kill(only)
		w.requireFollowed(t, w.run("only"), 0, 220*time.Millisecond)
	})
}

// TestFrozenLeaderKeepsItsLease shows that its connection stands, so the broker does not know that it is gone.
func TestFrozenLeaderKeepsItsLease(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader, follower := w.pair(t)
		leader.stall(time.Minute)
		w.requireFollowed(t, follower, ttl*3/4-50*time.Millisecond, ttl+500*time.Millisecond)
	})
}

// TestYoungSessionWaits shows that after a reconnect, the leader may be back later than the follower.
func TestYoungSessionWaits(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader, follower := w.pair(t)
		leader.broker.Disconnect()
		follower.broker.Disconnect()
		follower.broker.Reconnect()
		time.Sleep(1900 * time.Millisecond)
		require.EqualValues(t, 1, w.elections())
		time.Sleep(400 * time.Millisecond)
		require.EqualValues(t, 2, w.elections(), "but not for ever")
		require.Equal(t, relaying.Leading, follower.relay.Status().State)
	})
}

// TestFollowerThatCannotPublishWaits shows that on the wrong side of a partition nobody is seen, neither the leader nor the stream.
func TestFollowerThatCannotPublishWaits(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var cut atomic.Bool
		leader := w.run("leader")
		w.publisher = outage{w.stream, &cut}
		w.run("follower")
		w.record(t, 1)
		cut.Store(true)
		leader.broker.Disconnect()
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, w.elections())
		require.Equal(t, relaying.Leading, leader.relay.Status().State)
		cut.Store(false)
		time.Sleep(time.Second)
		require.EqualValues(t, 2, w.elections())
	})
}

// TestMisdirectedFollowerWaits shows that at another broker nobody knows the leader, and the stream there is another one, or none.
func TestMisdirectedFollowerWaits(t *testing.T) {
	for name, has := range map[string]bool{"no stream": false, "another stream": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				leader := w.run("leader")
				w.record(t, 3)
				time.Sleep(time.Second)
				elsewhere := memory.NewOtherStream()
				if has { // the second, because a stream's identity is its number here
					for range 2 {
						elsewhere.Drop()
						_, err := elsewhere.Open(t.Context(), 1)
						require.NoError(t, err)
					}
				}
				w.publisher, w.presence = elsewhere, memory.NewPresence()
				w.run("misdirected")
				time.Sleep(time.Minute)
				require.EqualValues(t, 1, w.elections())
				require.Equal(t, relaying.Leading, leader.relay.Status().State)
			})
		})
	}
}

// TestReconnectingLeaderKeepsItsLease cuts the leader's connection twenty times; it is back within the time that a client needs.
func TestReconnectingLeaderKeepsItsLease(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader, _ := w.pair(t)
		for n := range 20 {
			leader.broker.Disconnect()
			time.Sleep(time.Duration(n) * 5 * time.Millisecond)
			leader.broker.Reconnect()
			time.Sleep(time.Second + time.Duration(n)*7*time.Millisecond)
		}
		require.EqualValues(t, 1, w.elections())
		require.EqualValues(t, 1, leader.relay.Status().Elections)
	})
}

// TestRestartingBrokerKeepsTheLeader restarts the broker twenty times; the leader is the last that is connected again.
func TestRestartingBrokerKeepsTheLeader(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader, follower := w.pair(t)
		third := w.run("third")
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
		require.EqualValues(t, 1, w.elections())
	})
}

// TestNoTakingTurns has two instances that never see each other, each of which can publish: one takes the lease early, and the
// other one waits for it.
func TestNoTakingTurns(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first, second := w.pair(t)
		first.mislead(true, time.Hour)
		second.mislead(true, time.Hour)
		for range 100 {
			w.record(t, 1)
			time.Sleep(200 * time.Millisecond)
		}
		require.EqualValues(t, 2, w.elections(), "in twenty seconds")
		time.Sleep(4 * time.Minute)
		require.LessOrEqual(t, w.elections(), int64(2+8), "afterwards one in ten times the lease")
	})
}

// TestFollowerAsksTheBroker shows that a follower that is woken all the time asks Postgres no more than twice a second.
func TestFollowerAsksTheBroker(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, follower := w.pair(t)
		tries, probes := w.times("Acquire: fine"), w.times("Probe: fine")
		for range 1000 {
			follower.bell.Notify()
			time.Sleep(10 * time.Millisecond)
		}
		require.InDelta(t, 20, w.times("Acquire: fine")-tries, 2, "in ten seconds")
		require.InDelta(t, 200, w.times("Probe: fine")-probes, 20)

		tries, probes = w.times("Acquire: fine"), w.times("Probe: fine")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.InDelta(t, 20, w.times("Acquire: fine")-tries, 2)
		require.InDelta(t, 100, w.times("Probe: fine")-probes, 2)
	})
}

// TestLeaderThatGaveUpIsNotHasty shows that an instance which has just failed as a leader does not take the lease early from the one that tries
// next.
func TestLeaderThatGaveUpIsNotHasty(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var fails atomic.Bool
		w.publisher = failing{w.stream, &fails}
		leader := w.run("leader")
		w.publisher = w.stream
		follower := w.run("follower")
		w.record(t, 3)
		fails.Store(true)
		w.record(t, 1)
		time.Sleep(ttl + 1500*time.Millisecond)
		require.Equal(t, relaying.Leading, follower.relay.Status().State)
		leader.mislead(true, time.Hour)
		time.Sleep(9 * ttl)
		require.EqualValues(t, 2, w.elections())
		require.Len(t, w.stream.Entries(), 4)
	})
}

// TestWithdrawsFirst shows that a follower which hears the ring of a leader that resigns finds neither its announcement nor its lease.
func TestWithdrawsFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		o := &order{Elector: memory.NewElector(w.lease, "me"), Liveness: memory.NewLiveness(w.presence)}
		bell := memory.NewNotifier()
		r := relaying.New(relaying.Ports{
			Log: w.log, Cursors: w.cursors, Publisher: w.stream, Parking: w.parking, Retention: w.cursors,
			Elector: o, Liveness: o, Notifier: o, Listener: bell,
		}, relaying.Options{LeaseTTL: ttl, Poll: 500 * time.Millisecond, Slice: relay.ReadLimit{Count: 4, Bytes: 1000}}, w.logger)
		ctx, cancel := context.WithCancel(t.Context())
		w.running.Go(func() { _ = r.Run(ctx) })
		time.Sleep(time.Second)
		cancel()
		w.running.Wait()
		require.Equal(t, []string{"acquire", "announce", "withdraw", "resign", "wake"}, o.calls)
	})
}

// order writes down what is called.
type order struct {
	relay.Elector
	relay.Liveness
	calls []string
}

func (o *order) Acquire(ctx context.Context, gone int64) (relay.Term, error) {
	o.calls = append(o.calls, "acquire")
	return o.Elector.Acquire(ctx, gone)
}

func (o *order) Resign(ctx context.Context, term relay.Term) error {
	o.calls = append(o.calls, "resign")
	return o.Elector.Resign(ctx, term)
}

func (o *order) Announce(token int64) (withdraw func()) {
	o.calls = append(o.calls, "announce")
	inner := o.Liveness.Announce(token)
	return func() {
		o.calls = append(o.calls, "withdraw")
		inner()
	}
}

func (o *order) Notify() { o.calls = append(o.calls, "wake") }

// failing is a stream that can be read at any time, and takes nothing for a while.
type failing struct {
	relay.Publisher
	now *atomic.Bool
}

func (f failing) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	if f.now.Load() {
		return after, errOutage
	}
	return f.Publisher.Publish(ctx, after, batch)
}
