package relaying_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCursorIsLazy checks that the cursor is saved at most once a second, and within a second of the last publish.
func TestCursorIsLazy(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		h.run("leader")
		start := time.Now()
		saves := h.times("Save: fine")
		for time.Since(start) < 10*time.Second {
			h.record(t, 1)
			time.Sleep(20 * time.Millisecond)
		}
		require.InDelta(t, 10, h.times("Save: fine")-saves, 1)
		time.Sleep(time.Second)
		cursor, err := h.cursors.Load(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, h.events, cursor.Position)
		saves = h.times("Save: fine")
		time.Sleep(time.Minute)
		require.Equal(t, saves, h.times("Save: fine"), "an unchanged cursor is not saved again")
	})
}

// TestWakeUp checks that the relay publishes at once after a notification, and within the poll interval if the notification is lost.
func TestWakeUp(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		h.run("leader")
		time.Sleep(time.Minute) // until the pauses have grown to Poll
		h.record(t, 1)
		require.Len(t, h.stream.Entries(), 1)
		time.Sleep(time.Minute)
		tx, _ := h.begin(0, 1)
		h.end(tx, true) // without a notification
		time.Sleep(500 * time.Millisecond)
		require.Len(t, h.stream.Entries(), 2)
	})
}

// TestAFreshEventCostsOneRead checks that the relay does not read again after it has published a new event: further events come with
// a notification.
func TestAFreshEventCostsOneRead(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		h.run("leader")
		time.Sleep(time.Minute)
		before := h.times("After: fine")
		for range 10 {
			h.record(t, 1)
		}
		require.Len(t, h.stream.Entries(), 10)
		require.Equal(t, 10, h.times("After: fine")-before)
	})
}

// TestReadsOnBehindAnOpenTransaction checks that events behind an open transaction are published when it ends, without a notification.
func TestReadsOnBehindAnOpenTransaction(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		h.run("leader")
		time.Sleep(time.Minute)
		first, _ := h.begin(0, 1)
		open, _ := h.begin(1, 1)
		last, _ := h.begin(2, 1)
		h.end(last, true)
		h.end(first, true)
		h.wakeSome(0)
		synctest.Wait()
		require.Len(t, h.stream.Entries(), 1)
		h.end(open, false)
		synctest.Wait()
		require.Len(t, h.stream.Entries(), 2)
	})
}

// TestIdleLeaderIsQuiet checks that an idle leader makes at most five statements a second.
func TestIdleLeaderIsQuiet(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		h.run("leader")
		time.Sleep(10 * time.Second)
		statements := func() int {
			return h.times("After: fine") + h.times("Verify: fine") + h.times("Renew: fine") + h.times("Save: fine") + h.times("Load: fine")
		}
		before := statements()
		time.Sleep(100 * time.Second)
		require.LessOrEqual(t, statements()-before, 500)
	})
}

// TestUnannouncedEventsAreFoundSoon checks that events which come steadily without a notification are published within a few milliseconds,
// rare ones within a twentieth of their pauses, and that a leader becomes quiet again afterwards.
func TestUnannouncedEventsAreFoundSoon(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		h.run("leader")
		time.Sleep(time.Minute)
		published := 0
		write := func(every, within time.Duration) {
			t.Helper()
			tx, _ := h.begin(0, 1)
			h.end(tx, true) // without a notification
			published++
			time.Sleep(within)
			synctest.Wait()
			require.Len(t, h.stream.Entries(), published)
			time.Sleep(every - within)
		}
		for _, every := range []time.Duration{50 * time.Millisecond, 10 * time.Millisecond, 73 * time.Millisecond} {
			write(time.Second, 500*time.Millisecond) // the first event after a pause waits for a poll
			write(every+time.Second/20, every+time.Second/20)
			for range 100 {
				write(every, 6*time.Millisecond)
			}
		}
		for range 20 {
			write(2*time.Second, 110*time.Millisecond)
		}
		reads := h.times("After: fine")
		time.Sleep(20 * time.Second)
		require.Less(t, h.times("After: fine")-reads, 200)
		reads = h.times("After: fine") + h.times("Verify: fine")
		time.Sleep(100 * time.Second)
		require.InDelta(t, 200, h.times("After: fine")+h.times("Verify: fine")-reads, 5)
	})
}

// TestAnnouncedEventsCauseNoPolls checks that a poll which comes between a commit and its notification does not make the leader poll more
// often.
func TestAnnouncedEventsCauseNoPolls(t *testing.T) {
	inFakeTime(t, func(t *testing.T, h *harness) {
		h.run("leader")
		time.Sleep(time.Minute)
		tx, _ := h.begin(0, 1)
		h.end(tx, true)
		time.Sleep(500 * time.Millisecond) // a poll finds the event
		require.Len(t, h.stream.Entries(), 1)
		h.wakeSome(0)
		synctest.Wait()
		reads := h.times("After: fine")
		time.Sleep(10 * time.Second)
		require.LessOrEqual(t, h.times("After: fine")-reads, 15)
	})
}
