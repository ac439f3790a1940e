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

// write commits one event of an aggregate, and notifies all instances.
func (h *harness) write(t *testing.T, aggregate int, payload string) outbox.Position {
	t.Helper()
	tx, ok := h.beginWith(aggregate, 1, payload)
	require.True(t, ok)
	h.end(tx, true)
	h.wakeSome(0)
	synctest.Wait()
	entries := h.log.Committed()
	return entries[len(entries)-1].Position
}

// positions returns the position of each event in the stream. For a control message it returns the negative position of its progress.
func (h *harness) positions() []int {
	var all []int
	for _, message := range h.stream.Messages() {
		if message.Event == 0 {
			all = append(all, -int(message.Progress.Position))
		} else {
			all = append(all, int(message.Event))
		}
	}
	return all
}

func (h *harness) states() map[int]relay.ParkedState {
	states := make(map[int]relay.ParkedState)
	for _, event := range h.parking.Lot() {
		states[int(event.Position)] = event.State
	}
	return states
}

// parked starts a leader and commits five events. Event 2 can never be published, and 4 waits behind it.
func parked(t *testing.T, h *harness) *instance {
	t.Helper()
	leader := h.run("leader")
	h.write(t, 0, `1`)
	h.write(t, 1, poison)
	h.write(t, 2, `3`)
	h.write(t, 1, `4`)
	h.write(t, 0, `5`)
	require.Equal(t, []int{1, -2, 3, 5}, h.positions())
	require.Equal(t, map[int]relay.ParkedState{2: relay.Parked, 4: relay.Parked}, h.states())
	return leader
}

// TestParks checks that an event that can never be published is parked together with the later events of its aggregate, and that all
// other events are published.
func TestParks(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := parked(t, h)
		time.Sleep(time.Minute)
		status := leader.relay.Status()
		require.Equal(t, relaying.Leading, status.State)
		require.True(t, status.Parked)
		require.EqualValues(t, 5, status.Position)
		lot := h.parking.Lot()
		require.Contains(t, lot[0].Reason, "the broker takes at most 10")
		require.Contains(t, lot[1].Reason, "position 2")
		require.Empty(t, h.check(nil, false))
	})
}

// TestParksAtTheEnd checks that the cursor goes on over parked events at the end of the log, without a message in the stream.
func TestParksAtTheEnd(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := parked(t, h)
		h.write(t, 1, `6`)
		time.Sleep(2 * time.Second)
		cursor, err := h.cursors.Load(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 6, cursor.Position)
		require.EqualValues(t, 4, cursor.StreamSequence)
		leader.cancel()
		time.Sleep(time.Second)
		h.leave(leader)
		h.run("second")
		h.write(t, 0, `7`)
		require.Equal(t, []int{1, -2, 3, 5, 7}, h.positions())
	})
}

// TestNotParkedIfTheBrokerTakesItNow checks that an event is published if the broker's limit was raised since the last check.
func TestNotParkedIfTheBrokerTakesItNow(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		h.publisher = &staleLimits{Stream: h.stream}
		h.run("leader")
		h.stream.LimitPayload(100)
		h.write(t, 1, poison)
		require.Equal(t, []int{1}, h.positions())
		require.Empty(t, h.parking.Lot())
	})
}

// TestRedrives checks that an operator's redrive publishes the chosen events in order, and after them the later events of their aggregate.
func TestRedrives(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := parked(t, h)
		h.stream.LimitPayload(100)
		n, err := h.parking.Redrive(t.Context(), &outbox.Key{Type: "thing", ID: "thing-1"})
		require.NoError(t, err)
		require.Equal(t, 2, n)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, 2, 4}, h.positions())
		h.write(t, 1, `6`)
		require.Equal(t, []int{1, -2, 3, 5, 2, 4, 6}, h.positions())
		require.False(t, leader.relay.Status().Parked)
		require.Equal(t, map[int]relay.ParkedState{2: relay.Redriven, 4: relay.Redriven}, h.states())
		require.Empty(t, h.check(nil, true))
	})
}

// TestRedrivesWhatTheBrokerTakesByNow checks that an event is redriven if the broker's limit was raised since the leader's last check. The
// read for the old limit leaves out its payload, so the leader reads again.
func TestRedrivesWhatTheBrokerTakesByNow(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		parked(t, h)
		time.Sleep(150 * time.Millisecond)
		h.stream.LimitPayload(100)
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		h.write(t, 2, `6`)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, 6, 2, 4}, h.positions())
	})
}

// TestRefusedAgain checks that an aggregate is parked again if the broker still refuses its event.
func TestRefusedAgain(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		parked(t, h)
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, -5}, h.positions(), "the last message confirms the end of the stream")
		require.Equal(t, map[int]relay.ParkedState{2: relay.Parked, 4: relay.Parked}, h.states())
	})
}

// TestRefusedBesideAFrozenRedrive checks that the redrive of a leader that was frozen is not stored, if the next leader has parked the same
// events again meanwhile, because its server accepts less.
func TestRefusedBesideAFrozenRedrive(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		first := parked(t, h)
		h.stream.LimitPayload(100)
		first.inject("Redrive", injectedFault{kind: stallBefore, delay: 3 * ttl})
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		second := h.run("second")
		second.narrow(limit)
		time.Sleep(2 * ttl)
		require.Equal(t, map[int]relay.ParkedState{2: relay.Parked, 4: relay.Parked}, h.states())
		require.NoError(t, h.parking.Discard(t.Context(), 4))
		time.Sleep(2 * ttl) // the first leader continues
		require.Equal(t, []int{1, -2, 3, 5, -5}, h.positions())

		second.narrow(0)
		_, err = h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, -5, 2}, h.positions())
		require.Equal(t, map[int]relay.ParkedState{2: relay.Redriven, 4: relay.Discarded}, h.states())
	})
}

// TestRedriveLooksOnceMore checks that an event is not parked again if the server accepts it at the second try.
func TestRedriveLooksOnceMore(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := parked(t, h)
		h.stream.LimitPayload(100)
		leader.narrow(limit)
		leader.widenAtLook()
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, 2, 4}, h.positions())
	})
}

// TestDiscards checks that a discarded event is never published, and that the events behind it wait for a redrive.
func TestDiscards(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		parked(t, h)
		require.NoError(t, h.parking.Discard(t.Context(), 2))
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5}, h.positions())
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, []int{1, -2, 3, 5, 4}, h.positions())
		require.Equal(t, map[int]relay.ParkedState{2: relay.Discarded, 4: relay.Redriven}, h.states())
	})
}

// TestParkingSurvivesCrashes checks that parking and redriving survive a crash of the leader at each step.
func TestParkingSurvivesCrashes(t *testing.T) {
	for _, method := range []string{"PublishControl", "Reconcile", "SetAside", "Redrive"} {
		for _, when := range []faultKind{crashBefore, crashAfter, loseAnswer, arriveLate} {
			t.Run(method+" "+when.String(), func(t *testing.T) {
				inFakeTime(t, func(t *testing.T, h *harness) {
					leader := h.run("leader")
					h.run("second")
					h.run("third")
					h.write(t, 1, `1`)
					leader.inject(method, injectedFault{kind: when, delay: ttl})
					h.write(t, 1, poison)
					h.write(t, 1, `3`)
					h.write(t, 0, `4`)
					time.Sleep(2 * ttl)
					require.Equal(t, []int{1, -2, 4}, h.positions())
					require.Equal(t, map[int]relay.ParkedState{2: relay.Parked, 3: relay.Parked}, h.states())
					h.stream.LimitPayload(100)
					_, err := h.parking.Redrive(t.Context(), nil)
					require.NoError(t, err)
					time.Sleep(3 * ttl)
					h.write(t, 1, `5`)
					require.Equal(t, []int{1, -2, 4, 2, 3, 5}, h.positions())
					require.Empty(t, h.check(nil, true))
					require.NotZero(t, h.times(method+": "+when.String()))
				})
			})
		}
	}
}

// TestStreamLosesParkingAndRedriving checks that parked and redriven events that the stream loses come back from the parking lot.
func TestStreamLosesParkingAndRedriving(t *testing.T) {
	for left, want := range map[uint64][]int{
		6: {1, -2, 3, 5, 2, 4, 6},     // only 6 is lost
		5: {1, -2, 3, 5, 2, -5, 4, 6}, // 4 is redriven again, after a control message that proves the end of the stream
		4: {1, -2, 3, 5, -5, 2, 4, 6}, // both are redriven again
		2: {1, -2, -2, 3, 5, 2, 4, 6},
		1: {1, -1, 3, 5, 2, 4, 6}, // the control message that parked 2 is not needed again
	} {
		inFakeTime(t, func(t *testing.T, h *harness) {
			parked(t, h)
			h.stream.LimitPayload(100)
			_, err := h.parking.Redrive(t.Context(), nil)
			require.NoError(t, err)
			time.Sleep(time.Second)
			h.write(t, 1, `6`)
			h.stream.LoseAfter(left)
			time.Sleep(5 * time.Second)
			require.ElementsMatch(t, want, h.positions(), "%d left", left)
			require.Empty(t, h.check(nil, true), "%d left", left)
		})
	}
}

// TestRetention checks that old published entries are removed. Parked events stay, and events that the stream may still lose stay too.
func TestRetention(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		parked(t, h)
		time.Sleep(retention - time.Second)
		require.Len(t, h.log.Readable(), 5)
		h.write(t, 0, `6`)
		time.Sleep(retention / 2)
		require.Equal(t, []int{2, 4, 6}, h.readable(), "what is parked stays")
		h.stream.LoseAfter(5 - 1) // 6 was published last
		time.Sleep(time.Second)
		h.write(t, 0, `7`)
		require.Equal(t, []int{1, -2, 3, 5, 6, 7}, h.positions(), "healed")
		require.NoError(t, h.parking.Discard(t.Context(), 2))
		require.NoError(t, h.parking.Discard(t.Context(), 4))
		time.Sleep(3 * retention)
		require.Empty(t, h.readable())
		require.Empty(t, h.parking.Lot())
		h.write(t, 1, `8`)
		require.Equal(t, []int{1, -2, 3, 5, 6, 7, 8}, h.positions())
	})
}

func (h *harness) readable() []int {
	var all []int
	for _, entry := range h.log.Readable() {
		all = append(all, int(entry.Position))
	}
	return all
}

// TestRetentionRestsWhileHalted checks that nothing is removed while the relay is halted.
func TestRetentionRestsWhileHalted(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		h.run("leader")
		h.record(t, 5)
		h.stream.Drop()
		time.Sleep(10 * retention)
		require.Len(t, h.log.Readable(), 5)
	})
}

// TestRetentionRestsWhileTheLogIsNotWhatItWas checks that nothing is removed while the log has lost history.
func TestRetentionRestsWhileTheLogIsNotWhatItWas(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 3)
		time.Sleep(2 * time.Second)
		leader.crash()
		h.leave(leader)
		h.log.LoseAfter(2)
		tx, ok := h.begin(1, 1)
		require.True(t, ok)
		h.end(tx, true)
		h.reader = slowLog{h.log}
		second := h.start("second")
		h.join(second)
		time.Sleep(100 * retention)
		require.Equal(t, relay.HaltHistoryLost, second.relay.Status().Halt.Reason)
		require.Equal(t, []int{1, 2, 3}, h.readable())
	})
}

// slowLog is a log that needs some milliseconds for a read.
type slowLog struct{ relay.Log }

func (s slowLog) After(ctx context.Context, from outbox.Progress, limit relay.ReadLimit) (relay.Page, error) {
	time.Sleep(7 * time.Millisecond)
	return s.Log.After(ctx, from, limit)
}

// TestHealsWhileTheLogWaits checks that a leader whose read waits for an open transaction notices that the stream lost messages, before
// retention removes their entries.
func TestHealsWhileTheLogWaits(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 5)
		time.Sleep(2 * time.Second)
		tx, ok := h.begin(1, 1)
		require.True(t, ok)
		h.write(t, 2, `7`)
		h.stream.LoseAfter(2)
		time.Sleep(3 * retention)
		require.Equal(t, []int{1, 2, 3, 4, 5}, h.positions())
		h.end(tx, true)
		h.wakeSome(0)
		time.Sleep(time.Second)
		require.Empty(t, h.check(leader.relay.Status().Halt, true))
	})
}

// TestRedrivesWhileTheLogWaits checks that a leader redrives while its read waits for an open transaction.
func TestRedrivesWhileTheLogWaits(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		parked(t, h)
		h.stream.LimitPayload(100)
		tx, ok := h.begin(3, 1)
		require.True(t, ok)
		defer h.end(tx, true)
		h.write(t, 2, `7`)
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		require.Equal(t, []int{1, -2, 3, 5, 2, 4}, h.positions())
	})
}

// staleLimits is a publisher that uses an old limit until the next Look.
type staleLimits struct {
	*memory.Stream
	refused, looked bool
}

func (o *staleLimits) Look(ctx context.Context) (relay.StreamInfo, error) {
	o.looked = o.refused
	return o.Stream.Look(ctx)
}

func (o *staleLimits) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	if !o.looked {
		o.refused = true
		return after, &relay.RefusedError{Entry: batch[0], Reason: "it was too large yesterday"}
	}
	return o.Stream.Publish(ctx, after, batch)
}
