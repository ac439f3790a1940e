package relaying_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestUnfitStream shows that a relay publishes nothing into a stream that is not as it needs it, reports what to repair, and goes
// on by itself once that is done. An adoption is refused, because it would repair nothing.
func TestUnfitStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.stream.Misconfigure("no_ack: switch it off")
		leader := w.run("leader")
		w.record(t, 3)
		status := leader.relay.Status()
		require.Equal(t, relaying.Halted, status.State)
		require.Equal(t, relay.NewHalt(relay.HaltStreamUnfit, "no_ack: switch it off"), status.Halt)
		require.Equal(t, *status.Halt, w.halts.Reported()[0].Halt.Halt)
		require.Empty(t, w.stream.Entries())
		_, err := operating.NewAdopter(w.cursors, w.stream).Plan(t.Context(), nil)
		require.ErrorIs(t, err, operating.ErrUnfit)
		require.ErrorContains(t, err, "no_ack: switch it off")

		w.stream.Misconfigure("")
		time.Sleep(2 * time.Second)
		require.Equal(t, relaying.Leading, leader.relay.Status().State)
		require.Empty(t, w.halts.Reported())
		require.Equal(t, []int{1, 2, 3}, w.positions())
	})
}

// TestBusyLeaderNoticesAnUnfitStream changes the stream under a leader that never rests, so that only the look beside the appends
// can notice it.
func TestBusyLeaderNoticesAnUnfitStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		busy := func(d time.Duration) {
			for range d / (20 * time.Millisecond) {
				w.record(t, 1)
				time.Sleep(20 * time.Millisecond)
			}
		}
		busy(3 * time.Second)
		require.Equal(t, relaying.Leading, leader.relay.Status().State)
		require.EqualValues(t, 1, leader.relay.Status().TakeOvers)
		w.stream.Misconfigure("changed")
		busy(2 * time.Second)
		require.Equal(t, relaying.Halted, leader.relay.Status().State)
		published := len(w.stream.Entries())
		busy(2 * time.Second)
		require.Len(t, w.stream.Entries(), published)
		w.stream.Misconfigure("")
		time.Sleep(5 * time.Second)
		require.Equal(t, ids(w.log.Committed()), ids(w.stream.Entries()))
	})
}

// TestAdoptionOfAnUnfitStream shows how to publish again what was stored where no subscriber looks: the operator names the last
// event that subscribers got, while the relay is halted.
func TestAdoptionOfAnUnfitStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 5)
		w.stream.Misconfigure("subject_transform: remove it")
		time.Sleep(3 * time.Second)
		require.Equal(t, relaying.Halted, leader.relay.Status().State)
		adopter := operating.NewAdopter(w.cursors, w.stream)
		position := outbox.Position(3)
		plan, err := adopter.Plan(t.Context(), &position)
		require.NoError(t, err)
		require.True(t, plan.StreamUnfit)
		require.NoError(t, adopter.Do(t.Context(), plan))
		time.Sleep(time.Second)
		require.Equal(t, relaying.Halted, leader.relay.Status().State, "until the stream is repaired")
		require.Equal(t, []int{1, 2, 3, 4, 5, -3}, w.positions())
		w.stream.Misconfigure("")
		time.Sleep(time.Minute)
		require.Equal(t, []int{1, 2, 3, 4, 5, -3, 4, 5}, w.positions())
	})
}
