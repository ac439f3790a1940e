package relaying_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCursorIsLazy saves the cursor at most once a second, and within a second of the last publish.
func TestCursorIsLazy(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.run("leader")
		start := time.Now()
		saves := w.times("Save: fine")
		for time.Since(start) < 10*time.Second {
			w.record(t, 1)
			time.Sleep(20 * time.Millisecond)
		}
		require.InDelta(t, 10, w.times("Save: fine")-saves, 1)
		time.Sleep(time.Second)
		cursor, err := w.cursors.Load(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, w.events, cursor.Position)
		saves = w.times("Save: fine")
		time.Sleep(time.Minute)
		require.Equal(t, saves, w.times("Save: fine"), "nothing new is not saved again")
	})
}

// TestWakeUp publishes at once when woken, and within the poll interval when the wake-up is lost.
func TestWakeUp(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.run("leader")
		time.Sleep(time.Minute) // backed off to the longest poll
		w.record(t, 1)
		require.Len(t, w.stream.Entries(), 1)
		time.Sleep(time.Minute)
		tx, _ := w.begin(0, 1)
		w.end(tx, true) // nobody rings
		time.Sleep(500 * time.Millisecond)
		require.Len(t, w.stream.Entries(), 2)
	})
}

// TestAFreshEventCostsOneRead : who commits after a read rings after it, so there is nothing to look for once the event is
// published.
func TestAFreshEventCostsOneRead(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.run("leader")
		time.Sleep(time.Minute)
		before := w.times("After: fine")
		for range 10 {
			w.record(t, 1)
		}
		require.Len(t, w.stream.Entries(), 10)
		require.Equal(t, 10, w.times("After: fine")-before)
	})
}

// TestReadsOnBehindAnOpenTransaction : what was seen behind it is published when it ends, though nobody rings then.
func TestReadsOnBehindAnOpenTransaction(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.run("leader")
		time.Sleep(time.Minute)
		first, _ := w.begin(0, 1)
		open, _ := w.begin(1, 1)
		last, _ := w.begin(2, 1)
		w.end(last, true)
		w.end(first, true)
		w.wakeSome(0)
		synctest.Wait()
		require.Len(t, w.stream.Entries(), 1)
		w.end(open, false)
		synctest.Wait()
		require.Len(t, w.stream.Entries(), 2)
	})
}

// TestIdleLeaderIsQuiet bounds what an idle leader asks of Postgres: at most five statements a second.
func TestIdleLeaderIsQuiet(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.run("leader")
		time.Sleep(10 * time.Second)
		statements := func() int {
			return w.times("After: fine") + w.times("Verify: fine") + w.times("Renew: fine") + w.times("Save: fine") + w.times("Load: fine")
		}
		before := statements()
		time.Sleep(100 * time.Second)
		require.LessOrEqual(t, statements()-before, 500)
	})
}
