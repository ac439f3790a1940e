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

// TestTakenAfterAllIsNoDisorder checks an event that the broker accepts at the second try, because the limit was raised. The relay does not
// halt: it does not mistake this event for one that appeared after the relay had passed.
func TestTakenAfterAllIsNoDisorder(t *testing.T) {
	for name, crash := range map[string]bool{"the leader goes on": false, "the leader dies": true} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, h *harness) {
				h.stream.LimitPayload(100)
				leader := h.run("leader")
				h.record(t, 1)
				time.Sleep(3 * time.Second)
				leader.narrow(limit)
				leader.widenAtLook()
				h.write(t, 1, poison)
				require.Equal(t, []int{1, 2}, h.positions())
				time.Sleep(3 * time.Second) // the cursor is saved, and the log verified
				if crash {
					leader.crash()
					h.leave(leader)
					leader = h.run("second")
					time.Sleep(time.Minute)
				}
				require.Nil(t, leader.relay.Status().Halt)
				require.Equal(t, relaying.Leading, leader.relay.Status().State)
				h.record(t, 1)
				require.Equal(t, []int{1, 2, 3}, h.positions())
			})
		})
	}
}

// TestAdoptionOfAStreamThatWentBack checks that a plan is refused if the stream has lost a message since. The plan counts the lost message as
// published. Another adoption has appended its control message at the sequence of the lost message, and died before it wrote the cursor. So
// the stream ends at the same sequence as before.
func TestAdoptionOfAStreamThatWentBack(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := h.run("leader")
		h.record(t, 2)
		time.Sleep(2 * time.Second) // the cursor is saved
		h.record(t, 1)
		require.Equal(t, []int{1, 2, 3}, h.positions())
		leader.crash()
		h.leave(leader)
		wrong := memory.NewStream()
		h.join(h.startAt("misdirected", wrong)) // the misdirected instance reports that the stream is missing
		time.Sleep(ttl + time.Second)
		first, second := operating.NewAdopter(crashBeforeAdopt{h.cursors}, h.stream), operating.NewAdopter(h.cursors, h.stream)
		late, err := second.Plan(t.Context(), nil)
		require.NoError(t, err)
		h.stream.LoseAfter(2)
		plan, err := first.Plan(t.Context(), nil)
		require.NoError(t, err)
		require.ErrorIs(t, first.Do(t.Context(), plan), errDead)
		require.Equal(t, []int{1, 2, -2}, h.positions())
		require.ErrorIs(t, second.Do(t.Context(), late), relay.ErrTailMoved)
		h.run("third")
		time.Sleep(4 * time.Second)
		require.Empty(t, h.check(nil, false))
	})
}

// TestAdoptionThatTheStreamLosesRedrivesAgain checks that events which were redriven into a former stream are redriven into the new one,
// even if the new stream loses the control message of the adoption before a relay leads.
func TestAdoptionThatTheStreamLosesRedrivesAgain(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		leader := parked(t, h)
		h.stream.LimitPayload(100)
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		h.stream.Drop()
		time.Sleep(2 * time.Second)
		require.NotNil(t, leader.relay.Status().Halt)
		leader.crash()
		h.leave(leader)
		h.adopt(t)
		info, err := h.stream.Look(t.Context())
		require.NoError(t, err)
		h.stream.LoseAfter(info.Base)
		h.run("second")
		time.Sleep(2 * ttl)
		require.Empty(t, h.check(nil, true))
	})
}
