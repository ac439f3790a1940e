package operationstest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// recordAt records one version of an aggregate at the position at. The parameter then is the last assigned position after the call.
func (w *fixture) recordAt(aggregate string, version int64, at, then outbox.Position) outbox.Entry {
	w.t.Helper()
	w.SetSequence(w.t, at-1)
	writer, err := w.Begin(w.t.Context())
	require.NoError(w.t, err)
	message := relaytest.NewMessage(aggregate, version)
	message.Headers = map[string]string{"a": "b"}
	message.Payload = []byte("{ \"kept\" :  1.50}")
	require.NoError(w.t, writer.Append(w.t.Context(), message))
	require.NoError(w.t, writer.Commit())
	w.SetSequence(w.t, then)
	for _, entry := range w.log() {
		if entry.ID == message.ID {
			require.Equal(w.t, at, entry.Position)
			return entry
		}
	}
	require.Fail(w.t, "the event is not in the log")
	return outbox.Entry{}
}

func (w *fixture) log() []outbox.Entry {
	w.t.Helper()
	var entries []outbox.Entry
	for after := (outbox.Progress{}); ; after = entries[len(entries)-1].Progress() {
		page, err := w.Log().After(w.t.Context(), after, relay.ReadLimit{Count: 1000, Bytes: 1 << 20})
		require.NoError(w.t, err)
		if len(page.Entries) == 0 {
			return entries
		}
		entries = append(entries, page.Entries...)
	}
}

func (w *fixture) requireSequence(misplaced int64, next, highest outbox.Position) {
	w.t.Helper()
	found, err := w.RelayRepair().CheckSequence(w.t.Context())
	require.NoError(w.t, err)
	require.Equal(w.t, operations.SequenceCheck{Misplaced: misplaced, NextPosition: next, HighestPosition: highest}, found)
}

func (w *fixture) realign(want int64, r operations.Realignment) {
	w.t.Helper()
	moved, err := w.RelayRepair().Realign(w.t.Context(), r)
	require.NoError(w.t, err)
	require.Equal(w.t, want, moved)
}

// saveAs saves the cursor at an entry. In the old stream, the sequence of the entry's message equals the entry's position.
func (w *fixture) saveAs(entry outbox.Entry) {
	w.t.Helper()
	cursor := relay.Cursor{
		Progress: entry.Progress(), StreamCreated: old.StreamCreated, StreamSequence: uint64(entry.Position), RecordedTo: entry.RecordedAt,
	}
	_, err := w.Store().Save(w.t.Context(), w.fence(), cursor)
	require.NoError(w.t, err)
}

// requireLog requires that the log has exactly the wanted events after a position, without a gap. Only their positions may have changed.
func (w *fixture) requireLog(after outbox.Position, want ...outbox.Entry) {
	w.t.Helper()
	var found []outbox.Entry
	for _, entry := range w.log() {
		if entry.Position > after {
			found = append(found, entry)
		}
	}
	require.Len(w.t, found, len(want))
	for i, entry := range found {
		require.WithinDuration(w.t, want[i].RecordedAt, entry.RecordedAt, 0)
		want[i].RecordedAt = entry.RecordedAt // its zone does not matter
		want[i].Position = after + outbox.Position(i) + 1
		require.Equal(w.t, want[i], entry)
	}
}

func realignNothing(t *testing.T, w *fixture) {
	w.requireSequence(0, 1, 0)
	w.realign(0, operations.Realignment{})
	entries := w.append("a", 3)
	w.saveAs(entries[1])
	w.requireSequence(0, 4, 3)
	w.realign(0, operations.Realignment{Position: 2, Complete: true})
	w.requireLog(0, entries...)
	w.requireSequence(0, 4, 3)
}

func realignSequence(t *testing.T, w *fixture) {
	entries := w.append("a", 3)
	w.saveAs(entries[2])
	w.SetSequence(t, 1)
	w.requireSequence(0, 2, 3)
	w.realign(0, operations.Realignment{Position: 3})
	w.requireSequence(0, 4, 3)
	w.Purge(t, 3)
	w.SetSequence(t, 0)
	w.requireSequence(0, 1, 3)
	w.realign(0, operations.Realignment{Position: 3})
	w.requireSequence(0, 4, 3)
	require.Equal(t, outbox.Position(4), w.append("b", 1)[0].Position)
}

func realignMisplaced(t *testing.T, w *fixture) {
	entries := w.append("a", 4)
	w.saveAs(entries[3])
	w.Purge(t, 3)
	later, sooner := w.recordAt("c", 1, 2, 0), w.recordAt("b", 1, 1, 1)
	waits := w.recordAt("d", 1, 7, 7)
	w.requireSequence(2, 8, 7)
	w.realign(2, operations.Realignment{Position: 4})
	w.requireSequence(0, 10, 9)
	w.requireLog(7, later, sooner)
	w.requireLog(6, waits, later, sooner)
	w.realign(0, operations.Realignment{Position: 4})
}

func realignVersions(t *testing.T, w *fixture) {
	entries := w.append("a", 4)
	w.saveAs(entries[3])
	w.Purge(t, 4)
	second, first := w.recordAt("b", 2, 1, 1), w.recordAt("b", 1, 2, 5) // the database accepts versions in any order
	other, third := w.recordAt("c", 1, 6, 6), w.recordAt("b", 3, 7, 7)
	w.requireSequence(2, 8, 7)
	w.realign(3, operations.Realignment{Position: 4})
	w.requireLog(7, first, second, third)
	w.requireSequence(0, 11, 10)
	require.Equal(t, other.ID, w.log()[0].ID, "of another aggregate")
}

func realignPublished(t *testing.T, w *fixture) {
	entries := w.append("a", 4)
	w.saveAs(entries[3])
	w.Purge(t, 2)
	restored, lost := w.recordAt("b", 1, 1, 1), w.recordAt("c", 1, 2, 4)
	w.requireSequence(2, 5, 4)
	w.realign(1, operations.Realignment{Position: 4, Published: []string{restored.ID}})
	w.requireLog(4, lost)
	w.requireSequence(0, 6, 5)
	require.Equal(t, entries[2].ID, w.log()[0].ID, "what retention had removed, and the stream holds, is removed again")
}

func realignComplete(t *testing.T, w *fixture) {
	entries := w.append("a", 4)
	w.saveAs(entries[0])
	r := operations.Realignment{Position: 3, Published: []string{entries[0].ID, entries[2].ID}}
	w.realign(0, r)
	r.Complete = true
	w.realign(2, r)
	w.requireLog(4, entries[1], entries[3])
}

func realignParked(t *testing.T, w *fixture) {
	entries := w.append("a", 4)
	w.park(entries[0])
	w.park(entries[2])
	require.NoError(t, w.ParkingAdmin().Discard(t.Context(), 1))
	w.saveAs(entries[3])
	w.realign(0, operations.Realignment{Position: 1, Complete: true})
	writer, err := w.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, writer.Append(t.Context(), relaytest.NewMessage("dead", 1)))
	writer.Rollback()
	w.append("b", 1)
	last := w.log()[4]
	w.saveAs(last)
	came := w.recordAt("a", 5, 5, 6)
	w.realign(2, operations.Realignment{Position: 2})
	require.Equal(t, map[outbox.Position]relay.ParkedState{3: relay.Parked}, w.waiting())
	w.requireLog(6, entries[3], came)
}

func listMisplaced(t *testing.T, w *eventLogFixture) {
	entries := w.append("a", 3)
	w.saveAs(entries[2])
	w.Purge(t, 1)
	w.recordAt("b", 1, 1, 3)
	w.append("c", 1)
	w.park(w.log()[1])
	found, err := w.EventLog.List(t.Context(), operations.EventFilter{Limit: 10})
	require.NoError(t, err)
	var states []string
	for _, item := range found {
		states = append(states, item.State)
	}
	require.Equal(t, []string{operations.Unpublished, operations.Published, string(relay.Parked), operations.Misplaced}, states)
	requireEachState(t, w.EventLog)
}
