package inboxtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// TestDeadLetters checks what inbox.DeadLetters promises: the letters of an aggregate take effect once, in order, and a failure holds up no
// other aggregate. open returns an empty store.
func TestDeadLetters(t *testing.T, open func(t *testing.T) LetterStore) {
	check := contracttest.Runner(t, func(t *testing.T) *letters { return newLetters(open(t)) })
	check("an aggregate's letters are applied together", redeliverTogether)
	check("what is dead is not tried", redeliverDead)
	check("no more letters than the limit are tried", redeliverLimit)
	check("a dead letter ends the batch", redeliverToDead)
	check("an earlier letter that comes late is tried first", redeliverEarlier)
	check("a failure keeps nothing", redeliverFailure)
	check("a failure of what was collected keeps nothing", redeliverCollected)
	check("with savepoints, the letters before a failure are applied", redeliverCarefully)
	check("with care, failures are counted", redeliverCounted)
	check("with care, effects that cannot be written fail", redeliverCarefulCollected)
	check("a policy may end the transaction", redeliverRefused)
	check("a panic is a failure", redeliverPanic)
	check("the aggregate that is due for longest comes first", redeliverLongestDue)
	check("a letter is due after its wait", redeliverWait)
	check("a failing commit keeps the letters", redeliverFailingCommit)
	check("a context that ends keeps the letters", redeliverEnded)
	check("a lost connection is an outage", redeliverOutage)
	check("a transaction is dead when Redeliver returns", redeliverDeadTx)
	check("each subscriber has its letters", redeliverForEach)
	check("a letter is the event as it was", redeliverFaithful)
	check("a letter without a handler waits for one", redeliverWithoutHandler)
	check("a letter may turn out to have no handler", redeliverMeetsNoHandler)
	check("a letter behind another one may be discarded, too", redeliverWithoutHandlerBehind)
	check("operators decide about what has no handler", retryWithoutHandler)
	check("after a discard the next letter is tried", redeliverDiscarded)
	check("copies work on different aggregates", redeliverApart)
	check("the lane goes on, and what it holds has its turn", redeliverBesideLane)
	check("Discard waits while the letter is tried", redeliverBesideDiscard)
	check("copies that race apply everything once, in order", redeliverRaces)
}

var (
	all     = inbox.Redelivery{Limit: 100}
	careful = inbox.Redelivery{Limit: 100, Savepoints: true}
)

func redeliverDead(t *testing.T, l *letters) {
	l.begin(t)
	l.requireNothingDue(t)
	events := l.prepare(t, 0, 3, "a")
	l.requireNothingDue(t)
	l.requireCount(t, 0)
	l.requireApplied(t, events)
}

func redeliverTogether(t *testing.T, l *letters) {
	l.begin(t)
	applied := int64(0)
	for _, r := range []inbox.Redelivery{all, careful} {
		for _, n := range []int{1, 2, 70} {
			events := l.retried(t, l.at.Sequence, n, "it's ?0")
			require.Nil(t, l.redeliver(t, r, events...).Failed)
			require.Equal(t, idsOf(events), l.handled)
			applied += int64(n)
			l.requireCount(t, applied)
			l.requireNothingDue(t)
			l.requireEnded(t, events...)
			require.Equal(t, []inbox.Result{inbox.Applied}, l.results(t, newEvent(l.at.Sequence+1, "it's ?0")), "the aggregate flows again")
			applied++
		}
	}
}

func redeliverLimit(t *testing.T, l *letters) {
	l.begin(t)
	for _, careful := range []bool{false, true} {
		events := l.retried(t, l.at.Sequence, 5, "a")
		for _, part := range [][]inbox.Event{events[:2], events[2:4], events[4:]} {
			l.redeliver(t, inbox.Redelivery{Limit: 2, Savepoints: careful}, part...)
		}
		l.requireNothingDue(t)
		require.Equal(t, idsOf(events), l.handled)
		l.requireEnded(t, events...)
	}
}

func redeliverToDead(t *testing.T, l *letters) {
	l.begin(t)
	l.limit = 1
	for _, r := range []inbox.Redelivery{all, careful} {
		events := l.retried(t, l.at.Sequence+1, 4, "a")
		l.poison(events[1])
		require.Equal(t, inbox.Dead, l.redeliver(t, careful, events[0]).Failed.State)
		l.heal(events[1])
		l.requireNothingDue(t)
		early := newEvent(l.at.Sequence+1, "a") // a redriven one
		early.Position = events[0].Position - 1
		require.Equal(t, []inbox.Result{inbox.Held}, l.results(t, early))
		l.redeliver(t, r, early)
		l.requireNothingDue(t)
		l.requireLetter(t, events[1], inbox.Dead)
		l.retry(t, events[1])
		l.redeliver(t, r, events[1:]...)
		l.requireNothingDue(t)
	}
}

// redeliverEarlier checks that an event with an earlier position is tried first, even if it comes later in the stream, as after a repair of
// the log.
func redeliverEarlier(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 1, 2, "a")
	early := newEvent(l.at.Sequence+1, "a")
	early.Position = 1
	require.Equal(t, []inbox.Result{inbox.Held}, l.results(t, early))
	l.requireList(t, "1 retrying 2")
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	done, _, err := l.try(ctx, all)
	require.NoError(t, err)
	require.Equal(t, idsOf([]inbox.Event{early, events[0], events[1]}), idsOfEntries(done.Applied))
}

func redeliverFailure(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 4, "a")
	for index, event := range events {
		l.poison(event)
		for range 2 {
			_, found, err := l.try(t.Context(), all)
			require.ErrorIs(t, err, errHandler)
			var failed *inbox.EventError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, index, failed.Index)
			require.False(t, found)
		}
		l.heal(event)
		l.requireCount(t, 0)
		l.requireApplied(t, events)
		l.requireLetter(t, events[0], inbox.Retrying)
		l.requireLetter(t, events[1], inbox.Waiting)
	}
	require.Empty(t, l.attemptsSeen)
	l.redeliver(t, all, events...)
	l.requireCount(t, 4)
}

func redeliverCollected(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 3, "a")
	l.inHandler = func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
		if entry.ID != events[1].ID {
			return nil
		}
		return l.Add(ctx, tx, unwritableKey, amount)
	}
	_, _, err := l.try(t.Context(), all)
	var failed *inbox.CollectedError
	require.ErrorAs(t, err, &failed)
	require.ErrorIs(t, err, inbox.ErrPermanent)
	l.requireCount(t, 0)
	l.requireApplied(t, events)
	l.inHandler = nil
	l.redeliver(t, all, events...)
}

func redeliverCarefully(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 5, "a")
	l.poison(events[2])
	begun := time.Now()
	done := l.redeliver(t, careful, events[:2]...)
	requireSame(t, events[2], *done.Failed)
	require.Equal(t, inbox.Retrying, done.Failed.State)
	require.Equal(t, 1, done.Failed.Attempts)
	require.Equal(t, errHandler.Error(), done.Failed.Error)
	require.Equal(t, idsOf(events[:3]), l.handled)
	l.requireCount(t, 2)
	l.requireEnded(t, events[:2]...)
	l.requireList(t, "3 retrying 2")
	l.requireLetter(t, events[3], inbox.Waiting)

	l.limit = 2
	done = l.redeliver(t, careful)
	require.Equal(t, inbox.Dead, done.Failed.State)
	require.WithinDuration(t, begun, done.Failed.DeadAt, time.Minute)
	l.requireNothingDue(t)
	l.requireList(t, "3 dead 2")
	require.Equal(t, []int{0, 1}, l.attemptsSeen)
	l.heal(events[2])
	l.retry(t, events[2])
	l.redeliver(t, careful, events[2:]...)
	l.requireCount(t, 5)
}

func redeliverCounted(t *testing.T, l *letters) {
	l.begin(t)
	event := l.retried(t, 0, 1, "a")[0]
	l.poison(event)
	for range 2 {
		l.attemptsSeen = nil
		for attempt := 1; attempt <= l.limit; attempt++ {
			require.Equal(t, attempt, l.redeliver(t, careful).Failed.Attempts)
			letter, err := l.Letters.Letter(t.Context(), subscriber, event.ID)
			require.NoError(t, err)
			require.Equal(t, attempt, letter.Attempts)
			require.Equal(t, attempt == l.limit, letter.State == inbox.Dead)
		}
		require.Equal(t, []int{0, 1, 2}, l.attemptsSeen)
		l.requireNothingDue(t)
		l.retry(t, event)
	}
	_, _, err := l.DeadLetters.Redeliver(t.Context(), subscriber, careful, l, func(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
		return inbox.Failure{Cause: errors.New("never"), Permanent: true, Limit: 100}, nil
	})
	require.NoError(t, err)
	require.Equal(t, "never", l.requireLetter(t, event, inbox.Dead).Error)
}

func redeliverCarefulCollected(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 3, "a")
	l.inHandler = func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
		if entry.ID != events[1].ID {
			return nil
		}
		return l.Add(ctx, tx, unwritableKey, amount)
	}
	require.NotNil(t, l.redeliver(t, careful, events[0]).Failed)
	l.requireCount(t, 1)
	l.inHandler = nil
	l.redeliver(t, careful, events[1:]...)
	l.requireCount(t, 3)
}

func redeliverRefused(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 2, "a")
	l.poison(events[1])
	refused := fault.New(fault.Unavailable, "outage", "an outage")
	_, found, err := l.DeadLetters.Redeliver(t.Context(), subscriber, careful, l, func(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
		require.ErrorIs(t, err, errHandler)
		return inbox.Failure{}, refused
	})
	require.Equal(t, refused, err)
	require.False(t, found)
	l.requireCount(t, 0)
	l.requireApplied(t, events)
	l.heal(events[1])
	l.redeliver(t, careful, events...)
}

func redeliverPanic(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 2, "a")
	l.inHandler = func(context.Context, inbox.Tx, outbox.Entry) error { panic("it's mine") }
	for range 30 { // a panic must not keep its connection or its locks
		_, _, err := l.try(t.Context(), all)
		require.ErrorContains(t, err, "it's mine")
	}
	require.Contains(t, l.redeliver(t, careful).Failed.Error, "it's mine")
	l.inHandler = nil
	l.redeliver(t, all, events...)
}
