package inboxtest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// TestCheckpoints checks what inbox.Checkpoints promises: lanes are created once, copies see each other, and Rewind moves a checkpoint only if
// the caller knows the checkpoint exactly. open returns an empty store.
func TestCheckpoints(t *testing.T, open func(t *testing.T) Store) {
	check := contracttest.Runner(t, open)
	check("lanes are made once", checkpointsBegin)
	check("of copies that begin together one begins", checkpointsBeginTogether)
	check("each subscriber has its own", checkpointsApart)
	check("types are added", checkpointsSubscribe)
	check("a subscriber that has begun gets types", checkpointsSubscribeLate)
	check("another handler is refused", checkpointsOtherHandler)
	check("types are added between two batches", checkpointsSubscribeDuring)
	check("copies that subscribe together add all", checkpointsSubscribeTogether)
	check("copies see each other", checkpointsCopies)
	check("a silent copy is known", checkpointsSilent)
	check("a position is kept to the nanosecond", checkpointsPlace)
	check("idle is since the last change", checkpointsIdle)
	check("a checkpoint goes back", checkpointsRewind)
	check("a checkpoint goes to another stream", checkpointsOtherStream)
	check("only an exact checkpoint goes back", checkpointsRewindStale)
	check("of rewinds at the same time one succeeds", checkpointsRewindTogether)
	check("marks are kept, and removed by a rewind", checkpointsMarks)
	check("the newest marks are kept", checkpointsMarksKept)
	check("a lost connection is an outage", checkpointsOutage)
	check("nothing is known of an unknown subscriber", checkpointsUnknown)
}

func lanesOf(t *testing.T, s Store, subscriber string) []inbox.Checkpoint {
	t.Helper()
	view, err := s.Checkpoints.Heartbeat(t.Context(), subscriber, "reader")
	require.NoError(t, err)
	for i := range view.Lanes {
		require.GreaterOrEqual(t, view.Lanes[i].Idle, time.Duration(0))
		require.Less(t, view.Lanes[i].Idle, time.Minute)
		view.Lanes[i].Idle = 0
	}
	return view.Lanes
}

// requireLanes requires that the subscriber has these lanes and that each has just begun. It returns them.
func requireLanes(t *testing.T, s Store, lanes int, at inbox.StreamPosition) []inbox.Checkpoint {
	t.Helper()
	found := lanesOf(t, s, subscriber)
	require.Len(t, found, lanes)
	for i, checkpoint := range found {
		require.Equal(t, inbox.Checkpoint{Lane: i, Lanes: lanes, Stream: stream, StreamPosition: at, Revision: checkpoint.Revision}, checkpoint)
	}
	return found
}

func checkpointsBegin(t *testing.T, s Store) {
	require.Empty(t, lanesOf(t, s, subscriber))
	require.NoError(t, s.Checkpoints.CreateLanes(t.Context(), subscriber, 3, stream, positionAt(7)))
	made := requireLanes(t, s, 3, positionAt(7))
	for _, lanes := range []int{1, 3, 64} {
		require.NoError(t, s.Checkpoints.CreateLanes(t.Context(), subscriber, lanes, "another", positionAt(9)))
		require.Equal(t, made, lanesOf(t, s, subscriber))
	}
}

func checkpointsBeginTogether(t *testing.T, s Store) {
	for round := range 5 {
		name := fmt.Sprint("subscriber-", round)
		var copies sync.WaitGroup
		for lanes := range 12 {
			copies.Go(func() {
				if err := s.Checkpoints.CreateLanes(t.Context(), name, lanes+1, stream, inbox.StreamPosition{}); err != nil {
					t.Error(err)
				}
			})
		}
		copies.Wait()
		found := lanesOf(t, s, name)
		require.NotEmpty(t, found)
		require.Len(t, found, found[0].Lanes)
		for i, checkpoint := range found {
			require.Equal(t, i, checkpoint.Lane)
			require.Equal(t, found[0].Lanes, checkpoint.Lanes)
		}
	}
}

func checkpointsApart(t *testing.T, s Store) {
	l := newLane(s).begin(t)
	for _, name := range []string{"Billing's ?0", "billing's ?0 "} {
		require.Empty(t, lanesOf(t, s, name))
		require.NoError(t, s.Checkpoints.CreateLanes(t.Context(), name, 2, stream, positionAt(5)))
		_, err := s.Checkpoints.Rewind(t.Context(), name, lanesOf(t, s, name)[0], stream, positionAt(2))
		require.NoError(t, err)
	}
	l.requireAsKnown(t)
}

func checkpointsCopies(t *testing.T, s Store) {
	see := func(subscriber, instance string, want ...string) {
		t.Helper()
		view, err := s.Checkpoints.Heartbeat(t.Context(), subscriber, instance)
		require.NoError(t, err)
		require.Equal(t, want, view.Copies)
	}
	see(subscriber, "b's", "b's")
	see(subscriber, "b's", "b's")
	see(subscriber, `a"\{}`, `a"\{}`, "b's")
	see("another", "c", "c")
	require.NoError(t, s.Checkpoints.CreateLanes(t.Context(), subscriber, 3, stream, inbox.StreamPosition{}))
	see(subscriber, "C", "C", `a"\{}`, "b's")
	require.NoError(t, s.Checkpoints.RemoveCopy(t.Context(), subscriber, `a"\{}`))
	require.NoError(t, s.Checkpoints.RemoveCopy(t.Context(), subscriber, "nobody"))
	require.NoError(t, s.Checkpoints.RemoveCopy(t.Context(), subscriber, "c"))
	see(subscriber, "b's", "C", "b's")
	see("another", "d", "c", "d")
}

func checkpointsSilent(t *testing.T, s Store) {
	silent := func(instance string) []string {
		t.Helper()
		view, err := s.Checkpoints.Heartbeat(t.Context(), subscriber, instance)
		require.NoError(t, err)
		return view.SilentCopies
	}
	require.NoError(t, s.Checkpoints.CreateLanes(t.Context(), subscriber, 2, stream, inbox.StreamPosition{}))
	require.Empty(t, silent("a"))
	time.Sleep(inbox.CopySilentAfter)
	require.Equal(t, []string{"a"}, silent("b"))
	require.Empty(t, silent("a"))
	require.Empty(t, silent("b"))
	require.NoError(t, s.Checkpoints.RemoveCopy(t.Context(), subscriber, "a"))
	time.Sleep(inbox.CopySilentAfter)
	require.Empty(t, silent("b"))
}

func checkpointsPlace(t *testing.T, s Store) {
	at := inbox.StreamPosition{Sequence: 1<<62 + 1, StoredAt: time.Date(2026, 11, 29, 10, 0, 0, 123_456_789, time.UTC)}
	require.NoError(t, s.Checkpoints.CreateLanes(t.Context(), subscriber, 1, stream, at))
	from := requireLanes(t, s, 1, at)[0]
	to := inbox.StreamPosition{Sequence: 9, StoredAt: at.StoredAt.Add(1).In(time.FixedZone("elsewhere", 3600))}
	_, err := s.Checkpoints.Rewind(t.Context(), subscriber, from, stream, to)
	require.NoError(t, err)
	to.StoredAt = to.StoredAt.UTC()
	from = requireLanes(t, s, 1, to)[0]
	_, err = s.Checkpoints.Rewind(t.Context(), subscriber, from, stream, inbox.StreamPosition{Sequence: 3})
	require.NoError(t, err)
	requireLanes(t, s, 1, inbox.StreamPosition{Sequence: 3})
}

func checkpointsIdle(t *testing.T, s Store) {
	l := newLane(s).begin(t)
	for range 2 {
		time.Sleep(soon)
		require.GreaterOrEqual(t, l.look(t).at.Idle, soon)
		begun := time.Now()
		l.move(t, positionAt(l.at.Sequence+1))
		require.LessOrEqual(t, l.look(t).at.Idle, time.Since(begun)+soon/2)
	}
}

func checkpointsRewind(t *testing.T, s Store) {
	require.NoError(t, s.Checkpoints.CreateLanes(t.Context(), subscriber, 2, stream, positionAt(7)))
	lanes := lanesOf(t, s, subscriber)
	back, err := s.Checkpoints.Rewind(t.Context(), subscriber, lanes[1], stream, positionAt(4))
	require.NoError(t, err)
	require.Greater(t, back.Revision, lanes[1].Revision)
	require.Equal(t, inbox.Checkpoint{Lane: 1, Lanes: 2, Stream: stream, StreamPosition: positionAt(4), Revision: back.Revision}, back)
	require.Equal(t, []inbox.Checkpoint{lanes[0], back}, lanesOf(t, s, subscriber))
	_, err = s.Checkpoints.Rewind(t.Context(), subscriber, back, stream, inbox.StreamPosition{})
	require.NoError(t, err)
}

func checkpointsOtherStream(t *testing.T, s Store) {
	l := newLane(s).begin(t)
	l.move(t, positionAt(5))
	moved, err := s.Checkpoints.Rewind(t.Context(), subscriber, l.at, "another's ?0", positionAt(8))
	require.NoError(t, err)
	require.Equal(t, "another's ?0", moved.Stream)
	require.Equal(t, []inbox.Checkpoint{moved}, lanesOf(t, s, subscriber))
	requireLaneMoved(t, l.apply(t, newEvent(9, "a")))
	l.at = moved
	require.NoError(t, l.apply(t, newEvent(9, "a")))
	require.Equal(t, "another's ?0", l.at.Stream)
	l.requireAsKnown(t)
}

func checkpointsRewindStale(t *testing.T, s Store) {
	l := newLane(s).begin(t)
	l.move(t, positionAt(5))
	for name, stale := range staleCheckpoints(l.at) {
		_, err := s.Checkpoints.Rewind(t.Context(), subscriber, stale, stream, positionAt(4))
		requireLaneMoved(t, err, name)
	}
	_, err := s.Checkpoints.Rewind(t.Context(), "another", l.at, stream, positionAt(4))
	requireLaneMoved(t, err)
	l.requireAsKnown(t)
}

func checkpointsRewindTogether(t *testing.T, s Store) {
	l := newLane(s).begin(t)
	l.move(t, positionAt(1000))
	for round := range uint64(10) {
		results := make(chan inbox.Checkpoint, 12)
		var copies sync.WaitGroup
		for range 12 {
			copies.Go(func() {
				moved, err := s.Checkpoints.Rewind(t.Context(), subscriber, l.at, stream, positionAt(900-round))
				if err == nil {
					results <- moved
				} else if fault.KindOf(err) != fault.Conflict {
					t.Error(err)
				}
			})
		}
		copies.Wait()
		require.Len(t, results, 1)
		l.at = <-results
		l.requireAsKnown(t)
	}
}

func checkpointsMarks(t *testing.T, s Store) {
	require.NoError(t, s.Checkpoints.CreateLanes(t.Context(), subscriber, 2, stream, inbox.StreamPosition{}))
	l := newLane(s).look(t)
	requireMarks := func(want ...uint64) {
		t.Helper()
		marks, err := s.Checkpoints.Marks(t.Context(), subscriber, l.at.Lane)
		require.NoError(t, err)
		require.Len(t, marks, len(want))
		for i, sequence := range want {
			require.Equal(t, positionAt(sequence), marks[i])
		}
	}
	requireMarks()
	l.move(t, positionAt(5))
	l.move(t, positionAt(inbox.MarkEvery-1))
	requireMarks()
	require.NoError(t, l.apply(t, newEvent(inbox.MarkEvery+5, "a")))
	l.move(t, positionAt(2*inbox.MarkEvery-1))
	requireMarks(inbox.MarkEvery + 5)
	l.move(t, positionAt(4*inbox.MarkEvery))
	l.move(t, inbox.StreamPosition{Sequence: 5 * inbox.MarkEvery}) // its time is not known
	l.move(t, positionAt(6*inbox.MarkEvery+1))
	requireMarks(6*inbox.MarkEvery+1, 4*inbox.MarkEvery, inbox.MarkEvery+5)

	stale := l.at
	stale.Revision--
	_, err := s.Checkpoints.Rewind(t.Context(), subscriber, stale, stream, inbox.StreamPosition{})
	requireLaneMoved(t, err)
	requireMarks(6*inbox.MarkEvery+1, 4*inbox.MarkEvery, inbox.MarkEvery+5)
	l.rewind(t, positionAt(4*inbox.MarkEvery))
	requireMarks(4*inbox.MarkEvery, inbox.MarkEvery+5)
	l.rewind(t, positionAt(inbox.MarkEvery+4))
	requireMarks()
	l.at.Lane = 1
	l.look(t).move(t, positionAt(2*inbox.MarkEvery))
	requireMarks(2 * inbox.MarkEvery)
	l.at.Lane = 0
	requireMarks()
}

func checkpointsMarksKept(t *testing.T, s Store) {
	l := newLane(s).begin(t)
	const made = inbox.MarksKept + 5
	for i := range uint64(made) {
		l.move(t, positionAt((i+1)*inbox.MarkEvery+i))
	}
	marks, err := s.Checkpoints.Marks(t.Context(), subscriber, 0)
	require.NoError(t, err)
	require.Len(t, marks, inbox.MarksKept)
	require.Equal(t, positionAt(made*inbox.MarkEvery+made-1), marks[0])
	require.Equal(t, positionAt(6*inbox.MarkEvery+5), marks[inbox.MarksKept-1])
}

func checkpointsOutage(t *testing.T, s Store) {
	l := newLane(s).begin(t)
	s.Disconnect(t)
	_, looking := s.Checkpoints.Heartbeat(t.Context(), subscriber, "a")
	_, marking := s.Checkpoints.Marks(t.Context(), subscriber, 0)
	_, rewinding := s.Checkpoints.Rewind(t.Context(), subscriber, l.at, stream, positionAt(1))
	for _, err := range []error{
		looking, marking, rewinding, s.Checkpoints.RemoveCopy(t.Context(), subscriber, "a"),
		s.Checkpoints.CreateLanes(t.Context(), "another", 1, stream, inbox.StreamPosition{}),
		s.Checkpoints.Subscribe(t.Context(), subscriber, "handler", []string{"a"}),
	} {
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	}
	s.Reconnect(t)
	l.requireAsKnown(t)
}

func checkpointsUnknown(t *testing.T, s Store) {
	marks, err := s.Checkpoints.Marks(t.Context(), subscriber, 0)
	require.NoError(t, err)
	require.Empty(t, marks)
	require.NoError(t, s.Checkpoints.RemoveCopy(t.Context(), subscriber, "a"))
	_, err = s.Checkpoints.Rewind(t.Context(), subscriber, inbox.Checkpoint{Lanes: 1, Stream: stream, Revision: 1}, stream, inbox.StreamPosition{})
	requireLaneMoved(t, err)
	require.Empty(t, lanesOf(t, s, subscriber))
}

func requireLaneMoved(t *testing.T, err error, about ...any) {
	t.Helper()
	require.ErrorIs(t, err, inbox.ErrLaneMoved, about...)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
}

// staleCheckpoints returns checkpoints that differ from exact in one field each.
func staleCheckpoints(exact inbox.Checkpoint) map[string]inbox.Checkpoint {
	stale := make(map[string]inbox.Checkpoint)
	for name, change := range map[string]func(c *inbox.Checkpoint){
		"lane":            func(c *inbox.Checkpoint) { c.Lane++ },
		"number of lanes": func(c *inbox.Checkpoint) { c.Lanes++ },
		"stream":          func(c *inbox.Checkpoint) { c.Stream = "another" },
		"sequence":        func(c *inbox.Checkpoint) { c.Sequence-- },
		"later sequence":  func(c *inbox.Checkpoint) { c.Sequence++ },
		"stored time":     func(c *inbox.Checkpoint) { c.StoredAt = c.StoredAt.Add(1) },
		"no stored time":  func(c *inbox.Checkpoint) { c.StoredAt = time.Time{} },
		"revision":        func(c *inbox.Checkpoint) { c.Revision-- },
		"later revision":  func(c *inbox.Checkpoint) { c.Revision++ },
	} {
		other := exact
		change(&other)
		stale[name] = other
	}
	return stale
}
