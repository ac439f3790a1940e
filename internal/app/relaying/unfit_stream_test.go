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

// TestUnfitStream checks that a relay publishes nothing into an unfit stream, reports what to repair, and goes on by itself after the
// repair. An adoption is refused, because it would repair nothing.
func TestUnfitStream(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		h.stream.Misconfigure("no_ack: switch it off")
		leader := h.run("leader")
		h.record(t, 3)
		status := leader.relay.Status()
		require.Equal(t, relaying.Halted, status.State)
		require.Equal(t, relay.NewHalt(relay.HaltStreamUnfit, "no_ack: switch it off"), status.Halt)
		require.Equal(t, *status.Halt, h.halts.Reported()[0].Halt)
		require.Empty(t, h.stream.Entries())
		_, err := operating.NewAdopter(h.cursors, h.stream).Plan(t.Context(), nil)
		require.ErrorIs(t, err, operating.ErrNotAdoptable)
		require.ErrorContains(t, err, "no_ack: switch it off")

		h.stream.Misconfigure("")
		time.Sleep(2 * time.Second)
		require.Equal(t, relaying.Leading, leader.relay.Status().State)
		require.Empty(t, h.halts.Reported())
		require.Equal(t, []int{1, 2, 3}, h.positions())
	})
}

// TestBusyLeaderNoticesAnUnfitStream checks that a leader which publishes all the time notices a change of the stream's settings.
func TestBusyLeaderNoticesAnUnfitStream(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		busy := func(d time.Duration) {
			for range d / (20 * time.Millisecond) {
				h.record(t, 1)
				time.Sleep(20 * time.Millisecond)
			}
		}
		busy(3 * time.Second)
		require.Equal(t, relaying.Leading, leader.relay.Status().State)
		require.EqualValues(t, 1, leader.relay.Status().TakeOvers)
		h.stream.Misconfigure("changed")
		busy(2 * time.Second)
		require.Equal(t, relaying.Halted, leader.relay.Status().State)
		published := len(h.stream.Entries())
		busy(2 * time.Second)
		require.Len(t, h.stream.Entries(), published)
		h.stream.Misconfigure("")
		time.Sleep(5 * time.Second)
		require.Equal(t, ids(h.log.Committed()), ids(h.stream.Entries()))
	})
}

// TestAdoptionOfAnUnfitStream checks that events which were stored where no subscriber looks can be published again: while the relay is
// halted, the operator names the last event that subscribers received.
func TestAdoptionOfAnUnfitStream(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 5)
		h.stream.Misconfigure("subject_transform: remove it")
		time.Sleep(3 * time.Second)
		require.Equal(t, relaying.Halted, leader.relay.Status().State)
		adopter := operating.NewAdopter(h.cursors, h.stream)
		position := outbox.Position(3)
		plan, err := adopter.Plan(t.Context(), &position)
		require.NoError(t, err)
		require.True(t, plan.StreamUnfit)
		require.NoError(t, adopter.Do(t.Context(), plan))
		time.Sleep(time.Second)
		require.Equal(t, relaying.Halted, leader.relay.Status().State, "until the stream is repaired")
		require.Equal(t, []int{1, 2, 3, 4, 5, -3}, h.positions())
		h.stream.Misconfigure("")
		time.Sleep(time.Minute)
		require.Equal(t, []int{1, 2, 3, 4, 5, -3, 4, 5}, h.positions())
	})
}
