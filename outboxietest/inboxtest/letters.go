package inboxtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// LetterStore is a store with inbox.DeadLetters.
type LetterStore struct {
	Store
	DeadLetters inbox.DeadLetters
}

// letters is a lane with dead letters.
type letters struct {
	*lane
	DeadLetters inbox.DeadLetters

	attemptsSeen []int         // attempts, in order
	limit        int           // of failures
	wait         time.Duration // after a failure

	deadAtOnce bool // a permanent error makes a letter dead at once
}

func newLetters(s LetterStore) *letters {
	return &letters{lane: newLane(s.Store), DeadLetters: s.DeadLetters, limit: 3}
}

// prepare makes dead letters of n events of an aggregate: the first is dead, and the others wait.
func (l *letters) prepare(t *testing.T, after uint64, n int, aggregate string) []inbox.Event {
	t.Helper()
	events := newEvents(after, n, aggregate)
	l.poison(events[0])
	want := append([]inbox.Result{inbox.SetAside}, repeat(inbox.Held, n-1)...)
	require.Equal(t, want, l.results(t, append([]inbox.Event{suspect(events[0])}, events[1:]...)...))
	l.heal(events[0])
	l.forgetHandled()
	return events
}

// retried prepares letters, and retries the first of them.
func (l *letters) retried(t *testing.T, after uint64, n int, aggregate string) []inbox.Event {
	t.Helper()
	events := l.prepare(t, after, n, aggregate)
	l.retry(t, events[0])
	return events
}

// poison makes the handler fail for events.
func (l *letters) poison(events ...inbox.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, event := range events {
		l.failing[event.ID] = errHandler
	}
}

// heal makes the handler succeed for events.
func (l *letters) heal(events ...inbox.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, event := range events {
		delete(l.failing, event.ID)
	}
}

func (l *letters) forgetHandled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handled = nil
}

func (l *letters) retry(t *testing.T, event inbox.Event) {
	t.Helper()
	require.NoError(t, l.Letters.Retry(t.Context(), l.subscriber, event.ID))
}

func (l *letters) discard(t *testing.T, event inbox.Event) {
	t.Helper()
	require.NoError(t, l.Letters.Discard(t.Context(), l.subscriber, event.ID))
}

func (l *letters) policy(_ outbox.Entry, attempts int, err error) (inbox.Failure, error) {
	l.attemptsSeen = append(l.attemptsSeen, attempts)
	return inbox.Failure{Cause: err, Limit: l.limit, Wait: l.wait, Permanent: l.deadAtOnce && inbox.Permanent(err)}, nil
}

// try tries letters again.
func (l *letters) try(ctx context.Context, r inbox.Redelivery) (inbox.Redelivered, bool, error) {
	return l.DeadLetters.Redeliver(ctx, l.subscriber, r, l, l.policy)
}

// redeliver tries letters again, and requires that exactly the wanted ones are applied.
func (l *letters) redeliver(t *testing.T, r inbox.Redelivery, want ...inbox.Event) inbox.Redelivered {
	t.Helper()
	done, found, err := l.try(t.Context(), r)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, idsOf(want), idsOfEntries(done.Applied))
	return done
}

// redeliverAll tries one aggregate after the other until no letter is due.
func (l *letters) redeliverAll(t *testing.T) {
	t.Helper()
	for {
		_, found, err := l.try(t.Context(), all)
		require.NoError(t, err)
		if !found {
			return
		}
	}
}

func (l *letters) requireNothingDue(t *testing.T) {
	t.Helper()
	for _, r := range []inbox.Redelivery{{Limit: 1}, {Limit: 100, Savepoints: true}} {
		handled := len(l.handled)
		done, found, err := l.try(t.Context(), r)
		require.NoError(t, err)
		require.False(t, found)
		require.Equal(t, inbox.Redelivered{}, done)
		require.Len(t, l.handled, handled)
	}
}

// requireEnded requires that letters have ended with their effects, and that their events are duplicates.
func (l *letters) requireEnded(t *testing.T, events ...inbox.Event) {
	t.Helper()
	for _, event := range events {
		l.requireNoLetter(t, event)
	}
	l.requireApplied(t, events, events...)
	at := l.at
	l.rewind(t, inbox.StreamPosition{})
	require.Equal(t, repeat(inbox.Duplicate, len(events)), l.results(t, events...))
	if l.at.Sequence < at.Sequence {
		l.move(t, at.StreamPosition)
	}
}

// requireList requires what the list shows for each letter: its position, its state, and the number of letters behind it.
func (l *letters) requireList(t *testing.T, want ...string) {
	t.Helper()
	listed, err := l.Letters.Letters(t.Context(), l.subscriber, 100)
	require.NoError(t, err)
	var shown []string
	for _, letter := range listed {
		shown = append(shown, fmt.Sprintf("%d %s %d", letter.Position, letter.State, letter.Behind))
		found, err := l.Letters.Letter(t.Context(), l.subscriber, letter.ID)
		require.NoError(t, err)
		found.Payload, found.Headers = nil, nil // a list has neither
		require.Equal(t, letter, found)
	}
	require.Equal(t, want, shown)
}

func idsOfEntries(entries []outbox.Entry) []string {
	ids := make([]string, len(entries))
	for i, entry := range entries {
		ids[i] = entry.ID
	}
	return ids
}
