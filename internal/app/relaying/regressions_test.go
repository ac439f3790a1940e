package relaying_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestTakenAfterAllIsNoDisorder shows that an event that the broker takes at the second try, because its limits were raised, was passed
// like any other. It does not look as if it had come after the relay.
func TestTakenAfterAllIsNoDisorder(t *testing.T) {
	for name, crash := range map[string]bool{"the leader goes on": false, "the leader dies": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.stream.LimitPayload(100)
				leader := w.run("leader")
				w.record(t, 1)
				time.Sleep(3 * time.Second)
				leader.narrow(limit)
				leader.widenAtLook()
				w.write(t, 1, poison)
				require.Equal(t, []int{1, 2}, w.positions())
				time.Sleep(3 * time.Second) // the cursor is saved, and the log looked at
				if crash {
					leader.crash()
					w.leave(leader)
					leader = w.run("second")
					time.Sleep(time.Minute)
				}
				require.Nil(t, leader.relay.Status().Halt)
				require.Equal(t, relaying.Leading, leader.relay.Status().State)
				w.record(t, 1)
				require.Equal(t, []int{1, 2, 3}, w.positions())
			})
		})
	}
}

// TestAdoptionOfAStreamThatWentBack plans with the end of a stream that goes back, and grows to the same sequence by the notice of
// another adoption, which dies before it writes the cursor. The plan takes what the stream lost for published, so it is refused.
func TestAdoptionOfAStreamThatWentBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := w.run("leader")
		w.record(t, 2)
		time.Sleep(2 * time.Second) // the cursor is saved
		w.record(t, 1)
		require.Equal(t, []int{1, 2, 3}, w.positions())
		leader.crash()
		w.leave(leader)
		wrong := memory.NewStream()
		w.join(w.startAt("misdirected", wrong)) // it reports that the stream is missing
		time.Sleep(ttl + time.Second)
		first, second := operating.NewAdopter(dying{w.cursors}, w.stream), operating.NewAdopter(w.cursors, w.stream)
		late, err := second.Plan(t.Context(), nil)
		require.NoError(t, err)
		w.stream.Regress(2)
		plan, err := first.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.ErrorIs(t, first.Do(t.Context(), plan), errDead)
		require.Equal(t, []int{1, 2, -2}, w.positions())
		require.ErrorIs(t, second.Do(t.Context(), late), relay.ErrTailMoved)
		w.run("third")
		time.Sleep(4 * time.Second)
		require.Empty(t, w.judge(nil, false))
	})
}

// TestAdoptionThatTheStreamLosesRedrivesAgain shows that the stream that was made again loses the adoption's notice before anybody has
// led. What was redriven into the former stream is not in this one, although its sequences are lower.
func TestAdoptionThatTheStreamLosesRedrivesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		leader := parked(t, w)
		w.stream.LimitPayload(100)
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		w.stream.Drop()
		time.Sleep(2 * time.Second)
		require.NotNil(t, leader.relay.Status().Halt)
		leader.crash()
		w.leave(leader)
		w.adopt(t)
		info, err := w.stream.Look(t.Context())
		require.NoError(t, err)
		w.stream.Regress(info.Base)
		w.run("second")
		time.Sleep(2 * ttl)
		require.Empty(t, w.judge(nil, true))
	})
}
