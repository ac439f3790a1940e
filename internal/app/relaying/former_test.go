package relaying_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The broker may be a cluster, and who led the stream may be asked what he does not know any more. His word never makes the
// relay publish anything twice, nor count a heal, nor halt.

// TestFormerLeaderHasNotHeardOfRedriving : the next relay asks one that knows nothing since before two events were redriven.
func TestFormerLeaderHasNotHeardOfRedriving(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		parked(t, w)
		before := w.stream.Len()
		w.stream.LimitPayload(100)
		_, err := w.parking.Redrive(t.Context(), nil)
		require.NoError(t, err)
		time.Sleep(time.Second)
		w.write(t, 1, `6`)
		published := w.positions()
		w.alive[0].crash()
		w.leave(w.alive[0])
		second := w.start("second")
		w.join(second)
		second.askFormer(before, 10*time.Second)
		time.Sleep(8 * time.Second)
		require.Equal(t, published, w.positions())
		time.Sleep(8 * time.Second)
		w.write(t, 1, `7`)
		require.Empty(t, w.judge(second.relay.Status().Halt, true))
		require.Zero(t, second.relay.Status().Heals)
	})
}

// TestFormerLeaderHasNotHeardOfParking : all that follows his end is parked, so that the relay passes over it without
// publishing anything.
func TestFormerLeaderHasNotHeardOfParking(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first := w.run("first")
		first.plan("Save", planned{mishap: crashBefore})
		tx, ok := w.beginWith(0, 2, poison)
		require.True(t, ok)
		w.end(tx, true)
		w.wakeSome(0)
		time.Sleep(2 * time.Second)
		w.leave(first)
		require.Equal(t, []int{-1}, w.positions())
		require.Len(t, w.states(), 2)
		second := w.start("second")
		w.join(second)
		second.askFormer(0, 10*time.Second)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		w.write(t, 1, `{}`)
		require.Empty(t, w.judge(second.relay.Status().Halt, false))
	})
}
