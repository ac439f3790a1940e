package relaying_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// write commits one event of an aggregate, and wakes everybody.
func (w *world) write(t *testing.T, aggregate int, payload string) outbox.Position {
	t.Helper()
	tx, ok := w.beginWith(aggregate, 1, payload)
	require.True(t, ok)
	w.end(tx, true)
	w.wakeSome(0)
	synctest.Wait()
	entries := w.log.Committed()
	return entries[len(entries)-1].Position
}

// positions is what the stream holds: the position of each event, or minus the position of the event that a notice parked.
func (w *world) positions() []int {
	var all []int
	for _, message := range w.stream.Messages() {
		if message.Event == 0 {
			all = append(all, -int(message.Progress.Position))
		} else {
			all = append(all, int(message.Event))
		}
	}
	return all
}

func (w *world) states() map[int]relay.ParkedState {
	states := make(map[int]relay.ParkedState)
	for _, event := range w.parking.Lot() {
		states[int(event.Position)] = event.State
	}
	return states
}

// parked has a leader and five events: 2 can never be published, and 4 waits behind it.
func parked(t *testing.T, w *world) *instance {
	t.Helper()
	leader := w.run("leader")
	w.write(t, 0, `1`)
	w.write(t, 1, poison)
	w.write(t, 2, `3`)
	w.write(t, 1, `4`)
	w.write(t, 0, `5`)
	require.Equal(t, []int{1, -2, 3, 5}, w.positions())
	require.Equal(t, map[int]relay.ParkedState{2: relay.Parked, 4: relay.Parked}, w.states())
	return leader
}

// TestParks: what can never be published waits with what comes after it in its aggregate; everything else flows.
func TestParks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := parked(t, w)
		time.Sleep(time.Minute)
		status := leader.relay.Status()
		require.Equal(t, relaying.Leading, status.State)
		require.True(t, status.Parked)
		require.EqualValues(t, 5, status.Position)
		lot := w.parking.Lot()
		require.Contains(t, lot[0].Reason, "the broker takes at most 10")
		require.Contains(t, lot[1].Reason, "position 2")
		require.Empty(t, w.judge(nil, false))
	})
}

// TestParksAtTheEnd: the cursor goes on over what is parked, although no message of the stream says so.
func TestParksAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := parked(t, w)
		w.write(t, 1, `6`)
		time.Sleep(2 * time.Second)
		cursor, err := w.cursors.Load(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 6, cursor.Position)
		require.EqualValues(t, 4, cursor.StreamSequence)
		leader.cancel()
		time.Sleep(time.Second)
		w.leave(leader)
		w.run("second")
		w.write(t, 0, `7`)
		require.Equal(t, []int{1, -2, 3, 5, 7}, w.positions())
	})
}

// TestNotParkedIfTheBrokerTakesItNow: the limits that the publisher knew may be out of date.
func TestNotParkedIfTheBrokerTakesItNow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publisher = &outdated{Stream: w.stream}
		w.run("leader")
		w.stream.LimitPayload(100)
		w.write(t, 1, poison)
		require.Equal(t, []int{1}, w.positions())
		require.Empty(t, w.parking.Lot())
	})
}

// TestRedrives publishes at the end, in order, what an operator asks for, and then the aggregate flows again.
func TestRedrives(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := parked(t, w)
		w.stream.LimitPayload(100)
		n, err := w.parking.Redrive(t.Context(), &outbox.Key{Type: "order", ID: "order-1"})
		require.NoError(t, err)
		require.Equal(t, 2, n)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, 2, 4}, w.positions())
		w.write(t, 1, `6`)
		require.Equal(t, []int{1, -2, 3, 5, 2, 4, 6}, w.positions())
		require.False(t, leader.relay.Status().Parked)
		require.Equal(t, map[int]relay.ParkedState{2: relay.Redriven, 4: relay.Redriven}, w.states())
		require.Empty(t, w.judge(nil, true))
	})
}

// TestRedrivesWhatTheBrokerTakesByNow: the leader, which was woken, has not looked at the stream since the limit was raised, and so
// has not read what it should redrive. It reads again before it judges.
func TestRedrivesWhatTheBrokerTakesByNow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		parked(t, w)
		time.Sleep(150 * time.Millisecond)
		w.stream.LimitPayload(100)
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		w.write(t, 2, `6`)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, 6, 2, 4}, w.positions())
	})
}

// TestRefusedAgain parks the aggregate again when the broker still does not take the event.
func TestRefusedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		parked(t, w)
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, -5}, w.positions(), "the last one confirms the end of the stream")
		require.Equal(t, map[int]relay.ParkedState{2: relay.Parked, 4: relay.Parked}, w.states())
	})
}

// TestRefusedBesideAFrozenRedrive lets a leader freeze when it is about to redrive, and the next one refuse the same events,
// because its broker takes less. What the first one sends afterwards must not be stored: the lot says that the events wait.
func TestRefusedBesideAFrozenRedrive(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first := parked(t, w)
		w.stream.LimitPayload(100)
		first.plan("Redrive", planned{mishap: stallBefore, delay: 3 * ttl})
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		second := w.run("second")
		second.narrow(limit)
		time.Sleep(2 * ttl)
		require.Equal(t, map[int]relay.ParkedState{2: relay.Parked, 4: relay.Parked}, w.states())
		require.NoError(t, w.parking.Discard(t.Context(), 4))
		time.Sleep(2 * ttl) // the first one goes on
		require.Equal(t, []int{1, -2, 3, 5, -5}, w.positions())

		second.narrow(0)
		_, err = w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, -5, 2}, w.positions())
		require.Equal(t, map[int]relay.ParkedState{2: relay.Redriven, 4: relay.Discarded}, w.states())
	})
}

// TestRedriveLooksOnceMore does not refuse what the broker takes since a moment ago.
func TestRedriveLooksOnceMore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := parked(t, w)
		w.stream.LimitPayload(100)
		leader.narrow(limit)
		leader.widenAtLook()
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, 2, 4}, w.positions())
	})
}

// TestDiscards gives one event up; those behind it wait for a redrive, and the version that was given up never comes.
func TestDiscards(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		parked(t, w)
		require.NoError(t, w.parking.Discard(t.Context(), 2))
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5}, w.positions())
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, 4}, w.positions())
		require.Equal(t, map[int]relay.ParkedState{2: relay.Discarded, 4: relay.Redriven}, w.states())
	})
}

// TestParkingSurvivesCrashes kills the leader at each step of parking, and of redriving.
func TestParkingSurvivesCrashes(t *testing.T) {
	for _, method := range []string{"Notify", "Settle", "SetAside", "Redrive"} {
		for _, when := range []mishap{crashBefore, crashAfter, loseAnswer, arriveLate} {
			t.Run(method+" "+when.String(), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					leader := w.run("leader")
					w.run("second")
					w.run("third")
					w.write(t, 1, `1`)
					leader.plan(method, planned{mishap: when, delay: ttl})
					w.write(t, 1, poison)
					w.write(t, 1, `3`)
					w.write(t, 0, `4`)
					time.Sleep(2 * ttl)
					require.Equal(t, []int{1, -2, 4}, w.positions())
					require.Equal(t, map[int]relay.ParkedState{2: relay.Parked, 3: relay.Parked}, w.states())
					w.stream.LimitPayload(100)
					_, err := w.parking.Redrive(t.Context(), nil)
					require.NoError(t, err)
					time.Sleep(3 * ttl)
					w.write(t, 1, `5`)
					require.Equal(t, []int{1, -2, 4, 2, 3, 5}, w.positions())
					require.Empty(t, w.judge(nil, true))
					require.NotZero(t, w.times(method+": "+when.String()))
				})
			})
		}
	}
}

// TestStreamLosesParkingAndRedriving: the parking lot remembers what the stream has forgotten.
func TestStreamLosesParkingAndRedriving(t *testing.T) {
	for left, want := range map[uint64][]int{
		6: {1, -2, 3, 5, 2, 4, 6},     // nothing is lost but 6
		5: {1, -2, 3, 5, 2, -5, 4, 6}, // 4 is redriven again, after a notice that proves that the stream ends there
		4: {1, -2, 3, 5, -5, 2, 4, 6}, // both are
		2: {1, -2, -2, 3, 5, 2, 4, 6},
		1: {1, -1, 3, 5, 2, 4, 6}, // the notice of parking is not needed any more
	} {
		bubble(t, func(t *testing.T, w *world) {
			parked(t, w)
			w.stream.LimitPayload(100)
			_, err := w.parking.Redrive(t.Context(), nil)
			require.NoError(t, err)
			time.Sleep(time.Second)
			w.write(t, 1, `6`)
			w.stream.Regress(left)
			time.Sleep(5 * time.Second)
			require.ElementsMatch(t, want, w.positions(), "%d left", left)
			require.Empty(t, w.judge(nil, true), "%d left", left)
		})
	}
}

// TestRetention removes what was published long enough ago, keeps what waits, and what the stream may still need.
func TestRetention(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		parked(t, w)
		time.Sleep(retention - time.Second)
		require.Len(t, w.log.Readable(), 5)
		w.write(t, 0, `6`)
		time.Sleep(retention / 2)
		require.Equal(t, []int{2, 4, 6}, w.readable(), "what is parked stays")
		w.stream.Regress(5 - 1) // 6 was published last
		time.Sleep(time.Second)
		w.write(t, 0, `7`)
		require.Equal(t, []int{1, -2, 3, 5, 6, 7}, w.positions(), "healed")
		require.NoError(t, w.parking.Discard(t.Context(), 2))
		require.NoError(t, w.parking.Discard(t.Context(), 4))
		time.Sleep(3 * retention)
		require.Empty(t, w.readable())
		require.Empty(t, w.parking.Lot())
		w.write(t, 1, `8`)
		require.Equal(t, []int{1, -2, 3, 5, 6, 7, 8}, w.positions())
	})
}

func (w *world) readable() []int {
	var all []int
	for _, entry := range w.log.Readable() {
		all = append(all, int(entry.Position))
	}
	return all
}

// TestRetentionRestsWhileHalted: what the stream may have lost must not be removed.
func TestRetentionRestsWhileHalted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.run("leader")
		w.record(t, 5)
		w.stream.Drop()
		time.Sleep(10 * retention)
		require.Len(t, w.log.Readable(), 5)
	})
}

// TestRetentionRestsWhileTheLogIsNotWhatItWas: what was never published must not be removed.
func TestRetentionRestsWhileTheLogIsNotWhatItWas(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 3)
		time.Sleep(2 * time.Second)
		leader.crash()
		w.leave(leader)
		w.log.Forget(2)
		tx, ok := w.begin(1, 1)
		require.True(t, ok)
		w.end(tx, true)
		w.reader = slow{w.log}
		second := w.start("second")
		w.join(second)
		time.Sleep(100 * retention)
		require.Equal(t, relay.HaltHistoryLost, second.relay.Status().Halt.Reason)
		require.Equal(t, []int{1, 2, 3}, w.readable())
	})
}

// slow is a log that takes its time.
type slow struct{ relay.Log }

func (s slow) After(ctx context.Context, from outbox.Progress, limit relay.ReadLimit) (relay.Page, error) {
	time.Sleep(7 * time.Millisecond)
	return s.Log.After(ctx, from, limit)
}

// TestHealsWhileTheLogWaits: behind an open transaction the leader still sees that the stream lost messages, before
// retention removes them.
func TestHealsWhileTheLogWaits(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 5)
		time.Sleep(2 * time.Second)
		tx, ok := w.begin(1, 1)
		require.True(t, ok)
		w.write(t, 2, `7`)
		w.stream.Regress(2)
		time.Sleep(3 * retention)
		require.Equal(t, []int{1, 2, 3, 4, 5}, w.positions())
		w.end(tx, true)
		w.wakeSome(0)
		time.Sleep(time.Second)
		require.Empty(t, w.judge(leader.relay.Status().Halt, true))
	})
}

// TestRedrivesWhileTheLogWaits : operators need not wait for somebody's open transaction.
func TestRedrivesWhileTheLogWaits(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		parked(t, w)
		w.stream.LimitPayload(100)
		tx, ok := w.begin(3, 1)
		require.True(t, ok)
		defer w.end(tx, true)
		w.write(t, 2, `7`)
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		require.Equal(t, []int{1, -2, 3, 5, 2, 4}, w.positions())
	})
}

// outdated is a publisher that believes in an old limit until it looks at the stream again.
type outdated struct {
	*memory.Stream
	refused, looked bool
}

func (o *outdated) Look(ctx context.Context) (relay.StreamInfo, error) {
	o.looked = o.refused
	return o.Stream.Look(ctx)
}

func (o *outdated) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	if !o.looked {
		o.refused = true
		return after, &relay.RefusedError{Entry: batch[0], Reason: "it was too large yesterday"}
	}
	return o.Stream.Publish(ctx, after, batch)
}
