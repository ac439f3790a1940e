package relaytest

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// CursorHarness is a cursor that was never saved, with its lease and its log.
type CursorHarness interface {
	LogHarness
	ElectorHarness
	Store() relay.CursorStore
}

// TestCursorStore runs the contract of relay.CursorStore. Each call of open returns a new cursor, lease and log.
func TestCursorStore(t *testing.T, open func(t *testing.T) CursorHarness) {
	check := contracttest.Runner(t, open)
	check("a cursor that was never saved is zero", cursorZero)
	check("Load returns what was saved", cursorRoundTrip)
	check("the cursor may go back", cursorBack)
	check("without the lease nothing is written", cursorNoLease)
	check("a former leader cannot write", cursorStale)
	check("the holder of an expired lease that nobody took can write", cursorExpiredUntaken)
	check("a write with a stale revision changes nothing", cursorLate)
	check("of several writes for one revision one takes effect", cursorRace)
	check("a report leaves the rest of the cursor", cursorReport)
	check("PurgedTo is returned and stays", cursorPurged)
	check("an ended context is an error", cursorContext)
	check("a lost connection is an outage", cursorOutage)
}

// fence returns the fence for the next write.
func fence(t *testing.T, h CursorHarness, term relay.Term) relay.WriteFence {
	t.Helper()
	return relay.WriteFence{Token: term.Token, Revision: load(t, h).Revision}
}

func save(t *testing.T, h CursorHarness, term relay.Term, cursor relay.Cursor) relay.Cursor {
	t.Helper()
	saved, err := h.Store().Save(t.Context(), fence(t, h, term), cursor)
	require.NoError(t, err)
	require.NotZero(t, saved.RecordedTo)
	saved.RecordedTo = time.Time{} // sequenceRecordedTo checks it
	return saved
}

func load(t *testing.T, h CursorHarness) relay.Cursor {
	t.Helper()
	cursor, err := h.Store().Load(t.Context())
	require.NoError(t, err)
	return cursor
}

// at returns cursor with the revision.
func at(revision int64, cursor relay.Cursor) relay.Cursor {
	cursor.Revision = revision
	return cursor
}

// cursorAt appends two events and returns a cursor at each of them.
func cursorAt(t *testing.T, h CursorHarness) (first, second relay.Cursor) {
	t.Helper()
	appendCommitted(t, h, NewMessage("a", 1), NewMessage("a", 2))
	entries := readAll(t, h)
	first = relay.Cursor{Progress: entries[0].Progress(), StreamCreated: "2026-11-01T10:00:00.123456789Z", StreamSequence: 1}
	second = relay.Cursor{Progress: entries[1].Progress(), StreamCreated: first.StreamCreated, StreamSequence: math.MaxInt64}
	return first, second
}

func cursorZero(t *testing.T, h CursorHarness) {
	require.Zero(t, load(t, h))
}

func cursorRoundTrip(t *testing.T, h CursorHarness) {
	first, second := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	empty := relay.Cursor{StreamCreated: first.StreamCreated}
	for i, cursor := range []relay.Cursor{{}, empty, first, second} {
		require.Equal(t, at(int64(i)+1, cursor), save(t, h, term, cursor))
		require.Equal(t, at(int64(i)+1, cursor), load(t, h))
	}
}

func cursorBack(t *testing.T, h CursorHarness) {
	first, second := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	save(t, h, term, second)
	require.Equal(t, at(2, first), save(t, h, term, first))
	require.Equal(t, at(2, first), load(t, h))
}

func cursorNoLease(t *testing.T, h CursorHarness) {
	first, _ := cursorAt(t, h)
	_, err := h.Store().Save(t.Context(), relay.WriteFence{Token: 1}, first)
	require.ErrorIs(t, err, relay.ErrLeaseLost)
	require.ErrorIs(t, h.Store().Report(t.Context(), relay.WriteFence{Token: 1}, nil), relay.ErrLeaseLost)
	require.Zero(t, load(t, h))
}

func cursorStale(t *testing.T, h CursorHarness) {
	first, second := cursorAt(t, h)
	former := acquire(t, h, "instance-1")
	save(t, h, former, first)
	h.Advance(t, h.TTL()+time.Second)
	acquire(t, h, "instance-2")
	_, err := h.Store().Save(t.Context(), fence(t, h, former), second)
	require.ErrorIs(t, err, relay.ErrLeaseLost)
	err = h.Store().Report(t.Context(), fence(t, h, former), relay.NewHalt(relay.HaltTailGone, "gone"))
	require.ErrorIs(t, err, relay.ErrLeaseLost)
	require.Equal(t, at(1, first), load(t, h))
}

func cursorExpiredUntaken(t *testing.T, h CursorHarness) {
	first, _ := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	h.Advance(t, 2*h.TTL())
	require.Equal(t, at(1, first), save(t, h, term, first))
}

func cursorLate(t *testing.T, h CursorHarness) {
	first, second := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	ahead := relay.WriteFence{Token: term.Token, Revision: 1}
	_, err := h.Store().Save(t.Context(), ahead, second)
	require.ErrorIs(t, err, relay.ErrStaleRevision, "nothing was ever written")
	require.Zero(t, load(t, h))

	save(t, h, term, first)
	for _, revision := range []int64{0, 2} {
		late := relay.WriteFence{Token: term.Token, Revision: revision}
		_, err := h.Store().Save(t.Context(), late, second)
		require.ErrorIs(t, err, relay.ErrStaleRevision)
		require.ErrorIs(t, h.Store().Report(t.Context(), late, nil), relay.ErrStaleRevision)
		require.Equal(t, at(1, first), load(t, h))
	}
	late := relay.WriteFence{Token: term.Token + 1, Revision: 7}
	_, err = h.Store().Save(t.Context(), late, second)
	require.ErrorIs(t, err, relay.ErrLeaseLost, "the lease is checked first")
	require.Equal(t, at(2, second), save(t, h, term, second))
}

func cursorRace(t *testing.T, h CursorHarness) {
	_, second := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	for round := range int64(5) {
		const racers = 8
		answers := make(chan error, racers)
		for range racers {
			go func() {
				_, err := h.Store().Save(t.Context(), relay.WriteFence{Token: term.Token, Revision: round}, second)
				answers <- err
			}()
		}
		won := 0
		for range racers {
			if err := <-answers; err == nil {
				won++
			} else {
				require.ErrorIs(t, err, relay.ErrStaleRevision)
			}
		}
		require.Equal(t, 1, won)
		require.Equal(t, at(round+1, second), load(t, h))
	}
}

func cursorReport(t *testing.T, h CursorHarness) {
	first, _ := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	halt, other := relay.NewHalt(relay.HaltTailGone, "it's gone ?"), relay.NewHalt(relay.HaltLogPurged, "")
	require.NoError(t, h.Store().Report(t.Context(), fence(t, h, term), halt))
	require.Equal(t, relay.Cursor{Revision: 1, Halt: halt}, load(t, h), "the relay has saved no cursor yet")
	first.Halt = other
	saved := save(t, h, term, first)
	first.Halt = halt
	require.Equal(t, at(2, first), saved, "Save does not change the halt")
	for i, halt := range []*relay.Halt{halt, other, nil, nil, halt} {
		require.NoError(t, h.Store().Report(t.Context(), fence(t, h, term), halt))
		first.Halt = halt
		require.Equal(t, at(3+int64(i), first), load(t, h))
	}
}

func cursorPurged(t *testing.T, h CursorHarness) {
	first, second := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	save(t, h, term, first)
	h.Purge(t, first.Position)

	want := at(1, first)
	want.EventID, want.PurgedTo = "", first.Position
	require.Equal(t, want, load(t, h))

	want = at(2, second)
	want.PurgedTo = first.Position
	require.Equal(t, want, save(t, h, term, second), "the caller of Save need not know PurgedTo")
	require.Equal(t, want, load(t, h))
}

func cursorContext(t *testing.T, h CursorHarness) {
	first, _ := cursorAt(t, h)
	term := acquire(t, h, "instance-1")
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := h.Store().Save(ended, fence(t, h, term), first)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, h.Store().Report(ended, fence(t, h, term), nil), context.Canceled)
	_, err = h.Store().Load(ended)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, load(t, h))
}

func cursorOutage(t *testing.T, h CursorHarness) {
	first, _ := cursorAt(t, h)
	next := fence(t, h, acquire(t, h, "instance-1"))
	h.Disconnect(t)
	_, err := h.Store().Save(t.Context(), next, first)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	err = h.Store().Report(t.Context(), next, nil)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	_, err = h.Store().Load(t.Context())
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	h.Reconnect(t)
	saved, err := h.Store().Save(t.Context(), next, first)
	require.NoError(t, err)
	saved.RecordedTo = time.Time{}
	require.Equal(t, at(1, first), saved)
}
