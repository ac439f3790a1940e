package inboxtest

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// SweepStore is a store together with the log of the same database. The log is empty, and has filled no stream yet.
type SweepStore struct {
	LetterStore
	Sweeper inbox.Sweeper
	// SetStream makes the log's cursor stand in the stream with this identity.
	SetStream func(t *testing.T, stream string)
	// AppendToLog puts events into the log, at their positions.
	AppendToLog func(t *testing.T, events ...outbox.Entry)
	// Park puts an event of the log into its parking lot.
	Park func(t *testing.T, event outbox.Entry)
	// Purge empties the log and its parking lot.
	Purge func(t *testing.T)
}

// TestSweeper checks what inbox.Sweeper promises: a record is removed only if its event can never come again. open returns an empty store.
func TestSweeper(t *testing.T, open func(t *testing.T) SweepStore) {
	check := contracttest.Runner(t, func(t *testing.T) *sweeper {
		store := open(t)
		return &sweeper{letters: newLetters(store.LetterStore), SweepStore: store}
	})
	check("what is old is forgettable, oldest first", sweepOldest)
	check("what the log has is not forgettable", sweepLog)
	check("what is forgotten comes again", sweepForget)
	check("each lane has passed the end of the stream", sweepPassed)
	check("what the stream may hold is kept", sweepStream)
	check("what is met again is kept", sweepMetAgain)
	check("letters are kept until they are discarded", sweepLetters)
	check("a discarded message that is no event is forgotten", sweepUnreadable)
	check("nothing of others is forgotten", sweepApart)
	check("a database that fills another stream forgets nothing", sweepOtherDatabase)
	check("a subscriber that has not begun forgets nothing", sweepNothing)
	check("a lost connection is an outage of the sweeper", sweepOutage)
}

type sweeper struct {
	*letters
	SweepStore SweepStore
}

const (
	anyAge    = time.Microsecond // every event of a test is older
	anyNumber = 100              // no test has as many events
)

// beyond is a sequence after the end of every stream in the tests.
const beyond = 1000

// begin begins with one lane, in the stream that the log fills.
func (s *sweeper) begin(t *testing.T) {
	t.Helper()
	s.SweepStore.SetStream(t, stream)
	s.letters.begin(t)
}

// forgettable requires that exactly these events are candidates, in this order.
func (s *sweeper) forgettable(t *testing.T, age time.Duration, limit int, want ...inbox.Event) {
	t.Helper()
	time.Sleep(2 * time.Millisecond) // so that everything is older than a microsecond
	ids, why, err := s.SweepStore.Sweeper.Candidates(t.Context(), s.subscriber, stream, age, limit)
	require.NoError(t, err)
	require.Empty(t, why)
	require.Equal(t, len(want), len(ids))
	if len(want) > 0 {
		require.Equal(t, idsOf(want), ids)
	}
}

// forget sweeps events, and requires that want of their records are removed.
func (s *sweeper) forget(t *testing.T, first, passed uint64, want int, events ...inbox.Event) {
	t.Helper()
	s.forgetIn(t, stream, first, passed, want, events...)
}

func (s *sweeper) forgetIn(t *testing.T, stream string, first, passed uint64, want int, events ...inbox.Event) {
	t.Helper()
	forgotten, err := s.SweepStore.Sweeper.Sweep(t.Context(), s.subscriber, stream, idsOf(events), first, passed)
	require.NoError(t, err)
	require.Equal(t, want, forgotten)
}

// again lets events come again, and returns their results.
func (s *sweeper) again(t *testing.T, events ...inbox.Event) []inbox.Result {
	t.Helper()
	s.rewind(t, inbox.StreamPosition{})
	return s.results(t, events...)
}

func sweepOtherDatabase(t *testing.T, s *sweeper) {
	s.letters.begin(t)
	s.results(t, newEvent(1, "a"))
	time.Sleep(2 * time.Millisecond)
	for range 2 {
		ids, why, err := s.SweepStore.Sweeper.Candidates(t.Context(), subscriber, stream, anyAge, anyNumber)
		require.NoError(t, err)
		require.Empty(t, ids)
		require.Contains(t, why, "this database is not the one whose log fills the stream")
		require.Contains(t, why, "no inbox row is deleted")
		s.SweepStore.SetStream(t, "2026-11-29T11:00:00Z")
	}
}

func sweepOldest(t *testing.T, s *sweeper) {
	s.begin(t)
	s.forgettable(t, anyAge, anyNumber)
	events := newEvents(0, 5, "a", "b")
	for _, event := range events {
		s.results(t, event)
		time.Sleep(time.Millisecond)
	}
	s.forgettable(t, time.Hour, 100)
	s.forgettable(t, time.Microsecond, 3, events[:3]...)
	s.forgettable(t, anyAge, anyNumber, events...)
}

func sweepLog(t *testing.T, s *sweeper) {
	s.begin(t)
	events := newEvents(0, 4, "a", "b")
	for _, event := range events[:3] {
		s.SweepStore.AppendToLog(t, event.Entry)
	}
	s.SweepStore.Park(t, events[1].Entry)
	for _, event := range events {
		s.results(t, event)
	}
	s.forgettable(t, anyAge, anyNumber, events[3])
	s.SweepStore.Purge(t)
	s.forgettable(t, anyAge, anyNumber, events...)
}

func sweepForget(t *testing.T, s *sweeper) {
	s.begin(t)
	events := newEvents(0, 4, "a", "b")
	s.results(t, events...)
	s.forget(t, beyond, 4, 3, append(events[:3:3], newEvent(9, "a"))...)
	s.forget(t, beyond, 4, 0, events[:3]...)
	s.forgettable(t, anyAge, anyNumber, events[3])
	require.Equal(t, append(repeat(inbox.Applied, 3), inbox.Duplicate), s.again(t, events...))
	s.requireCount(t, 7)
}

// sweepPassed checks that nothing is forgotten while a lane is behind, or is in another stream.
func sweepPassed(t *testing.T, s *sweeper) {
	s.SweepStore.SetStream(t, stream)
	require.NoError(t, s.Checkpoints.CreateLanes(t.Context(), subscriber, 2, stream, inbox.StreamPosition{}))
	s.look(t)
	event := newEvent(1, "a")
	s.results(t, event)
	s.move(t, positionAt(10))
	s.forget(t, beyond, 1, 0, event)
	s.at.Lane = 1
	s.look(t)
	s.move(t, positionAt(9))
	s.forget(t, beyond, 10, 0, event)
	s.move(t, positionAt(10))
	s.forgetIn(t, "another", beyond, 10, 0, event)
	moved, err := s.Checkpoints.Rewind(t.Context(), subscriber, s.at, "another", positionAt(10))
	require.NoError(t, err)
	s.at = moved
	s.forget(t, beyond, 10, 0, event)
	s.forgetIn(t, "another", beyond, 10, 0, event)
	_, err = s.Checkpoints.Rewind(t.Context(), subscriber, s.at, stream, positionAt(11))
	require.NoError(t, err)
	s.forget(t, beyond, 11, 0, event)
	s.forget(t, beyond, 10, 1, event)
}

func sweepStream(t *testing.T, s *sweeper) {
	s.begin(t)
	events := newEvents(0, 4, "a")
	s.results(t, events...)
	s.forget(t, 1, 4, 0, events...)
	s.forget(t, 3, 4, 2, events...)
	s.forget(t, 4, 4, 1, events...)
	s.forget(t, 5, 4, 1, events...)
}

func sweepMetAgain(t *testing.T, s *sweeper) {
	s.begin(t)
	events := s.prepare(t, 0, 2, "a")
	s.discard(t, events[0])
	s.redeliver(t, all, events[1])
	for i := range events {
		events[i].Sequence += 10
	}
	require.Equal(t, repeat(inbox.Duplicate, 2), s.results(t, events...))
	s.forget(t, 11, 12, 0, events...)
	s.forget(t, 12, 12, 1, events...)
	s.forget(t, 13, 12, 1, events...)
}

func sweepLetters(t *testing.T, s *sweeper) {
	s.begin(t)
	events := s.prepare(t, 0, 4, "a")
	s.forgettable(t, anyAge, anyNumber)
	s.forget(t, beyond, 4, 0, events...)
	s.retry(t, events[0])
	s.redeliver(t, inbox.Redelivery{Limit: 1}, events[0])
	s.discard(t, events[1])
	s.forgettable(t, time.Hour, 100)
	s.forgettable(t, anyAge, anyNumber, events[:2]...)
	s.SweepStore.AppendToLog(t, events[1].Entry)
	s.forgettable(t, anyAge, anyNumber, events[0])
	s.SweepStore.Purge(t)
	s.forget(t, 2, 4, 1, events...)
	s.requireLetter(t, events[1], inbox.Discarded)
	s.forget(t, beyond, 4, 1, events...)
	s.requireNoLetter(t, events[1])
	s.requireLetter(t, events[2], inbox.Retrying)
	s.requireLetter(t, events[3], inbox.Waiting)
	s.forgettable(t, anyAge, anyNumber)
	require.Equal(t, []inbox.Result{inbox.Held, inbox.Duplicate, inbox.Duplicate}, s.again(t, events[1:]...), "it came again when it was forgotten")
	s.redeliver(t, all, events[1:]...)
}

func sweepUnreadable(t *testing.T, s *sweeper) {
	s.begin(t)
	var strays []inbox.Event
	for i, id := range []string{"unreadable-1-abc", strings.Repeat("-", 36)} {
		strays = append(strays, inbox.Event{
			Sequence: uint64(i) + 1, Unreadable: inbox.ErrUnreadable, Entry: outbox.Entry{Message: outbox.Message{ID: id, Subject: relaytest.SubjectPrefix + "stray"}},
		})
	}
	s.results(t, strays...)
	s.forgettable(t, anyAge, anyNumber)
	s.forget(t, beyond, 2, 0, strays...)
	for _, stray := range strays {
		s.discard(t, stray)
	}
	s.forgettable(t, anyAge, anyNumber, strays...)
	s.forget(t, 2, 2, 1, strays...)
	s.requireNoLetter(t, strays[0])
	require.Equal(t, []inbox.Result{inbox.SetAside, inbox.Duplicate}, s.again(t, strays...))
}

func sweepApart(t *testing.T, s *sweeper) {
	s.begin(t)
	events := s.prepare(t, 0, 1, "a")
	s.discard(t, events[0])
	events = append(events, newEvent(2, "b"))
	s.results(t, events[1])
	shipping := newLetters(s.SweepStore.LetterStore)
	shipping.subscriber = "shipping"
	shipping.begin(t)
	require.Equal(t, repeat(inbox.Applied, 2), shipping.results(t, events...))
	s.forget(t, beyond, 2, 2, events...)
	shipping.rewind(t, inbox.StreamPosition{})
	require.Equal(t, repeat(inbox.Duplicate, 2), shipping.results(t, events...))
}

func sweepNothing(t *testing.T, s *sweeper) {
	s.begin(t)
	event := newEvent(1, "a")
	s.results(t, event)
	for _, name := range []string{"shipping", ""} {
		s.subscriber = name
		s.forgettable(t, anyAge, anyNumber)
		s.forget(t, beyond, 0, 0, event)
	}
	s.subscriber = subscriber
	s.forget(t, beyond, 1, 0)
	s.forget(t, beyond, 1, 1, event)
}

func sweepOutage(t *testing.T, s *sweeper) {
	s.begin(t)
	event := newEvent(1, "a")
	s.results(t, event)
	s.Disconnect(t)
	_, _, looking := s.SweepStore.Sweeper.Candidates(t.Context(), subscriber, stream, anyAge, anyNumber)
	_, forgetting := s.SweepStore.Sweeper.Sweep(t.Context(), subscriber, stream, idsOf([]inbox.Event{event}), beyond, 1)
	s.Reconnect(t)
	for _, err := range []error{looking, forgetting} {
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	}
	s.forget(t, beyond, 1, 1, event)
}
