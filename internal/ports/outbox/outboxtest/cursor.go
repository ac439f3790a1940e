package outboxtest

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// CursorHarness is a cursor that was never saved, with the lease that fences it and the log that it points into.
type CursorHarness interface {
	LogHarness
	ElectorHarness
	Store() ports.CursorStore
}

// TestCursorStore runs the contract of ports.CursorStore. Each call of open gives a new cursor, lease and log.
func TestCursorStore(t *testing.T, open func(t *testing.T) CursorHarness) {
	for name, test := range map[string]func(t *testing.T, h CursorHarness){
		"without a cursor it is zero":               cursorZero,
		"what was saved is loaded":                  cursorRoundTrip,
		"it may go back":                            cursorBack,
		"without the lease nothing is written":      cursorNoLease,
		"a former leader cannot write":              cursorStale,
		"an expired lease nobody took still writes": cursorExpiredUntaken,
		"it says what was purged, and keeps it":     cursorPurged,
		"an ended context is an error":              cursorContext,
		"a lost connection is an outage":            cursorOutage,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func save(t *testing.T, h CursorHarness, term outbox.Term, cursor outbox.Cursor) outbox.Cursor {
	t.Helper()
	saved, err := h.Store().Save(t.Context(), term, cursor)
	require.NoError(t, err)
	return saved
}

func load(t *testing.T, h CursorHarness) outbox.Cursor {
	t.Helper()
	cursor, err := h.Store().Load(t.Context())
	require.NoError(t, err)
	return cursor
}

// cursorAt appends two events and returns a cursor at each of them.
func cursorAt(t *testing.T, h CursorHarness) (first, second outbox.Cursor) {
	t.Helper()
	appendCommitted(t, h, NewMessage("a", 1), NewMessage("a", 2))
	entries := readAll(t, h)
	first = outbox.Cursor{Progress: entries[0].Progress(), StreamCreated: "2026-11-01T10:00:00.123456789Z", StreamSequence: 1}
	second = outbox.Cursor{Progress: entries[1].Progress(), StreamCreated: first.StreamCreated, StreamSequence: math.MaxInt64}
	return first, second
}

func cursorZero(t *testing.T, h CursorHarness) {
	require.Zero(t, load(t, h))
}

func cursorRoundTrip(t *testing.T, h CursorHarness) {
	first, second := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	empty := outbox.Cursor{StreamCreated: first.StreamCreated}
	for _, cursor := range []outbox.Cursor{{}, empty, first, second} {
		require.Equal(t, cursor, save(t, h, term, cursor))
		require.Equal(t, cursor, load(t, h))
	}
}

func cursorBack(t *testing.T, h CursorHarness) {
	first, second := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	save(t, h, term, second)
	require.Equal(t, first, save(t, h, term, first))
	require.Equal(t, first, load(t, h))
}

func cursorNoLease(t *testing.T, h CursorHarness) {
	first, _ := cursorAt(t, h)
	_, err := h.Store().Save(t.Context(), outbox.Term{Token: 1}, first)
	require.ErrorIs(t, err, ports.ErrLeaseLost)
	require.Zero(t, load(t, h))
}

func cursorStale(t *testing.T, h CursorHarness) {
	first, second := cursorAt(t, h)
	former := acquire(t, h, "instance-1")
	save(t, h, former, first)
	h.Advance(t, h.TTL()+time.Second)
	acquire(t, h, "instance-2")
	_, err := h.Store().Save(t.Context(), former, second)
	require.ErrorIs(t, err, ports.ErrLeaseLost)
	require.Equal(t, first, load(t, h))
}

func cursorExpiredUntaken(t *testing.T, h CursorHarness) {
	first, _ := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	h.Advance(t, 2*h.TTL())
	require.Equal(t, first, save(t, h, term, first))
}

func cursorPurged(t *testing.T, h CursorHarness) {
	first, second := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	save(t, h, term, first)
	h.Purge(t, first.Position)

	want := first
	want.EventID, want.PurgedTo = "", first.Position
	require.Equal(t, want, load(t, h))

	want = second
	want.PurgedTo = first.Position
	require.Equal(t, want, save(t, h, term, second), "saved by somebody who does not know")
	require.Equal(t, want, load(t, h))
}

func cursorContext(t *testing.T, h CursorHarness) {
	first, _ := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := h.Store().Save(ended, term, first)
	require.ErrorIs(t, err, context.Canceled)
	_, err = h.Store().Load(ended)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, load(t, h))
}

func cursorOutage(t *testing.T, h CursorHarness) {
	first, _ := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	h.Disconnect(t)
	_, err := h.Store().Save(t.Context(), term, first)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	_, err = h.Store().Load(t.Context())
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	h.Reconnect(t)
	require.Equal(t, first, save(t, h, term, first))
}
