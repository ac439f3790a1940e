package inboxtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// without marks events as events without a handler, and returns them.
func without(events ...inbox.Event) []inbox.Event {
	for i := range events {
		events[i].NoHandler, events[i].Type = true, "new's ?0"
	}
	return events
}

// knowing is a redelivery by a program that has a handler for the type.
var knowing = inbox.Redelivery{Limit: 100, Types: []string{"another", "new's ?0"}}

func setAsideWithoutHandler(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 5, "a", "b")
	without(events[1:2]...)
	outcome, err := l.try(t.Context(), events...)
	require.NoError(t, err)
	require.Equal(t, []inbox.Result{inbox.Applied, inbox.SetAside, inbox.Applied, inbox.Held, inbox.Applied}, outcome.Results)
	require.Equal(t, idsOf([]inbox.Event{events[0], events[2], events[4]}), l.handled, "the handler is not called for it")
	l.requireCount(t, 3)
	require.Len(t, outcome.Letters, 1)
	for _, letter := range []inbox.Letter{outcome.Letters[0], l.requireLetter(t, events[1], inbox.Dead)} {
		requireSame(t, events[1], letter)
		require.True(t, letter.NoHandler)
		require.Equal(t, inbox.ErrNoHandler.Error(), letter.Error)
	}
	require.False(t, l.requireLetter(t, events[3], inbox.Waiting).NoHandler)

	again := without(newEvent(9, "b"))
	again[0].Entry = events[1].Entry
	require.Equal(t, []inbox.Result{inbox.Duplicate}, l.results(t, again...))
	held := without(newEvent(10, "b"))
	require.Equal(t, []inbox.Result{inbox.Held}, l.results(t, held...))
}

// withoutHandler applies n events of one aggregate. The first one has no handler and is set aside. The others are held behind it.
func (l *letters) withoutHandler(t *testing.T, n int) []inbox.Event {
	t.Helper()
	events := newEvents(l.at.Sequence, n, "a")
	without(events[:1]...)
	require.Equal(t, append([]inbox.Result{inbox.SetAside}, repeat(inbox.Held, n-1)...), l.results(t, events...))
	return events
}

func redeliverWithoutHandler(t *testing.T, l *letters) {
	l.begin(t)
	events := l.withoutHandler(t, 3)
	l.requireNothingDue(t)
	_, found, err := l.try(t.Context(), inbox.Redelivery{Limit: 100, Types: []string{"another"}})
	require.NoError(t, err)
	require.False(t, found)
	l.redeliver(t, knowing, events...)
	l.requireEnded(t, events...)
	l.requireCount(t, 3)

	events = l.withoutHandler(t, 2)
	l.poison(events[0])
	_, _, err = l.try(t.Context(), knowing)
	require.ErrorIs(t, err, errHandler)
	carefully := knowing
	carefully.Savepoints = true
	require.False(t, l.redeliver(t, carefully).Failed.NoHandler)
	require.False(t, l.requireLetter(t, events[0], inbox.Retrying).NoHandler, "a handler has failed")
	l.heal(events[0])
	l.redeliver(t, all, events...)
}

// redeliverMeetsNoHandler checks a letter that a program without a handler of its type tries. The letter waits for another program.
func redeliverMeetsNoHandler(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 3, "a")
	l.failing[events[1].ID] = inbox.ErrNoHandler
	_, _, err := l.try(t.Context(), all)
	require.ErrorIs(t, err, inbox.ErrNoHandler)
	require.True(t, inbox.Permanent(err))
	l.deadAtOnce = true
	failed := l.redeliver(t, careful, events[0]).Failed
	require.True(t, failed.NoHandler)
	require.Equal(t, inbox.Dead, failed.State)
	require.True(t, l.requireLetter(t, events[1], inbox.Dead).NoHandler)
	l.requireNothingDue(t)
	l.heal(events[1])
	kind := inbox.Redelivery{Limit: 100, Types: []string{events[1].Type}}
	l.redeliver(t, kind, events[1:]...)
	l.requireEnded(t, events...)
}

// redeliverWithoutHandlerBehind checks two letters of an aggregate. The first one is tried. The second one, behind it, has no handler.
func redeliverWithoutHandlerBehind(t *testing.T, l *letters) {
	l.begin(t)
	events := newEvents(0, 3, "a")
	events[1].Type = "new's ?0"
	l.poison(events[0])
	require.Equal(t, []inbox.Result{inbox.SetAside, inbox.Held, inbox.Held}, l.results(t, suspect(events[0]), events[1], events[2]))
	l.heal(events[0])
	l.failing[events[1].ID] = inbox.ErrNoHandler
	l.deadAtOnce = true
	l.retry(t, events[0])
	l.redeliver(t, careful, events[0])
	l.heal(events[1])
	l.requireList(t, "2 dead 1")
	l.redeliver(t, knowing, events[1:]...)
}

// retryWithoutHandler checks that any program tries a letter without a handler after an operator has retried the letter.
func retryWithoutHandler(t *testing.T, l *letters) {
	l.begin(t)
	events := l.withoutHandler(t, 2)
	l.requireList(t, "1 dead 1")
	l.retry(t, events[0])
	require.False(t, l.requireLetter(t, events[0], inbox.Retrying).NoHandler)
	l.redeliver(t, all, events...)

	events = l.withoutHandler(t, 2)
	retried, err := RetryAll(t.Context(), l.Letters, l.subscriber)
	require.NoError(t, err)
	require.Equal(t, 1, retried)
	l.redeliver(t, all, events...)

	events = l.withoutHandler(t, 2)
	l.discard(t, events[0])
	require.False(t, l.requireLetter(t, events[0], inbox.Discarded).NoHandler)
	l.redeliver(t, knowing, events[1])
	_, found, err := l.try(t.Context(), knowing)
	require.NoError(t, err)
	require.False(t, found)
}
