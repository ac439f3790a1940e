package relaying_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The broker may be a cluster. A broker that has led the stream before may answer with an old state of the stream. Such an answer never
// makes the relay publish twice, report a heal, or halt.

// TestFormerLeaderHasNotHeardOfRedriving checks that no event is redriven twice if the next relay asks a broker that does not know yet that
// two events were redriven.
func TestFormerLeaderHasNotHeardOfRedriving(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		parked(t, h)
		before := h.stream.LastSequence()
		h.stream.LimitPayload(100)
		_, err := h.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		h.write(t, 1, `6`)
		published := h.positions()
		h.alive[0].crash()
		h.leave(h.alive[0])
		second := h.start("second")
		h.join(second)
		second.askFormer(before, 10*time.Second)
		time.Sleep(8 * time.Second)
		require.Equal(t, published, h.positions())
		time.Sleep(8 * time.Second)
		h.write(t, 1, `7`)
		require.Empty(t, h.check(second.relay.Status().Halt, true))
		require.Zero(t, second.relay.Status().Heals)
	})
}

// TestFormerLeaderHasNotHeardOfParking checks that the next relay goes on correctly if it asks a broker that does not know yet that two
// events were parked. All events after the end that the broker knows are parked, so the relay passes them without an append.
func TestFormerLeaderHasNotHeardOfParking(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		first := h.run("first")
		first.inject("Save", injectedFault{kind: crashBefore})
		tx, ok := h.beginWith(0, 2, poison)
		require.True(t, ok)
		h.end(tx, true)
		h.wakeSome(0)
		time.Sleep(2 * time.Second)
		h.leave(first)
		require.Equal(t, []int{-1}, h.positions())
		require.Len(t, h.states(), 2)
		second := h.start("second")
		h.join(second)
		second.askFormer(0, 10*time.Second)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		h.write(t, 1, `{}`)
		require.Empty(t, h.check(second.relay.Status().Halt, false))
	})
}
