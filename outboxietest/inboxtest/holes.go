package inboxtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// HoleStore is a store together with the log of the same database. The log is empty, and has filled no stream yet.
type HoleStore struct {
	Store
	Log inbox.Log
	// SetLogCursor makes the log's cursor stand in the stream with this identity, at a sequence and a position.
	SetLogCursor func(t *testing.T, stream string, sequence uint64, position outbox.Position)
	// AppendToLog puts events into the log, at their positions.
	AppendToLog func(t *testing.T, events ...outbox.Entry)
	// Park puts an event of the log into its parking lot. sequence is where the event was redriven; 0: it was not.
	Park func(t *testing.T, event outbox.Entry, sequence uint64)
	// Purge removes the log up to a position, as retention does.
	Purge func(t *testing.T, upTo outbox.Position)
}

// TestLog checks what inbox.Log promises: the log fills holes of the stream, and events that it cannot fill are counted. open returns an empty
// store.
func TestLog(t *testing.T, open func(t *testing.T) HoleStore) {
	check := contracttest.Runner(t, func(t *testing.T) *holes {
		store := open(t)
		g := &holes{lane: newLane(store.Store), HoleStore: store, events: newEvents(0, 10, "a", "b", "c")}
		g.begin(t)
		require.NoError(t, store.Checkpoints.Subscribe(t.Context(), subscriber, handlerName, []string{relaytest.EventType}))
		g.look(t)
		for _, event := range g.events {
			store.AppendToLog(t, event.Entry)
		}
		store.SetLogCursor(t, stream, 20, 10)
		return g
	})
	check("what the stream lost is in the log, in order", holeInOrder)
	check("a limit bounds how much is taken", holeLimited)
	check("a lane gets its own events", holeOfLane)
	check("what is not wanted is not taken", holeWanted)
	check("what was dealt with is not taken", holeDealt)
	check("what waits in the parking lot is not lost", holeParked)
	check("what was redriven into the hole is lost", holeRedriven)
	check("the cursor says where the stream ends", holeAtTheEnd)
	check("what retention removed is counted", holePurged)
	check("what retention removed and was dealt with is not", holePurgedDealt)
	check("the log of another database knows nothing", holeElsewhere)
	check("what is filled and missed is counted once", holeCounted)
	check("a copy behind the hole hides nothing", holeCopied)
	check("what is not known is bounded by the messages", holeUnsure)
	check("the log is asked although no message is missing", holeWithoutAHole)
	check("a checkpoint keeps its progress", holeProgress)
	check("a lost connection is an outage of the log", holeOutage)
}

// holes is a subscriber with one lane, beside a log with ten events.
type holes struct {
	*lane
	HoleStore HoleStore
	events    []inbox.Event
}

var wholeHole = inbox.ReadLimit{Count: 100, Bytes: 1 << 20}

// hole returns a hole of the first messages of the stream, up to the sequence last. Each message had one event.
func hole(last uint64) inbox.Hole {
	h := inbox.Hole{Lane: 0, Lanes: 1, Stream: stream, First: 1, Last: last, LastRead: 10, EndsBefore: 11}
	for position := last + 1; position <= 10; position++ {
		h.PositionsAfter = append(h.PositionsAfter, outbox.Position(position))
	}
	return h
}

func (g *holes) readHole(t *testing.T, h inbox.Hole, limit inbox.ReadLimit) (inbox.HoleContents, []int) {
	t.Helper()
	contents, err := g.HoleStore.Log.ReadHole(t.Context(), subscriber, h, limit)
	require.NoError(t, err)
	var positions []int
	for _, event := range contents.Events {
		require.Equal(t, h.Last, event.Sequence)
		positions = append(positions, int(event.Position))
	}
	return contents, positions
}

func holeInOrder(t *testing.T, g *holes) {
	contents, positions := g.readHole(t, hole(4), wholeHole)
	require.Equal(t, []int{1, 2, 3, 4}, positions)
	require.Equal(t, inbox.HoleContents{CompleteTo: 4, Events: contents.Events}, contents)
	event, wanted := contents.Events[1], g.events[1]
	event.RecordedAt = wanted.RecordedAt
	wanted.Sequence = 4
	require.JSONEq(t, string(wanted.Payload), string(event.Payload))
	event.Payload = wanted.Payload
	require.Equal(t, wanted, event)

	middle := hole(4)
	middle.First, middle.After = 3, 2
	_, positions = g.readHole(t, middle, wholeHole)
	require.Equal(t, []int{3, 4}, positions)
}

func holeCopied(t *testing.T, g *holes) {
	copied := hole(4)
	copied.PositionsAfter = append([]outbox.Position{2}, copied.PositionsAfter...)
	contents, positions := g.readHole(t, copied, wholeHole)
	require.Equal(t, []int{1, 2, 3, 4}, positions, "event 2 is not after 4")
	require.EqualValues(t, 4, contents.CompleteTo)
	copied.PositionsAfter[0] = 4
	contents, positions = g.readHole(t, copied, wholeHole)
	require.Equal(t, []int{1, 2, 3}, positions, "event 4 is behind the hole, in its place")
	require.EqualValues(t, 3, contents.CompleteTo)
}

// holeUnsure checks a lane that does not know its progress. Then ReadHole returns at most as many events as messages were removed.
func holeUnsure(t *testing.T, g *holes) {
	h := hole(8)
	h.First, h.After = 7, 0
	contents, positions := g.readHole(t, h, wholeHole)
	require.Equal(t, []int{7, 8}, positions, "two messages have two events")
	require.Zero(t, contents.LostMessages)
	stale := h
	stale.LastRead, stale.EndsBefore, stale.PositionsAfter = 20, 10, []outbox.Position{9}
	_, positions = g.readHole(t, stale, wholeHole)
	require.Equal(t, []int{7, 8, 9, 10}, positions, "the cursor is newer than the messages")
	g.HoleStore.Park(t, g.events[7].Entry, 0)
	_, positions = g.readHole(t, h, wholeHole)
	require.Equal(t, []int{6, 7}, positions)
	g.HoleStore.Purge(t, 5)
	contents, positions = g.readHole(t, h, wholeHole)
	require.Equal(t, []int{6, 7}, positions)
	require.Zero(t, contents.LostMessages, "the log has as many events as the hole has messages")
	h.First = 4
	contents, positions = g.readHole(t, h, wholeHole)
	require.Equal(t, []int{6, 7}, positions)
	require.Equal(t, 5, contents.LostMessages)
}

// holeWithoutAHole checks a lane at whose position the message was removed. After this position no message is missing, but the next message
// does not continue the lane's progress.
func holeWithoutAHole(t *testing.T, g *holes) {
	h := hole(6)
	h.First, h.Last, h.After = 5, 4, 2
	contents, positions := g.readHole(t, h, wholeHole)
	require.Equal(t, []int{3, 4, 5, 6}, positions)
	require.EqualValues(t, 6, contents.CompleteTo)
	require.Zero(t, contents.LostMessages)
	g.HoleStore.Purge(t, 4)
	contents, _ = g.readHole(t, h, wholeHole)
	require.Equal(t, 2, contents.LostMessages)
	g.HoleStore.SetLogCursor(t, "another", 20, 10)
	contents, positions = g.readHole(t, h, wholeHole)
	require.Empty(t, positions)
	require.Zero(t, contents.LostMessages, "no message was removed")
	require.EqualValues(t, 6, contents.CompleteTo)
}

func holeLimited(t *testing.T, g *holes) {
	contents, positions := g.readHole(t, hole(4), inbox.ReadLimit{Count: 3, Bytes: 1 << 20})
	require.Equal(t, []int{1, 2, 3}, positions)
	require.True(t, contents.More)
	require.EqualValues(t, 3, contents.CompleteTo)
	_, positions = g.readHole(t, hole(4), inbox.ReadLimit{Count: 3, Bytes: 1})
	require.Equal(t, []int{1}, positions)
	rest := hole(4)
	rest.After = contents.CompleteTo
	contents, positions = g.readHole(t, rest, inbox.ReadLimit{Count: 3, Bytes: 1})
	require.Equal(t, []int{4}, positions)
	require.False(t, contents.More)
}

func holeOfLane(t *testing.T, g *holes) {
	var all []int
	for lane := range 4 {
		h := hole(9)
		h.Lane, h.Lanes = lane, 4
		contents, positions := g.readHole(t, h, wholeHole)
		require.EqualValues(t, 9, contents.CompleteTo)
		for _, event := range contents.Events {
			require.Equal(t, lane, inbox.LaneOf(event.Key, 4))
		}
		all = append(all, positions...)
	}
	require.ElementsMatch(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9}, all)
}

func holeWanted(t *testing.T, g *holes) {
	other := newEvent(11, "a")
	other.Type = "other"
	g.HoleStore.AppendToLog(t, other.Entry)
	h := hole(11)
	h.After, h.EndsBefore, h.PositionsAfter = 9, 13, nil
	contents, positions := g.readHole(t, h, wholeHole)
	require.Equal(t, []int{10}, positions)
	require.EqualValues(t, 12, contents.CompleteTo)
	require.Zero(t, contents.LostMessages)
}

// apply applies events in the lane.
func (g *holes) apply(t *testing.T, batch inbox.Batch) {
	t.Helper()
	batch.From = g.at
	outcome, err := g.UnitOfWork.Apply(t.Context(), subscriber, batch, g.lane, func(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
		return inbox.Failure{}, err
	})
	require.NoError(t, err)
	g.at = outcome.Checkpoint
}

func holeDealt(t *testing.T, g *holes) {
	handled := g.events[1]
	waits := g.events[2]
	waits.NoHandler = true
	g.apply(t, inbox.Batch{To: positionAt(3), Events: []inbox.Event{handled, waits}})
	_, positions := g.readHole(t, hole(4), wholeHole)
	require.Equal(t, []int{1, 4}, positions)
}

func holeParked(t *testing.T, g *holes) {
	g.HoleStore.Park(t, g.events[1].Entry, 0)
	g.HoleStore.Park(t, g.events[2].Entry, 7)
	_, positions := g.readHole(t, hole(4), wholeHole)
	require.Equal(t, []int{1, 4}, positions)
}

func holeRedriven(t *testing.T, g *holes) {
	g.HoleStore.Park(t, g.events[1].Entry, 8)
	h := hole(8)
	h.First, h.After = 6, 5
	_, positions := g.readHole(t, h, wholeHole)
	require.Equal(t, []int{2, 6, 7, 8}, positions)
	h.First = 9
	h.Last = 9
	_, positions = g.readHole(t, h, wholeHole)
	require.Equal(t, []int{6, 7, 8}, positions)

	g.HoleStore.Park(t, g.events[9].Entry, 8)
	h = hole(8)
	h.EndsBefore, h.PositionsAfter = 5, nil // the relay was sent back, and has not come to the event again
	contents, positions := g.readHole(t, h, wholeHole)
	require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, positions, "also events that are later in the log than the hole's end")
	require.EqualValues(t, 4, contents.CompleteTo)

	h = hole(8)
	h.First, h.After, h.PositionsAfter = 8, 4, []outbox.Position{5, 6, 7, 9} // the relay was sent back, and has published these again
	_, positions = g.readHole(t, h, wholeHole)
	require.Equal(t, []int{2, 5, 6, 7, 8, 9, 10}, positions, "an event comes after the earlier events of its aggregate")
}

func holeAtTheEnd(t *testing.T, g *holes) {
	end := inbox.Hole{Lanes: 1, Stream: stream, First: 5, Last: 19, LastRead: 19, After: 4}
	contents, _ := g.readHole(t, end, wholeHole)
	require.True(t, contents.EndUnknown, "the cursor stands after what was read")
	end.LastRead = 20
	contents, positions := g.readHole(t, end, wholeHole)
	require.Equal(t, []int{5, 6, 7, 8, 9, 10}, positions)
	require.EqualValues(t, 10, contents.CompleteTo)

	reached, err := g.HoleStore.Log.CursorBetween(t.Context(), stream, 20, 20)
	require.NoError(t, err)
	require.Equal(t, inbox.LogCursor{Known: true, Position: 10}, reached)
	reached, err = g.HoleStore.Log.CursorBetween(t.Context(), stream, 1, 19)
	require.NoError(t, err)
	require.Equal(t, inbox.LogCursor{}, reached)
}

func holePurged(t *testing.T, g *holes) {
	g.HoleStore.Purge(t, 2)
	contents, positions := g.readHole(t, hole(4), wholeHole)
	require.Equal(t, []int{3, 4}, positions)
	require.Equal(t, 2, contents.LostMessages)
	require.Contains(t, contents.Why, "up to position 2")
	after := hole(4)
	after.First, after.After = 3, 2
	contents, _ = g.readHole(t, after, wholeHole)
	require.Zero(t, contents.LostMessages)
	g.HoleStore.Purge(t, 10)
	contents, positions = g.readHole(t, hole(4), wholeHole)
	require.Empty(t, positions)
	require.Equal(t, 4, contents.LostMessages, "a message that is present is known")
	require.EqualValues(t, 4, contents.CompleteTo)
}

func holePurgedDealt(t *testing.T, g *holes) {
	g.apply(t, inbox.Batch{To: positionAt(2), Events: g.events[:2]})
	g.HoleStore.Purge(t, 4)
	contents, _ := g.readHole(t, hole(4), wholeHole)
	require.Equal(t, 2, contents.LostMessages)
}

func holeElsewhere(t *testing.T, g *holes) {
	g.HoleStore.SetLogCursor(t, "another", 20, 10)
	contents, positions := g.readHole(t, hole(4), wholeHole)
	require.Empty(t, positions)
	require.Equal(t, 4, contents.LostMessages)
	require.True(t, contents.OtherStream)
	require.Contains(t, contents.Why, "this database is not the one whose log fills the stream")
	reached, err := g.HoleStore.Log.CursorBetween(t.Context(), stream, 20, 20)
	require.NoError(t, err)
	require.Equal(t, inbox.LogCursor{OtherStream: true}, reached)
}

func holeCounted(t *testing.T, g *holes) {
	counts := func() []int64 {
		view, err := g.Checkpoints.Heartbeat(t.Context(), subscriber, "reader")
		require.NoError(t, err)
		return []int64{view.FilledEvents, view.MissedMessages}
	}
	require.Equal(t, []int64{0, 0}, counts())
	g.apply(t, inbox.Batch{To: positionAt(3), Events: g.events[:3], FromLog: 2})
	require.Equal(t, []int64{2, 0}, counts())
	g.apply(t, inbox.Batch{To: positionAt(5), Events: g.events[1:5], FromLog: 4, Missed: inbox.MissedMessages{First: 10, Count: 5}})
	require.Equal(t, []int64{4, 5}, counts(), "a duplicate is not filled")
	g.apply(t, inbox.Batch{To: positionAt(6), Missed: inbox.MissedMessages{First: 8, Count: 9}})
	require.Equal(t, []int64{4, 9}, counts(), "a message counts once")
	g.apply(t, inbox.Batch{To: positionAt(7), Events: g.events[6:7]})
	require.Equal(t, []int64{4, 9}, counts())

	stale := g.at
	stale.Revision--
	_, err := g.UnitOfWork.Apply(t.Context(), subscriber,
		inbox.Batch{From: stale, To: positionAt(8), Missed: inbox.MissedMessages{First: 100, Count: 1}}, g.lane, nil)
	require.ErrorIs(t, err, inbox.ErrLaneMoved)
	require.Equal(t, []int64{4, 9}, counts(), "nothing of a batch that fails counts")
}

func holeProgress(t *testing.T, g *holes) {
	to := positionAt(inbox.MarkEvery)
	to.Progress = 77
	g.apply(t, inbox.Batch{To: to})
	require.EqualValues(t, 77, g.look(t).at.Progress)
	marks, err := g.Checkpoints.Marks(t.Context(), subscriber, 0)
	require.NoError(t, err)
	require.Equal(t, []inbox.StreamPosition{to}, marks)
	g.apply(t, inbox.Batch{To: positionAt(inbox.MarkEvery + 1)})
	require.Zero(t, g.look(t).at.Progress)
	moved, err := g.Checkpoints.Rewind(t.Context(), subscriber, g.at, stream, to)
	require.NoError(t, err)
	require.EqualValues(t, 77, moved.Progress)
	unsure := moved
	unsure.Progress = 0
	g.at = unsure // the progress takes no part in the comparison
	g.apply(t, inbox.Batch{To: inbox.StreamPosition{Sequence: inbox.MarkEvery + 5, Progress: 80}})
	require.Equal(t, inbox.StreamPosition{Sequence: inbox.MarkEvery + 5, Progress: 80}, g.look(t).at.StreamPosition)
	require.NoError(t, g.Checkpoints.CreateLanes(t.Context(), "late", 2, stream, inbox.StreamPosition{Sequence: 9, Progress: 5}))
	view, err := g.Checkpoints.Heartbeat(t.Context(), "late", "reader")
	require.NoError(t, err)
	require.EqualValues(t, 5, view.Lanes[1].Progress)
}

func holeOutage(t *testing.T, g *holes) {
	g.Disconnect(t)
	_, err := g.HoleStore.Log.ReadHole(t.Context(), subscriber, hole(4), wholeHole)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	_, err = g.HoleStore.Log.CursorBetween(t.Context(), stream, 1, 2)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	g.Reconnect(t)
	_, positions := g.readHole(t, hole(4), wholeHole)
	require.Len(t, positions, 4)
}
