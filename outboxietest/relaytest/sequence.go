package relaytest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// TestSequence runs the contract of Log.Verify and CursorStore.Save for a log whose sequence went back. Each call of open returns a new
// log, parking lot, cursor and lease.
func TestSequence(t *testing.T, open func(t *testing.T) ParkingHarness) {
	check := contracttest.Runner(t, func(t *testing.T) *leader { return lead(t, open(t)) })
	check("a log that grows at its end is sound", sequenceSound)
	check("Verify reports whether the log has more", sequenceMore)
	check("a sequence below the log is found", sequenceBelowLog)
	check("a sequence below the cursor is found", sequenceBelowCursor)
	check("a sequence below the progress is found", sequenceBelowProgress)
	check("a sequence below the parking lot is found", sequenceBelowLot)
	check("an event at the position of a purged one is found", sequencePurged)
	check("an event in a gap is found", sequenceGap)
	check("an event in a gap after the cursor is found", sequenceLateGap)
	check("an event that was recorded early is not misplaced", sequenceClock)
	check("parked events do not count", sequenceParked)
	check("lost history is reported as such", sequenceHistory)
	check("RecordedTo rises with the position", sequenceRecordedTo)
	check("a save with a stale revision is reported as such", sequenceRevision)
	check("Verify ends with its context, or in an outage", sequenceOutage)
}

// withGap appends an event, leaves a gap, and appends another event.
func withGap(t *testing.T, h LogHarness) []outbox.Entry {
	t.Helper()
	appendCommitted(t, h, NewMessage("a", 1))
	dead := begin(t, h)
	require.NoError(t, dead.Append(t.Context(), NewMessage("dead", 1)))
	dead.Rollback()
	appendCommitted(t, h, NewMessage("b", 1))
	return readAll(t, h)
}

// recordAt appends an event at the position at. The parameter then is the last assigned position after the call.
func (l *leader) recordAt(aggregate string, at, then outbox.Position) outbox.Entry {
	l.t.Helper()
	l.SetSequence(l.t, at-1)
	message := NewMessage(aggregate, 1)
	appendCommitted(l.t, l, message)
	l.SetSequence(l.t, then)
	for _, entry := range readAll(l.t, l) {
		if entry.ID == message.ID {
			require.Equal(l.t, at, entry.Position)
			return entry
		}
	}
	require.Fail(l.t, "the event is not in the log")
	return outbox.Entry{}
}

// saveAt saves the cursor at entry, whose message has the sequence.
func (l *leader) saveAt(entry outbox.Entry, sequence uint64) error {
	_, err := l.Store().Save(l.t.Context(), l.fence(), relay.Cursor{
		Progress: entry.Progress(), StreamCreated: "x", StreamSequence: sequence, RecordedTo: entry.RecordedAt,
	})
	return err
}

// requireBehind requires that both Verify and Save return ErrSequenceBehind, and that Save writes nothing.
func (l *leader) requireBehind(reached outbox.Entry, sequence uint64) {
	l.t.Helper()
	require.ErrorIs(l.t, verify(l.t.Context(), l.Log(), reached.Progress(), sequence), relay.ErrSequenceBehind)
	l.requireUnsaved(reached, sequence)
}

func (l *leader) requireUnsaved(reached outbox.Entry, sequence uint64) {
	l.t.Helper()
	before := load(l.t, l)
	require.ErrorIs(l.t, l.saveAt(reached, sequence), relay.ErrSequenceBehind)
	require.Equal(l.t, before, load(l.t, l))
}

func (l *leader) requireSound(reached outbox.Entry, sequence uint64) {
	l.t.Helper()
	require.NoError(l.t, verify(l.t.Context(), l.Log(), reached.Progress(), sequence))
	require.NoError(l.t, l.saveAt(reached, sequence))
	require.NoError(l.t, verify(l.t.Context(), l.Log(), reached.Progress(), sequence))
}

// sequenceMore checks that Verify reports whether the log has entries after the position, of committed transactions only.
func sequenceMore(t *testing.T, l *leader) {
	more := func(after outbox.Progress, sequence uint64) bool {
		t.Helper()
		more, err := l.Log().Verify(t.Context(), after, sequence)
		require.NoError(t, err)
		return more
	}
	require.False(t, more(outbox.Progress{}, 0), "an empty log")
	log := withGap(t, l)
	require.True(t, more(outbox.Progress{}, 0))
	require.True(t, more(log[0].Progress(), 1))
	last := log[len(log)-1].Progress()
	require.False(t, more(last, uint64(len(log))))
	open := begin(t, l)
	require.NoError(t, open.Append(t.Context(), NewMessage("more", 1)))
	require.False(t, more(last, uint64(len(log))), "the entry is not committed")
	require.NoError(t, open.Commit())
	require.True(t, more(last, uint64(len(log))))
}

func sequenceSound(t *testing.T, l *leader) {
	require.NoError(t, verify(t.Context(), l.Log(), outbox.Progress{}, 0), "an empty log")
	log := withGap(t, l)
	require.NoError(t, verify(t.Context(), l.Log(), outbox.Progress{}, 0), "nothing was published")
	l.requireSound(log[0], 1)
	l.requireSound(log[1], 2)
	l.Purge(t, log[1].Position)
	require.NoError(t, verify(t.Context(), l.Log(), log[1].Progress(), 2), "everything was purged")
	appendCommitted(t, l, NewMessage("a", 2))
	require.NoError(t, verify(t.Context(), l.Log(), log[1].Progress(), 2))
	open := begin(t, l)
	require.NoError(t, open.Append(t.Context(), NewMessage("a", 3)))
	require.NoError(t, verify(t.Context(), l.Log(), log[1].Progress(), 2), "somebody is writing")
	open.Rollback()
	last, err := l.Log().After(t.Context(), log[1].Progress(), plenty)
	require.NoError(t, err)
	l.requireSound(last.Entries[0], 3)
}

func sequenceBelowLog(t *testing.T, l *leader) {
	log := events(t, l, "a", "b", "c")
	l.requireSound(log[0], 1)
	for _, position := range []outbox.Position{0, 1, 2} {
		l.SetSequence(t, position)
		l.requireBehind(log[0], 1)
	}
	l.SetSequence(t, 3)
	l.requireSound(log[0], 1)
}

func sequenceBelowCursor(t *testing.T, l *leader) {
	log := events(t, l, "a", "b", "c")
	l.requireSound(log[2], 3)
	l.Purge(t, 3)
	l.SetSequence(t, 0)
	l.requireBehind(log[2], 3)
	l.SetSequence(t, 2)
	l.requireBehind(log[2], 3)
}

func sequenceBelowProgress(t *testing.T, l *leader) {
	log := events(t, l, "a", "b", "c")
	l.requireSound(log[0], 1)
	l.LoseCommits(t, 1)
	l.SetSequence(t, 2)
	l.requireUnsaved(log[2], 3)
}

func sequenceBelowLot(t *testing.T, l *leader) {
	log := events(t, l, "a", "b", "c")
	l.park(log[2])
	l.requireSound(log[0], 1)
	l.LoseCommits(t, 2)
	l.SetSequence(t, 2)
	l.requireBehind(log[0], 1)
	l.SetSequence(t, 3)
	l.requireSound(log[0], 1)
}

func sequencePurged(t *testing.T, l *leader) {
	log := events(t, l, "a", "b", "c")
	l.requireSound(log[2], 3)
	l.Purge(t, 2)
	l.recordAt("new", 1, 4)
	require.ErrorIs(t, verify(t.Context(), l.Log(), log[2].Progress(), 3), relay.ErrSequenceBehind)
}

func sequenceGap(t *testing.T, l *leader) {
	log := withGap(t, l)
	l.requireSound(log[1], 2)
	recorded := l.recordAt("new", 2, 4)
	require.ErrorIs(t, verify(t.Context(), l.Log(), log[1].Progress(), 2), relay.ErrSequenceBehind)
	require.NoError(t, l.saveAt(log[1], 2), "RecordedTo stays below the event, so the event is not hidden")
	appendCommitted(t, l, NewMessage("later", 1))
	page, err := l.Log().After(t.Context(), log[1].Progress(), plenty)
	require.NoError(t, err)
	require.Len(t, page.Entries, 1)
	require.True(t, page.Entries[0].RecordedAt.After(recorded.RecordedAt))
	l.requireBehind(page.Entries[0], 3)
}

func sequenceLateGap(t *testing.T, l *leader) {
	log := withGap(t, l)
	l.requireSound(log[0], 1)
	l.recordAt("new", 2, 3)
	l.requireBehind(log[1], 2)
	require.NoError(t, verify(t.Context(), l.Log(), log[1].Progress(), 3), "the stream has a message for each event")
	require.NoError(t, l.saveAt(log[1], 3))
}

func sequenceClock(t *testing.T, l *leader) {
	events(t, l, "a", "b")
	late := begin(t, l)
	require.NoError(t, late.Append(t.Context(), NewMessage("late", 1)))
	appendCommitted(t, l, NewMessage("early", 1))
	require.NoError(t, late.Commit())
	log := readAll(t, l)
	last := log[3]
	last.RecordedAt = last.RecordedAt.Add(time.Hour) // the clock went back
	l.requireSound(last, 4)
	appendCommitted(t, l, NewMessage("next", 1))
	l.requireSound(readAll(t, l)[4], 5)
}

func sequenceParked(t *testing.T, l *leader) {
	log := events(t, l, "a", "b", "c")
	l.requireSound(log[0], 1)
	require.ErrorIs(t, verify(t.Context(), l.Log(), log[2].Progress(), 2), relay.ErrSequenceBehind)
	l.park(log[1])
	l.requireSound(log[2], 2)
	l.Purge(t, 1)
	l.requireSound(log[2], 2)
}

func sequenceHistory(t *testing.T, l *leader) {
	log := events(t, l, "a", "b")
	l.requireSound(log[0], 1)
	other := outbox.Progress{Position: log[1].Position, EventID: log[0].ID}
	require.ErrorIs(t, verify(t.Context(), l.Log(), other, 2), relay.ErrHistoryLost)
	beyond := outbox.Progress{Position: log[1].Position + 1, EventID: log[0].ID}
	require.ErrorIs(t, verify(t.Context(), l.Log(), beyond, 2), relay.ErrHistoryLost)
}

func sequenceRecordedTo(t *testing.T, l *leader) {
	log := events(t, l, "a", "b", "c", "d")
	save := func(entry outbox.Entry, to time.Time) time.Time {
		t.Helper()
		saved, err := l.Store().Save(t.Context(), l.fence(), relay.Cursor{
			Progress: entry.Progress(), StreamCreated: "x", StreamSequence: uint64(entry.Position), RecordedTo: to,
		})
		require.NoError(t, err)
		require.Zero(t, load(t, l).RecordedTo)
		return saved.RecordedTo
	}
	latest := func(entries ...outbox.Entry) (latest time.Time) {
		for _, entry := range entries {
			if entry.RecordedAt.After(latest) {
				latest = entry.RecordedAt
			}
		}
		return latest
	}
	require.WithinDuration(t, log[0].RecordedAt, save(log[0], log[0].RecordedAt), 0)
	require.WithinDuration(t, latest(log[:3]...), save(log[2], time.Time{}), 0, "it is found")
	require.WithinDuration(t, latest(log[:3]...), save(log[3], log[0].RecordedAt.Add(-time.Hour)), 0, "it does not fall")
	require.WithinDuration(t, latest(log[:3]...), save(log[1], time.Time{}), 0, "nor with the position")
	require.WithinDuration(t, latest(log...).Add(time.Hour), save(log[3], latest(log...).Add(time.Hour)), 0)
}

func sequenceRevision(t *testing.T, l *leader) {
	log := events(t, l, "a", "b")
	l.requireSound(log[0], 1)
	l.SetSequence(t, 0)
	late := l.fence()
	late.Revision--
	_, err := l.Store().Save(t.Context(), late, relay.Cursor{Progress: log[1].Progress(), StreamCreated: "x", StreamSequence: 2})
	require.ErrorIs(t, err, relay.ErrStaleRevision)
	former := l.fence()
	former.Token--
	_, err = l.Store().Save(t.Context(), former, relay.Cursor{Progress: log[1].Progress(), StreamCreated: "x", StreamSequence: 2})
	require.ErrorIs(t, err, relay.ErrLeaseLost)
}

func sequenceOutage(t *testing.T, l *leader) {
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, verify(ended, l.Log(), outbox.Progress{}, 0), context.Canceled)
	l.Disconnect(t)
	err := verify(t.Context(), l.Log(), outbox.Progress{}, 0)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	require.NotErrorIs(t, err, relay.ErrSequenceBehind)
	l.Reconnect(t)
	require.NoError(t, verify(t.Context(), l.Log(), outbox.Progress{}, 0))
}

// verify calls Verify, and returns only its error.
func verify(ctx context.Context, log relay.Log, reached outbox.Progress, sequence uint64) error {
	_, err := log.Verify(ctx, reached, sequence)
	return err
}
