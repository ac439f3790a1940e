package inboxtest

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// TestDeadLetterAdmin checks what operations.DeadLetterAdmin promises: an operator sees, retries and discards dead letters, one by one and
// many at once. open returns an empty store.
func TestDeadLetterAdmin(t *testing.T, open func(t *testing.T) LetterStore) {
	check := contracttest.Runner(t, func(t *testing.T) *letters { return newLetters(open(t)) })
	check("the list has what needs attention", adminList)
	check("states follow from the other letters", adminStates)
	check("an unknown letter is an error", adminUnknown)
	check("what is not dead is not retried", adminNotDead)
	check("a message that cannot be read is only given up", adminUnreadable)
	check("a discarded event never takes effect", adminDiscard)
	check("a heartbeat shows whether there are letters", adminHeartbeat)
	check("everything dead is retried at once", adminRetryAll)
	check("operators who retry everything at once", adminRetryAllTogether)
	check("a long id is kept", adminLongID)
	check("a time that no calendar has is kept", adminOddTime)
	check("subscribers are known", adminSubscribers)
	check("a lost connection is an outage of the letters", adminOutage)
	check("undecided letters come in pages", groupsList)
	check("what waits is counted once", groupsBehind)
	check("the beginning of a reason is enough", groupsLongReason)
	check("a walk ends while letters die again", groupsDieAgain)
	check("letters of a choice are retried", groupsRetry)
	check("letters of a choice are discarded", groupsDiscard)
	check("the present reason decides about a choice", groupsPresentReason)
	check("operators who choose many letters at once", groupsTogether)
}

func adminList(t *testing.T, l *letters) {
	l.begin(t)
	l.requireList(t)
	a := l.prepare(t, 0, 3, "a")
	b := l.retried(t, 10, 2, "b")
	l.prepare(t, 20, 1, "c")
	discarded := l.prepare(t, 30, 1, "d")
	l.discard(t, discarded[0])
	l.requireList(t, "1 dead 2", "11 retrying 1", "21 dead 0")
	l.discard(t, b[1])
	l.discard(t, a[2])
	l.requireList(t, "1 dead 1", "11 retrying 0", "21 dead 0")

	listed, err := l.Letters.Letters(t.Context(), subscriber, 2)
	require.NoError(t, err)
	require.Len(t, listed, 2)
	require.Empty(t, listed[0].Payload, "a list has no payloads")
	require.Empty(t, listed[0].Headers)
	whole, err := l.Letters.Letter(t.Context(), subscriber, listed[0].ID)
	require.NoError(t, err)
	requireSame(t, a[0], whole)
	whole.Payload, whole.Headers = nil, nil
	require.Equal(t, whole, listed[0])
	require.WithinDuration(t, time.Now(), listed[0].FirstFailedAt, time.Minute)
	require.WithinDuration(t, time.Now(), listed[0].DeadAt, time.Minute)
	listed, err = l.Letters.Letters(t.Context(), "shipping", 10)
	require.NoError(t, err)
	require.Empty(t, listed)
	dead, err := l.Letters.CountDead(t.Context(), subscriber)
	require.NoError(t, err)
	require.Equal(t, 2, dead)
}

// adminStates checks the states of letters if a letter behind another letter is dead too.
func adminStates(t *testing.T, l *letters) {
	l.begin(t)
	l.limit = 1
	events := l.retried(t, 1, 4, "a")
	l.poison(events[1])
	l.redeliver(t, careful, events[0])
	l.heal(events[1])
	early := newEvent(l.at.Sequence+1, "a")
	early.Position = 1
	require.Equal(t, []inbox.Result{inbox.Held}, l.results(t, early))
	l.requireList(t, "1 retrying 2", "3 dead 2")
	l.requireLetter(t, events[2], inbox.Waiting)
	require.Equal(t, 1, l.requireLetter(t, events[2], inbox.Waiting).Behind)

	l.retry(t, events[1])
	l.requireLetter(t, events[1], inbox.Waiting)
	require.ErrorIs(t, l.Letters.Retry(t.Context(), subscriber, events[1].ID), inbox.ErrNotDead)
	l.requireList(t, "1 retrying 3")
	l.discard(t, early)
	l.requireList(t, "3 retrying 2")
	l.discard(t, events[1])
	l.requireList(t, "4 retrying 1")
	require.Zero(t, l.requireLetter(t, events[1], inbox.Discarded).Behind)
	l.redeliver(t, all, events[2:]...)
	l.requireList(t)
}

func adminUnknown(t *testing.T, l *letters) {
	l.begin(t)
	events := l.prepare(t, 0, 2, "a")
	for _, id := range []string{newEvent(9, "a").ID, "", "not a UUID", "\x00"} {
		_, err := l.Letters.Letter(t.Context(), subscriber, id)
		for _, err := range []error{err, l.Letters.Retry(t.Context(), subscriber, id), l.Letters.Discard(t.Context(), subscriber, id)} {
			require.ErrorIs(t, err, inbox.ErrNoLetter)
			require.Equal(t, fault.NotFound, fault.KindOf(err))
		}
	}
	for _, event := range events {
		require.ErrorIs(t, l.Letters.Retry(t.Context(), "shipping", event.ID), inbox.ErrNoLetter)
		require.ErrorIs(t, l.Letters.Discard(t.Context(), "shipping", event.ID), inbox.ErrNoLetter)
	}
	require.Equal(t, []inbox.Result{inbox.Applied}, l.results(t, newEvent(3, "b")))
}

func adminNotDead(t *testing.T, l *letters) {
	l.begin(t)
	events := l.prepare(t, 0, 2, "it's ?0")
	err := l.Letters.Retry(t.Context(), subscriber, events[1].ID)
	require.ErrorIs(t, err, inbox.ErrNotDead)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.EqualError(t, err, "event "+events[1].ID+" waits behind an earlier event of thing/it's ?0: retry the earlier event")
	l.retry(t, events[0])
	err = l.Letters.Retry(t.Context(), subscriber, events[0].ID)
	require.ErrorIs(t, err, inbox.ErrNotDead)
	require.EqualError(t, err, "event "+events[0].ID+" is being retried already, and has failed 0 times")
	l.discard(t, events[0])
	require.ErrorIs(t, l.Letters.Retry(t.Context(), subscriber, events[0].ID), inbox.ErrNoLetter)
	err = l.Letters.Retry(t.Context(), subscriber, events[1].ID)
	require.EqualError(t, err, "event "+events[1].ID+" is being retried already, and has failed 0 times")
}

func adminUnreadable(t *testing.T, l *letters) {
	l.begin(t)
	stray := inbox.Event{
		Sequence: 1, Unreadable: inbox.ErrUnreadable.With("it has no type"),
		Entry: outbox.Entry{Message: outbox.Message{ID: "unreadable-1-abc", Subject: relaytest.SubjectPrefix + "stray", Payload: []byte{0, 0xff}}},
	}
	require.Equal(t, []inbox.Result{inbox.SetAside}, l.results(t, stray))
	l.requireList(t, "0 dead 0")
	err := l.Letters.Retry(t.Context(), subscriber, stray.ID)
	require.ErrorIs(t, err, inbox.ErrNotDead)
	require.EqualError(t, err, "message unreadable-1-abc is not an event, so nothing can handle it: it can only be discarded")
	retried, err := RetryAll(t.Context(), l.Letters, subscriber)
	require.NoError(t, err)
	require.Zero(t, retried)
	l.requireNothingDue(t)
	l.discard(t, stray)
	l.requireLetter(t, stray, inbox.Discarded)
	l.requireList(t)
}

func adminDiscard(t *testing.T, l *letters) {
	l.begin(t)
	events := l.prepare(t, 0, 3, "a")
	for range 2 {
		l.discard(t, events[0])
		require.ErrorIs(t, l.Letters.Discard(t.Context(), subscriber, events[0].ID), inbox.ErrNoLetter)
		require.ErrorIs(t, l.Letters.Retry(t.Context(), subscriber, events[0].ID), inbox.ErrNoLetter)
		l.requireLetter(t, events[0], inbox.Discarded)
		at := l.at
		l.rewind(t, inbox.StreamPosition{})
		require.Equal(t, repeat(inbox.Duplicate, 3), l.results(t, events...))
		require.Equal(t, at.StreamPosition, l.at.StreamPosition)
		l.redeliver(t, all, events[1:]...)
		require.Empty(t, l.WasApplied(t, subscriber, events[0].ID))
		err := l.Letters.Discard(t.Context(), subscriber, events[1].ID)
		require.ErrorIs(t, err, inbox.ErrNoLetter, "it was applied")
		events = l.retried(t, l.at.Sequence, 3, "b")
	}
	l.requireCount(t, 4)
}

func adminHeartbeat(t *testing.T, l *letters) {
	has := func() bool {
		t.Helper()
		view, err := l.Checkpoints.Heartbeat(t.Context(), subscriber, "copy")
		require.NoError(t, err)
		return view.HasLetters
	}
	l.begin(t)
	require.False(t, has())
	events := l.prepare(t, 0, 2, "a")
	require.True(t, has())
	l.discard(t, events[0])
	require.True(t, has(), "a letter waited behind the discarded one")
	l.discard(t, events[1])
	require.False(t, has(), "discarded letters do not count")
	retried := l.retried(t, 10, 1, "b")
	require.True(t, has())
	l.redeliver(t, all, retried...)
	require.False(t, has())
}

func adminRetryAll(t *testing.T, l *letters) {
	l.begin(t)
	a, b, c := l.prepare(t, 0, 2, "a"), l.prepare(t, 2, 1, "b"), l.retried(t, 3, 1, "c")
	shipping := newLetters(LetterStore{Store: l.Store, DeadLetters: l.DeadLetters})
	shipping.subscriber = "shipping"
	shipping.begin(t)
	shipping.prepare(t, 0, 1, "a")
	retried, err := RetryAll(t.Context(), l.Letters, subscriber)
	require.NoError(t, err)
	require.Equal(t, 2, retried)
	l.requireList(t, "1 retrying 1", "3 retrying 0", "4 retrying 0")
	l.redeliverAll(t)
	l.requireApplied(t, append(append(a, b...), c...), append(append(a, b...), c...)...)
	l.requireCount(t, 4)
	shipping.requireList(t, "1 dead 0")
}

// adminRetryAllTogether checks that operators may retry many letters at once, while other operators discard letters one by one.
func adminRetryAllTogether(t *testing.T, l *letters) {
	l.begin(t)
	events := newEvents(0, 150, "a", "b", "c", "d", "e")
	for i := range events {
		events[i].Key.ID += string(rune('a' + rand.IntN(26)))
		events[i].Suspect = true
	}
	l.poison(events...)
	l.results(t, events...)
	l.heal(events...)
	l.forgetHandled()
	var operators sync.WaitGroup
	for range 6 {
		operators.Go(func() {
			if _, err := RetryAll(t.Context(), l.Letters, subscriber); err != nil {
				t.Error(err)
			}
		})
		operators.Go(func() {
			if err := l.Letters.Discard(t.Context(), subscriber, events[rand.IntN(len(events))].ID); err != nil && fault.KindOf(err) != fault.NotFound {
				t.Error(err)
			}
		})
	}
	operators.Wait()
	l.redeliverAll(t)
	l.requireList(t)
	l.requireCount(t, int64(len(l.handled)))
	require.GreaterOrEqual(t, len(l.handled), len(events)-6)
}

// adminLongID checks the letter of a message whose id is too long for an index.
func adminLongID(t *testing.T, l *letters) {
	l.begin(t)
	long := newEvents(0, 2, "a")
	long[0].ID, long[1].ID = strings.Repeat("é?0", 4000), strings.Repeat("é?0", 4000)+"!"
	require.Equal(t, repeat(inbox.SetAside, 2), l.results(t, long...))
	letter := l.requireLetter(t, long[0], inbox.Dead)
	found, err := l.Letters.Letter(t.Context(), subscriber, letter.ID)
	require.NoError(t, err)
	require.Equal(t, letter, found, "the id that the letter says is its id too")
	require.NoError(t, l.Letters.Discard(t.Context(), subscriber, letter.ID))
	l.requireLetter(t, long[0], inbox.Discarded)
	l.requireLetter(t, long[1], inbox.Dead)
}

func adminOddTime(t *testing.T, l *letters) {
	l.begin(t)
	for _, odd := range []time.Time{
		time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -23*3600)),
	} {
		event := suspect(newEvent(l.at.Sequence+1, "a"))
		event.RecordedAt, event.Key.ID = odd, odd.String()
		l.poison(event)
		require.Equal(t, []inbox.Result{inbox.SetAside}, l.results(t, event))
		l.heal(event)
		l.retry(t, event)
		l.redeliver(t, all, event)
	}
}

func adminSubscribers(t *testing.T, l *letters) {
	names, err := l.Letters.Subscribers(t.Context())
	require.NoError(t, err)
	require.Empty(t, names)
	for _, name := range []string{"b", "a", "c's ?0", "B"} {
		other := newLetters(LetterStore{Store: l.Store, DeadLetters: l.DeadLetters})
		other.subscriber = name
		other.begin(t)
		if name != "a" {
			require.Equal(t, []inbox.Result{inbox.Applied}, other.results(t, newEvent(1, "a")))
		}
	}
	names, err = l.Letters.Subscribers(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"B", "a", "b", "c's ?0"}, names)
}

func adminOutage(t *testing.T, l *letters) {
	l.begin(t)
	event := l.prepare(t, 0, 1, "a")[0]
	l.Disconnect(t)
	failed := make(map[string]error)
	_, failed["Letters"] = l.Letters.Letters(t.Context(), subscriber, 1)
	_, failed["Letter"] = l.Letters.Letter(t.Context(), subscriber, event.ID)
	failed["Retry"] = l.Letters.Retry(t.Context(), subscriber, event.ID)
	failed["Discard"] = l.Letters.Discard(t.Context(), subscriber, event.ID)
	failed["EachUndecided"] = l.Letters.EachUndecided(t.Context(), subscriber, func(operations.UndecidedEvent) bool { return true })
	_, _, failed["Undecided"] = l.Letters.Undecided(t.Context(), subscriber, operations.DeadLetterCursor{}, 1)
	_, failed["RetryChosen"] = l.Letters.RetryChosen(t.Context(), subscriber, []string{event.ID}, operations.Choice{})
	_, failed["DiscardChosen"] = l.Letters.DiscardChosen(t.Context(), subscriber, []string{event.ID}, operations.Choice{})
	_, failed["CountDead"] = l.Letters.CountDead(t.Context(), subscriber)
	_, failed["Subscribers"] = l.Letters.Subscribers(t.Context())
	l.Reconnect(t)
	for call, err := range failed {
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%s: %v", call, err)
	}
	l.requireLetter(t, event, inbox.Dead)
}
