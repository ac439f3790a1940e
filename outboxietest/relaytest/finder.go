package relaytest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// FinderHarness is a broker without the stream, with a finder.
type FinderHarness interface {
	StreamHarness
	Finder() relay.Finder
}

// TestFinder runs the contract of relay.Finder. Each call of open returns a broker without the stream.
func TestFinder(t *testing.T, open func(t *testing.T) FinderHarness) {
	check := contracttest.Runner(t, open)
	check("each event is found with its time", findEach)
	check("an event is found among other messages", findAmong)
	check("a redriven event is found by its sequence", findRedriven)
	check("an event that is not in the stream is not found", findMissing)
	check("another event at the same position is not found", findOther)
	check("a deleted event is not found", findDeleted)
	check("without a stream nothing is found", findNoStream)
	check("a call ends with its context, or in an outage", findOutage)
}

func requireFound(t *testing.T, h FinderHarness, entry outbox.Entry, sequence uint64) time.Time {
	t.Helper()
	at, err := h.Finder().Find(t.Context(), entry.Progress(), sequence)
	require.NoError(t, err, "position %d", entry.Position)
	require.WithinDuration(t, time.Now(), at, time.Minute)
	return at
}

func requireNotFound(t *testing.T, h FinderHarness, event outbox.Progress, sequence uint64) {
	t.Helper()
	_, err := h.Finder().Find(t.Context(), event, sequence)
	require.ErrorIs(t, err, relay.ErrNoMessage, "position %d", event.Position)
}

// gapped returns entries with gaps between their positions, as rolled back transactions leave them.
func gapped(after outbox.Position, n int) []outbox.Entry {
	entries := NewEntries(after, n)
	for i := range entries {
		entries[i].Position += outbox.Position(i / 3 * 2)
	}
	return entries
}

func findEach(t *testing.T, h FinderHarness) {
	publisher, _ := openStream(t, h)
	var all []outbox.Entry
	var times []time.Time // of the entries, as they were found first
	for _, n := range []int{1, 1, 1, 97} {
		entries := gapped(outbox.Position(1000*len(all)), n)
		publish(t, publisher, uint64(len(all)), entries)
		all = append(all, entries...)
		for i, entry := range all {
			at := requireFound(t, h, entry, 0)
			if i == len(times) {
				require.True(t, i == 0 || at.After(times[i-1]), "each message has its own time")
				times = append(times, at)
			}
			require.WithinDuration(t, times[i], at, 0, "the time stays")
		}
	}
}

// findAmong checks that events are found between foreign messages, redriven events and control messages.
func findAmong(t *testing.T, h FinderHarness) {
	publisher, _ := openStream(t, h)
	h.AppendForeign(t)
	entries, later := gapped(100, 30), NewEntries(0, 10)
	tail := uint64(1)
	for i := range entries {
		publish(t, publisher, tail, entries[i:i+1])
		tail++
		var err error
		switch i % 3 {
		case 0:
			h.AppendForeign(t)
			h.AppendForeign(t)
			tail += 2
		case 1:
			tail, err = publisher.Redrive(t.Context(), tail, entries[i].Progress(), later[:1])
			later = later[1:]
		case 2: // where the log has a gap
			parked := outbox.Progress{Position: entries[i].Position + 1, EventID: "parked"}
			tail, err = publisher.PublishControl(t.Context(), tail, relay.ControlMessage{Progress: parked, Parked: "too large"})
			requireNotFound(t, h, parked, 0)
		}
		require.NoError(t, err)
	}
	for _, entry := range entries {
		requireFound(t, h, entry, 0)
	}
}

func findRedriven(t *testing.T, h FinderHarness) {
	publisher, _ := openStream(t, h)
	entries, later := NewEntries(10, 12), NewEntries(0, 2)
	publish(t, publisher, 0, entries)
	_, err := publisher.Redrive(t.Context(), 12, entries[11].Progress(), later)
	require.NoError(t, err)
	requireFound(t, h, later[0], 13)
	requireFound(t, h, later[1], 14)
	requireNotFound(t, h, later[0].Progress(), 0)
	requireNotFound(t, h, later[0].Progress(), 14)
	requireNotFound(t, h, later[0].Progress(), 15)
	requireFound(t, h, entries[3], 4)
}

func findMissing(t *testing.T, h FinderHarness) {
	publisher, _ := openStream(t, h)
	requireNotFound(t, h, NewEntries(0, 1)[0].Progress(), 0)
	publish(t, publisher, 0, NewEntries(10, 10))
	for _, position := range []outbox.Position{1, 10, 21, 1 << 40} {
		requireNotFound(t, h, outbox.Progress{Position: position, EventID: "x"}, 0)
	}
}

func findOther(t *testing.T, h FinderHarness) {
	publisher, _ := openStream(t, h)
	entries := NewEntries(0, 3)
	publish(t, publisher, 0, entries)
	requireNotFound(t, h, outbox.Progress{Position: 2, EventID: entries[0].ID}, 0)
	requireNotFound(t, h, outbox.Progress{Position: 2, EventID: entries[0].ID}, 1)
}

func findDeleted(t *testing.T, h FinderHarness) {
	publisher, _ := openStream(t, h)
	entries := NewEntries(0, 10)
	publish(t, publisher, 0, entries)
	for _, sequence := range []uint64{1, 2, 5, 6, 10} {
		h.Delete(t, sequence)
	}
	for i, entry := range entries {
		if slices.Contains([]int{0, 1, 4, 5, 9}, i) {
			requireNotFound(t, h, entry.Progress(), 0)
			requireNotFound(t, h, entry.Progress(), uint64(i+1))
			continue
		}
		requireFound(t, h, entry, 0)
	}
}

func findNoStream(t *testing.T, h FinderHarness) {
	requireNotFound(t, h, NewEntries(0, 1)[0].Progress(), 0)
	_, _ = openStream(t, h)
	h.Drop(t)
	requireNotFound(t, h, NewEntries(0, 1)[0].Progress(), 1)
}

func findOutage(t *testing.T, h FinderHarness) {
	publisher, _ := openStream(t, h)
	entries := NewEntries(0, 1)
	publish(t, publisher, 0, entries)
	finder := h.Finder()
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := finder.Find(ended, entries[0].Progress(), 0)
	require.ErrorIs(t, err, context.Canceled)
	h.Disconnect(t)
	_, err = finder.Find(t.Context(), entries[0].Progress(), 0)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	h.Reconnect(t)
	_, err = finder.Find(t.Context(), entries[0].Progress(), 0)
	require.NoError(t, err)
}
