package inboxtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// unreadableMessage returns a message that is no event.
func unreadableMessage(sequence uint64) inbox.Event {
	return inbox.Event{
		Sequence: sequence, Unreadable: inbox.ErrUnreadable.With("it has no type"),
		Entry: outbox.Entry{Message: outbox.Message{ID: fmt.Sprintf("unreadable-%d", sequence), Subject: relaytest.SubjectPrefix + "stray"}},
	}
}

// fail prepares letters as prepare does. The first one fails for a reason.
func (l *letters) fail(t *testing.T, after uint64, n int, aggregate, eventType, reason string) []inbox.Event {
	t.Helper()
	events := newEvents(after, n, aggregate)
	for i := range events {
		events[i].Type = eventType
	}
	l.failing[events[0].ID] = errors.New(reason)
	want := append([]inbox.Result{inbox.SetAside}, repeat(inbox.Held, n-1)...)
	require.Equal(t, want, l.results(t, append([]inbox.Event{suspect(events[0])}, events[1:]...)...))
	l.heal(events[0])
	l.forgetHandled()
	return events
}

// walk returns all undecided letters, page by page.
func (l *letters) walk(t *testing.T, limit int) (all []operations.UndecidedEvent) {
	t.Helper()
	var mark operations.DeadLetterCursor
	for {
		page, next, err := l.Letters.Undecided(t.Context(), l.subscriber, mark, limit)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page), limit)
		if len(page) == 0 {
			return all
		}
		all, mark = append(all, page...), next
	}
}

// each returns all undecided letters in order of position, as EachUndecided visits them.
func (l *letters) each(t *testing.T) (all []operations.UndecidedEvent) {
	t.Helper()
	require.NoError(t, l.Letters.EachUndecided(t.Context(), l.subscriber, func(u operations.UndecidedEvent) bool {
		all = append(all, u)
		return true
	}))
	slices.SortFunc(all, byPosition)
	return all
}

func byPosition(a, b operations.UndecidedEvent) int { return int(a.Position - b.Position) }

// requireUndecided requires that exactly these letters are undecided, in order of position, with the number of letters behind each. The
// pages have the same letters.
func (l *letters) requireUndecided(t *testing.T, want ...string) {
	t.Helper()
	all := l.each(t)
	var shown []string
	for i, u := range all {
		shown = append(shown, fmt.Sprintf("%d: %d behind", u.Position, u.EventsBehind))
		all[i].EventsBehind = 0
	}
	require.Equal(t, want, shown)
	for _, limit := range []int{1, 2, 100} {
		found := l.walk(t, limit)
		slices.SortFunc(found, byPosition)
		require.Equal(t, all, found)
	}
}

// RetryAll retries all dead letters of a subscriber, as the operator's command does, and returns their number.
func RetryAll(ctx context.Context, letters operations.DeadLetterAdmin, subscriber string) (retried int, err error) {
	const atOnce = 100
	for mark := (operations.DeadLetterCursor{}); ; {
		page, next, err := letters.Undecided(ctx, subscriber, mark, atOnce)
		if err != nil || len(page) == 0 {
			return retried, err
		}
		ids := make([]string, len(page))
		for i, letter := range page {
			ids[i] = letter.EventID
		}
		changed, err := letters.RetryChosen(ctx, subscriber, ids, operations.Choice{})
		if err != nil {
			return retried, err
		}
		retried, mark = retried+changed, next
	}
}

func groupsList(t *testing.T, l *letters) {
	l.begin(t)
	l.requireUndecided(t)
	a := l.fail(t, 0, 3, "it's ?0", "a.v1", "customer 7 is unknown")
	l.prepare(t, 10, 1, "b")
	l.retried(t, 20, 2, "c")
	l.discard(t, l.prepare(t, 30, 1, "d")[0])
	l.results(t, unreadableMessage(40))
	l.requireUndecided(t, "0: 0 behind", "1: 2 behind", "11: 0 behind")

	found := l.each(t)
	at := slices.IndexFunc(found, func(u operations.UndecidedEvent) bool { return u.EventID == a[0].ID })
	first := found[at]
	require.WithinDuration(t, time.Now(), first.First, time.Minute)
	require.WithinDuration(t, time.Now(), first.Last, time.Minute)
	first.First, first.Last = time.Time{}, time.Time{}
	require.Equal(t, operations.UndecidedEvent{
		Position: 1, EventID: a[0].ID, Key: a[0].Key, Type: "a.v1", Reason: "customer 7 is unknown", EventsBehind: 2,
	}, first)
	page, _, err := l.Letters.Undecided(t.Context(), "shipping", operations.DeadLetterCursor{}, 10)
	require.NoError(t, err)
	require.Empty(t, page)
	visited := 0
	stop := func(operations.UndecidedEvent) bool { visited++; return visited < 2 }
	require.NoError(t, l.Letters.EachUndecided(t.Context(), "shipping", stop))
	require.Zero(t, visited)
	require.NoError(t, l.Letters.EachUndecided(t.Context(), l.subscriber, stop))
	require.Equal(t, 2, visited, "the visitor ends the reading")
}

// groupsBehind checks an aggregate with two dead letters: a waiting letter counts only behind the second one.
func groupsBehind(t *testing.T, l *letters) {
	l.begin(t)
	l.limit = 1
	events := l.retried(t, 0, 5, "a")
	l.poison(events[2])
	l.redeliver(t, careful, events[:2]...)
	l.heal(events[2])
	early := newEvent(l.at.Sequence+1, "a")
	early.Position = 1
	require.Equal(t, []inbox.Result{inbox.Held}, l.results(t, early))
	l.poison(early)
	l.redeliver(t, careful)
	l.requireUndecided(t, "1: 0 behind", "3: 2 behind")
}

// groupsLongReason checks a reason that is too long, so that only its beginning is read.
func groupsLongReason(t *testing.T, l *letters) {
	l.begin(t)
	reason := strings.Repeat("é", 3*fault.LongestReason)
	event := l.fail(t, 0, 1, "a", "a.v1", reason)[0]
	found := l.walk(t, 1)
	require.Less(t, len(found[0].Reason), len(reason))
	group := operations.Choice{Group: fault.NewFingerprint(reason).ID}
	retried, err := l.Letters.RetryChosen(t.Context(), subscriber, idsOf([]inbox.Event{event}), group)
	require.NoError(t, err)
	require.Equal(t, 1, retried)
}

// groupsDieAgain checks that each letter is read once, even if letters die again while an operator reads the pages.
func groupsDieAgain(t *testing.T, l *letters) {
	l.begin(t)
	l.limit = 1
	for i := range 4 {
		event := l.prepare(t, uint64(i), 1, fmt.Sprint(i))[0]
		l.poison(event)
	}
	mark, seen := operations.DeadLetterCursor{}, make(map[string]int)
	for range 100 {
		page, next, err := l.Letters.Undecided(t.Context(), l.subscriber, mark, 1)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		mark = next
		seen[page[0].EventID]++
		time.Sleep(2 * time.Millisecond) // so that it dies after the walk began, even on a clock of milliseconds
		require.NoError(t, l.Letters.Retry(t.Context(), subscriber, page[0].EventID))
		require.NotNil(t, l.redeliver(t, careful).Failed)
	}
	require.Len(t, seen, 4)
	for id, times := range seen {
		require.Equal(t, 1, times, id)
	}
}

func groupsRetry(t *testing.T, l *letters) {
	l.begin(t)
	unknown := l.fail(t, 0, 2, "a", "a.v1", "customer 7 is unknown")
	same := l.fail(t, 2, 1, "b", "b.v1", "customer 8 is unknown")
	other := l.fail(t, 3, 2, "c", "a.v1", "no stock")
	l.results(t, unreadableMessage(l.at.Sequence+1))
	group := fault.NewFingerprint("customer 9 is unknown").ID
	every := append(idsOf(slices.Concat(unknown, same, other)), unreadableMessage(6).ID, "no such letter", "\x00", strings.Repeat("x", 4000))
	for _, c := range []struct {
		ids    []string
		choice operations.Choice
		want   int
	}{
		{every, operations.Choice{Group: "0"}, 0},
		{every, operations.Choice{Group: group, Type: "c.v1"}, 0},
		{nil, operations.Choice{}, 0},
		{every, operations.Choice{Aggregate: other[0].Key, Group: group}, 0},
		{every, operations.Choice{Aggregate: unknown[0].Key, Group: group, Type: "a.v1"}, 1},
		{every, operations.Choice{Aggregate: unknown[0].Key}, 0},
		{every[3:], operations.Choice{Group: group}, 0},
		{every, operations.Choice{Group: group}, 1},
	} {
		retried, err := l.Letters.RetryChosen(t.Context(), subscriber, c.ids, c.choice)
		require.NoError(t, err)
		require.Equal(t, c.want, retried, "%+v", c.choice)
	}
	l.requireUndecided(t, "0: 0 behind", "4: 1 behind")
	l.redeliverAll(t)
	l.requireEnded(t, append(unknown, same...)...)
	retried, err := l.Letters.RetryChosen(t.Context(), subscriber, every, operations.Choice{})
	require.NoError(t, err)
	require.Equal(t, 1, retried, "a message that is no event is left alone")
	l.requireUndecided(t, "0: 0 behind")
	l.redeliverAll(t)
	l.requireCount(t, 5)
}

// groupsPresentReason checks a letter that fails for another reason after the operator has read it.
func groupsPresentReason(t *testing.T, l *letters) {
	l.begin(t)
	l.limit = 1
	event := l.fail(t, 0, 1, "a", "a.v1", "customer 7 is unknown")[0]
	former := operations.Choice{Group: fault.NewFingerprint(l.walk(t, 1)[0].Reason).ID}
	l.retry(t, event)
	l.failing[event.ID] = errors.New("no stock")
	l.redeliver(t, careful)
	for name, change := range map[string]func(context.Context, string, []string, operations.Choice) (int, error){
		"retry": l.Letters.RetryChosen, "discard": l.Letters.DiscardChosen,
	} {
		changed, err := change(t.Context(), subscriber, []string{event.ID}, former)
		require.NoError(t, err)
		require.Zero(t, changed, name)
	}
	l.requireLetter(t, event, inbox.Dead)
}

func groupsDiscard(t *testing.T, l *letters) {
	l.begin(t)
	a := l.fail(t, 0, 3, "a", "a.v1", "customer 7 is unknown")
	b := l.fail(t, 3, 1, "b", "a.v1", "customer 8 is unknown")
	other := l.fail(t, 4, 1, "c", "a.v1", "no stock")
	stray := unreadableMessage(l.at.Sequence + 1)
	l.results(t, stray)
	every := idsOf(slices.Concat(a, b, other, []inbox.Event{stray}))
	group := operations.Choice{Group: fault.NewFingerprint("customer 9 is unknown").ID}
	for _, want := range []int{2, 0} {
		discarded, err := l.Letters.DiscardChosen(t.Context(), subscriber, every, group)
		require.NoError(t, err)
		require.Equal(t, want, discarded)
	}
	l.requireLetter(t, a[0], inbox.Discarded)
	l.requireLetter(t, b[0], inbox.Discarded)
	l.requireList(t, "0 dead 0", "2 retrying 1", "5 dead 0")
	l.redeliver(t, all, a[1:]...)
	at := l.at
	l.rewind(t, inbox.StreamPosition{})
	require.Equal(t, repeat(inbox.Duplicate, 5), l.results(t, slices.Concat(a, b, other)...))
	l.move(t, at.StreamPosition)
	discarded, err := l.Letters.DiscardChosen(t.Context(), subscriber, every, operations.Choice{})
	require.NoError(t, err)
	require.Equal(t, 2, discarded)
	l.requireLetter(t, stray, inbox.Discarded)
	l.requireUndecided(t)
	l.requireList(t)
	l.requireCount(t, 2)
}

// groupsTogether checks that operators may change overlapping sets of letters at once, while single letters are discarded and tried.
func groupsTogether(t *testing.T, l *letters) {
	l.begin(t)
	var events []inbox.Event
	for i := range 120 {
		event := suspect(newEvent(uint64(i)+1, fmt.Sprint("aggregate ", i%40)))
		events = append(events, event)
		l.failing[event.ID] = fmt.Errorf("cause %s", []string{"x", "y", "z"}[i%3])
	}
	l.results(t, events...)
	l.heal(events...)
	l.forgetHandled()
	var operators sync.WaitGroup
	for n := range 6 {
		ids := idsOf(events[n*10 : n*10+70])
		choice := operations.Choice{Group: fault.NewFingerprint("cause " + []string{"x", "y", "z"}[n%3]).ID}
		for _, call := range []func() error{
			func() error { _, err := l.Letters.RetryChosen(t.Context(), subscriber, ids, choice); return err },
			func() error {
				_, err := l.Letters.DiscardChosen(t.Context(), subscriber, ids[:10], operations.Choice{})
				return err
			},
			func() error { return l.Letters.Discard(t.Context(), subscriber, ids[15]) },
			func() error {
				_, _, err := l.DeadLetters.Redeliver(t.Context(), subscriber, careful, l.lane, deadAtFirstFailure)
				return err
			},
		} {
			operators.Go(func() {
				if err := call(); err != nil && fault.KindOf(err) != fault.NotFound && fault.KindOf(err) != fault.Unavailable {
					t.Error(err)
				}
			})
		}
	}
	operators.Wait()
	_, err := l.Letters.RetryChosen(t.Context(), subscriber, idsOf(events), operations.Choice{})
	require.NoError(t, err)
	l.redeliverAll(t)
	l.requireList(t)
	applied := l.WasApplied(t, subscriber, idsOf(events)...)
	for _, event := range events {
		if !slices.Contains(applied, event.ID) {
			l.requireLetter(t, event, inbox.Discarded)
		}
	}
	require.ElementsMatch(t, applied, l.handled, "once")
	l.requireCount(t, int64(len(applied)))
}
