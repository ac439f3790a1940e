// Package operationstest holds the contract suites of the driven ports of package operations. Each adapter calls TestRelayRepair,
// TestEventLog and TestEffectReader from tests of its own, with a harness over its log or a store with its inbox.
package operationstest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// RelayRepairHarness is an empty log with its parking lot, cursor and lease.
type RelayRepairHarness interface {
	relaytest.ParkingHarness
	RelayRepair() operations.RelayRepair
}

// TestRelayRepair checks operations.RelayRepair. Each call of open returns a new log, parking lot, cursor and lease.
func TestRelayRepair(t *testing.T, open func(t *testing.T) RelayRepairHarness) {
	check := contracttest.Runner(t, func(t *testing.T) *fixture { return newFixture(t, open(t)) })
	check("the cursor is the relay's", repairCursor)
	check("the log reports which events it holds", repairHasEvents)
	check("an event is found at its position", repairAt)
	check("entries that are not parked are counted", repairBehind)
	check("an adoption sets the cursor and ends the halt", repairAdopt)
	check("an adoption may be the first write", repairAdoptFirst)
	check("an adoption goes back", repairAdoptBack)
	check("an adoption that comes late does nothing", repairAdoptLate)
	check("of several adoptions one takes effect", repairAdoptRace)
	check("a leader that knows no adoption is stopped", repairAdoptFences)

	check("a log in order is left as it is", realignNothing)
	check("a sequence that went back is raised", realignSequence)
	check("misplaced events move to the end", realignMisplaced)
	check("versions stay in order", realignVersions)
	check("what the stream holds is not moved", realignPublished)
	check("a complete list shows what else is misplaced", realignComplete)
	check("what is parked stays", realignParked)
}

// fixture is a harness with a leader. The leader writes what a relay writes.
type fixture struct {
	RelayRepairHarness
	t    *testing.T
	term relay.Term
}

func newFixture(t *testing.T, h RelayRepairHarness) *fixture {
	t.Helper()
	term, err := h.Elector("instance-1").Acquire(t.Context(), 0)
	require.NoError(t, err)
	return &fixture{h, t, term}
}

var old = relay.Cursor{StreamCreated: "the old stream", StreamSequence: 10}

func (w *fixture) cursor() relay.Cursor {
	w.t.Helper()
	cursor, err := w.RelayRepair().Cursor(w.t.Context())
	require.NoError(w.t, err)
	return cursor
}

func (w *fixture) fence() relay.WriteFence {
	w.t.Helper()
	return relay.WriteFence{Token: w.term.Token, Revision: w.cursor().Revision}
}

// append records the first versions of an aggregate, and returns the entries.
func (w *fixture) append(aggregate string, versions int64) []outbox.Entry {
	w.t.Helper()
	writer, err := w.Begin(w.t.Context())
	require.NoError(w.t, err)
	for version := range versions {
		require.NoError(w.t, writer.Append(w.t.Context(), relaytest.NewMessage(aggregate, version+1)))
	}
	require.NoError(w.t, writer.Commit())
	page, err := w.Log().After(w.t.Context(), outbox.Progress{}, relay.ReadLimit{Count: 1000, Bytes: 1 << 20})
	require.NoError(w.t, err)
	return page.Entries[len(page.Entries)-int(versions):]
}

// saveAt saves the cursor of the old stream with this progress.
func (w *fixture) saveAt(place outbox.Progress) relay.Cursor {
	w.t.Helper()
	cursor := old
	cursor.Progress = place
	saved, err := w.Store().Save(w.t.Context(), w.fence(), cursor)
	require.NoError(w.t, err)
	return saved
}

func (w *fixture) halt() {
	w.t.Helper()
	require.NoError(w.t, w.Store().Report(w.t.Context(), w.fence(), relay.NewHalt(relay.HaltTailGone, "gone")))
}

func (w *fixture) park(entry outbox.Entry) {
	w.t.Helper()
	w.reconcile(relay.MessageMeta{Own: true, Progress: entry.Progress(), Parked: "too large", LastOwnSequence: 9}, 10)
}

// redrive parks an event and redrives it. The redriven event is the message at the given sequence.
func (w *fixture) redrive(entry outbox.Entry, sequence uint64) {
	w.t.Helper()
	w.park(entry)
	_, err := w.ParkingAdmin().Redrive(w.t.Context(), &entry.Key)
	require.NoError(w.t, err)
	w.reconcile(relay.MessageMeta{Own: true, Progress: entry.Progress(), Event: entry.Position, Redriven: true}, sequence)
	require.Empty(w.t, w.waiting())
}

func (w *fixture) reconcile(tail relay.MessageMeta, sequence uint64) {
	w.t.Helper()
	_, err := w.Parking().Reconcile(w.t.Context(), w.fence(), tail, sequence, true)
	require.NoError(w.t, err)
}

// waiting returns the states of the events that wait in the parking lot, by position.
func (w *fixture) waiting() map[outbox.Position]relay.ParkedState {
	w.t.Helper()
	events, err := w.ParkingAdmin().Waiting(w.t.Context(), 1000)
	require.NoError(w.t, err)
	states := make(map[outbox.Position]relay.ParkedState)
	for _, event := range events {
		states[event.Position] = event.State
	}
	return states
}

func (w *fixture) behind(position outbox.Position) int {
	w.t.Helper()
	count, err := w.RelayRepair().CountAfter(w.t.Context(), position)
	require.NoError(w.t, err)
	return int(count)
}

func (w *fixture) adopt(cursor relay.Cursor, newStream bool) {
	w.t.Helper()
	require.NoError(w.t, w.RelayRepair().Adopt(w.t.Context(), w.cursor().Revision, cursor, newStream))
}

func repairCursor(t *testing.T, w *fixture) {
	require.Zero(t, w.cursor(), "nothing was ever written")
	entries := w.append("a", 1)
	w.saveAt(entries[0].Progress())
	w.halt()
	want := old
	want.Progress, want.Revision, want.Halt = entries[0].Progress(), 2, relay.NewHalt(relay.HaltTailGone, "gone")
	require.Equal(t, want, w.cursor())

	ended, end := context.WithCancel(t.Context())
	end()
	_, err := w.RelayRepair().Cursor(ended)
	require.ErrorIs(t, err, context.Canceled)
}

func repairHasEvents(t *testing.T, w *fixture) {
	entries := w.append("a", 3)
	first, second, third := entries[0].Progress(), entries[1].Progress(), entries[2].Progress()
	swapped := outbox.Progress{Position: third.Position, EventID: first.EventID}
	for name, c := range map[string]struct {
		places []outbox.Progress
		want   []outbox.Progress
	}{
		"none asked for":       {nil, nil},
		"in any order":         {[]outbox.Progress{first, third, second}, []outbox.Progress{first, second, third}},
		"another event's id":   {[]outbox.Progress{first, swapped}, []outbox.Progress{first}},
		"a position beyond":    {[]outbox.Progress{{Position: third.Position + 7, EventID: third.EventID}, first}, []outbox.Progress{first}},
		"not an id of ours":    {[]outbox.Progress{{Position: second.Position, EventID: `it's {"no"}, id ?`}, first}, []outbox.Progress{first}},
		"nothing that it knew": {[]outbox.Progress{swapped, {Position: first.Position}}, nil},
	} {
		held, err := w.RelayRepair().HasEvents(t.Context(), c.places)
		require.NoError(t, err, name)
		require.Equal(t, c.want, held, name)
	}
}

func repairAt(t *testing.T, w *fixture) {
	entries := w.append("a", 2)
	for _, entry := range entries {
		place, found, err := w.RelayRepair().At(t.Context(), entry.Position)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, entry.Progress(), place)
	}
	for _, position := range []outbox.Position{0, entries[1].Position + 1} {
		place, found, err := w.RelayRepair().At(t.Context(), position)
		require.NoError(t, err)
		require.False(t, found)
		require.Zero(t, place)
	}
}

func repairBehind(t *testing.T, w *fixture) {
	require.Zero(t, w.behind(0))
	entries := w.append("a", 3)
	other := w.append("b", 1)[0]
	require.Equal(t, 4, w.behind(0))
	require.Equal(t, 3, w.behind(entries[0].Position))
	w.park(entries[1])
	require.Equal(t, 2, w.behind(entries[0].Position), "one is in the parking lot")
	require.NoError(t, w.ParkingAdmin().Discard(t.Context(), entries[1].Position))
	require.Equal(t, 2, w.behind(entries[0].Position), "and stays there")
	require.Zero(t, w.behind(other.Position))
}

func repairAdopt(t *testing.T, w *fixture) {
	entries := w.append("a", 2)
	w.saveAt(entries[0].Progress())
	w.halt()
	adopted := relay.Cursor{Progress: entries[1].Progress(), StreamCreated: "the new stream", StreamSequence: 3}
	w.adopt(adopted, true)
	adopted.Revision = 3
	require.Equal(t, adopted, w.cursor())
}

func repairAdoptFirst(t *testing.T, w *fixture) {
	entry := w.append("a", 1)[0]
	adopted := relay.Cursor{Progress: entry.Progress(), StreamCreated: "the stream", StreamSequence: 1}
	require.ErrorIs(t, w.RelayRepair().Adopt(t.Context(), 1, adopted, true), relay.ErrStaleRevision)
	require.Zero(t, w.cursor())
	w.adopt(adopted, false)
	adopted.Revision = 1
	require.Equal(t, adopted, w.cursor())
	require.Equal(t, int64(2), w.saveAt(entry.Progress()).Revision, "the leader goes on")
}

func repairAdoptBack(t *testing.T, w *fixture) {
	entries := w.append("a", 2)
	w.saveAt(entries[1].Progress())
	adopted := relay.Cursor{Progress: entries[0].Progress(), StreamCreated: old.StreamCreated, StreamSequence: 11}
	w.adopt(adopted, false)
	adopted.Revision = 2
	require.Equal(t, adopted, w.cursor())
}

func repairAdoptLate(t *testing.T, w *fixture) {
	entries := w.append("a", 2)
	w.redrive(entries[0], 5)
	w.saveAt(entries[0].Progress())
	w.halt()
	before := w.cursor()
	for _, revision := range []int64{0, before.Revision - 1, before.Revision + 1} {
		err := w.RelayRepair().Adopt(t.Context(), revision, relay.Cursor{Progress: entries[1].Progress(), StreamSequence: 1}, true)
		require.ErrorIs(t, err, relay.ErrStaleRevision)
		require.Equal(t, before, w.cursor())
		require.Empty(t, w.waiting(), "nothing is redriven again")
	}
}

func repairAdoptRace(t *testing.T, w *fixture) {
	entry := w.append("a", 1)[0]
	for round := range int64(5) {
		const racers = 8
		answers := make(chan error, racers)
		for racer := range uint64(racers) {
			go func() {
				answers <- w.RelayRepair().Adopt(t.Context(), round, relay.Cursor{Progress: entry.Progress(), StreamSequence: racer}, true)
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
		require.Equal(t, round+1, w.cursor().Revision)
	}
}

func repairAdoptFences(t *testing.T, w *fixture) {
	entry := w.append("a", 1)[0]
	w.saveAt(outbox.Progress{})
	believed := w.fence()
	w.adopt(relay.Cursor{Progress: entry.Progress(), StreamCreated: "the new stream", StreamSequence: 1}, true)
	before := w.cursor()
	_, err := w.Store().Save(t.Context(), believed, old)
	require.ErrorIs(t, err, relay.ErrStaleRevision)
	require.ErrorIs(t, w.Store().Report(t.Context(), believed, nil), relay.ErrStaleRevision)
	require.Equal(t, before, w.cursor())
}
