package inboxtest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// requireLetter requires that the event has a letter in a state.
func (l *lane) requireLetter(t *testing.T, event inbox.Event, want inbox.LetterState) inbox.Letter {
	t.Helper()
	letter, err := l.Letters.Letter(t.Context(), l.subscriber, event.ID)
	require.NoError(t, err)
	require.Equal(t, want, letter.State)
	return letter
}

func (l *lane) requireNoLetter(t *testing.T, event inbox.Event) {
	t.Helper()
	_, err := l.Letters.Letter(t.Context(), l.subscriber, event.ID)
	require.ErrorIs(t, err, inbox.ErrNoLetter)
}

// requireSame requires that a letter has the unchanged event.
func requireSame(t *testing.T, event inbox.Event, letter inbox.Letter) {
	t.Helper()
	require.WithinDuration(t, event.RecordedAt, letter.RecordedAt, 0)
	letter.RecordedAt = event.RecordedAt
	require.Equal(t, event.Entry, letter.Entry)
}

// setAsideSuspect checks a batch with three suspects, of which two fail.
func setAsideSuspect(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 7, "a", "b", "c", "d", "e", "f", "g")
	events[1].Headers = map[string]string{"X": "it's ?0\n\"2\""}
	for _, i := range []int{1, 2, 4} {
		events[i].Suspect = true
	}
	l.failing[events[1].ID], l.failing[events[4].ID] = errHandler, errHandler
	begun := time.Now()
	outcome, err := l.try(t.Context(), events...)
	require.NoError(t, err)
	require.Equal(t, []inbox.Result{
		inbox.Applied, inbox.SetAside, inbox.Applied, inbox.Applied, inbox.SetAside, inbox.Applied, inbox.Applied,
	}, outcome.Results)
	require.Equal(t, idsOf(events), l.handled)
	l.requireCount(t, 5)
	l.requireApplied(t, events, events[0], events[2], events[3], events[5], events[6])
	l.requireAsKnown(t)
	require.Len(t, outcome.Letters, 2)
	for i, event := range []inbox.Event{events[1], events[4]} {
		kept := l.requireLetter(t, event, inbox.Dead)
		for _, letter := range []inbox.Letter{outcome.Letters[i], kept} {
			requireSame(t, event, letter)
			require.Equal(t, inbox.Dead, letter.State)
			require.Equal(t, errHandler.Error(), letter.Error)
			require.Equal(t, 1, letter.Attempts)
			require.WithinDuration(t, begun, letter.FirstFailedAt, time.Minute)
			require.WithinDuration(t, begun, letter.DeadAt, time.Minute)
		}
	}
}

func setAsideNothing(t *testing.T, l *lane) {
	l.begin(t)
	events := []inbox.Event{suspect(newEvent(1, "a")), suspect(newEvent(2, "a")), newEvent(3, "a")}
	outcome, err := l.try(t.Context(), events...)
	require.NoError(t, err)
	require.Equal(t, repeat(inbox.Applied, 3), outcome.Results)
	require.Empty(t, outcome.Letters)
	require.Equal(t, idsOf(events), l.handled)
	l.requireCount(t, 3)
	l.requireApplied(t, events, events...)
}

// setAsideCollected checks that a suspect is set aside if its effect cannot be written, and if its handler panics.
func setAsideCollected(t *testing.T, l *lane) {
	l.begin(t)
	events := []inbox.Event{newEvent(1, "a"), suspect(newEvent(2, "b")), suspect(newEvent(3, "c")), newEvent(4, "d")}
	l.inHandler = func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
		switch entry.ID {
		case events[1].ID:
			return l.Add(ctx, tx, unwritableKey, amount)
		case events[2].ID:
			panic("it's mine")
		}
		return nil
	}
	judge := func(entry outbox.Entry, _ int, err error) (inbox.Failure, error) {
		require.Equal(t, entry.ID == events[1].ID, errors.Is(err, inbox.ErrPermanent), "%v", err)
		return deadAtFirstFailure(entry, 0, err)
	}
	outcome, err := l.UnitOfWork.Apply(t.Context(), subscriber, l.batch(events...), l, judge)
	require.NoError(t, err)
	require.Equal(t, []inbox.Result{inbox.Applied, inbox.SetAside, inbox.SetAside, inbox.Applied}, outcome.Results)
	l.requireCount(t, 2)
	l.requireLetter(t, events[1], inbox.Dead)
	require.Contains(t, l.requireLetter(t, events[2], inbox.Dead).Error, "it's mine")
}

func setAsideJudged(t *testing.T, l *lane) {
	l.begin(t)
	events := []inbox.Event{suspect(newEvent(1, "a")), suspect(newEvent(2, "b"))}
	l.failing[events[0].ID], l.failing[events[1].ID] = errHandler, errHandler
	var judged []string
	another := errors.New("another")
	judge := func(entry outbox.Entry, attempts int, err error) (inbox.Failure, error) {
		require.ErrorIs(t, err, errHandler)
		require.Zero(t, attempts)
		judged = append(judged, entry.ID)
		return inbox.Failure{Cause: another, Limit: 3, Permanent: entry.ID == events[1].ID, Wait: time.Hour}, nil
	}
	outcome, err := l.UnitOfWork.Apply(t.Context(), subscriber, l.batch(events...), l, judge)
	require.NoError(t, err)
	require.Equal(t, idsOf(events), judged)
	require.Equal(t, repeat(inbox.SetAside, 2), outcome.Results)
	require.Equal(t, inbox.Retrying, outcome.Letters[0].State)
	require.Equal(t, inbox.Dead, outcome.Letters[1].State)
	letter := l.requireLetter(t, events[0], inbox.Retrying)
	require.Equal(t, 1, letter.Attempts)
	require.Equal(t, "another", letter.Error)
	require.Zero(t, letter.DeadAt)
	l.requireLetter(t, events[1], inbox.Dead)
	dead, err := l.Letters.CountDead(t.Context(), subscriber)
	require.NoError(t, err)
	require.Equal(t, 1, dead)
}

func setAsideRefused(t *testing.T, l *lane) {
	l.begin(t)
	events := []inbox.Event{newEvent(1, "a"), suspect(newEvent(2, "b")), newEvent(3, "c")}
	l.failing[events[1].ID] = errHandler
	refused := fault.New(fault.Unavailable, "outage", "an outage")
	_, err := l.UnitOfWork.Apply(t.Context(), subscriber, l.batch(events...), l, func(outbox.Entry, int, error) (inbox.Failure, error) {
		return inbox.Failure{}, refused
	})
	require.Equal(t, refused, err)
	l.requireNothingKept(t, events...)
}

// setAsideOutage checks that a suspect is not judged if the connection is lost while the handler works.
func setAsideOutage(t *testing.T, l *lane) {
	l.begin(t)
	events := []inbox.Event{newEvent(1, "a"), suspect(newEvent(2, "b"))}
	l.failing[events[1].ID] = errHandler
	l.disturb(events[1], true, func() { l.Disconnect(t) })
	_, err := l.UnitOfWork.Apply(t.Context(), subscriber, l.batch(events...), l, func(outbox.Entry, int, error) (inbox.Failure, error) {
		t.Error("it was judged")
		return inbox.Failure{}, errHandler
	})
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	l.Reconnect(t)
	l.requireNothingKept(t, events...)
}

// setAsideHeld checks that the later events of an aggregate are held behind its letter, in the same batch and in a later one.
func setAsideHeld(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 8, "it's ?0", "b")
	other := newEvent(0, "it's ?0")
	other.Key.Type = "voucher"
	events[7].Key = other.Key
	events[2].Suspect = true
	l.failing[events[2].ID] = errHandler
	require.Equal(t, []inbox.Result{inbox.Applied, inbox.Applied, inbox.SetAside, inbox.Applied, inbox.Held}, l.results(t, events[:5]...))
	require.Equal(t, []inbox.Result{inbox.Applied, inbox.Held, inbox.Applied}, l.results(t, events[5:]...))
	require.Equal(t, idsOf([]inbox.Event{events[0], events[1], events[2], events[3], events[5], events[7]}), l.handled)
	l.requireCount(t, 5)
	l.requireApplied(t, events, events[0], events[1], events[3], events[5], events[7])
	require.Equal(t, 2, l.requireLetter(t, events[2], inbox.Dead).Behind)
	for _, held := range []inbox.Event{events[4], events[6]} {
		letter := l.requireLetter(t, held, inbox.Waiting)
		requireSame(t, held, letter)
		require.Zero(t, letter.Attempts)
		require.Empty(t, letter.Error)
		require.Zero(t, letter.DeadAt)
	}

	shipping := l.copyOf()
	shipping.subscriber = "shipping"
	require.Equal(t, repeat(inbox.Applied, 8), shipping.begin(t).results(t, events...), "they are held for one subscriber")
}

func setAsideHeldSuspect(t *testing.T, l *lane) {
	l.begin(t)
	first, second := suspect(newEvent(1, "a")), suspect(newEvent(2, "a"))
	l.failing[first.ID] = errHandler
	require.Equal(t, []inbox.Result{inbox.SetAside, inbox.Held}, l.results(t, first, second))
	require.Equal(t, []inbox.Result{inbox.Held}, l.results(t, suspect(newEvent(3, "a"))))
	require.Equal(t, []string{first.ID}, l.handled)
}

func setAsideDuplicate(t *testing.T, l *lane) {
	l.begin(t)
	events := []inbox.Event{suspect(newEvent(1, "a")), newEvent(2, "a"), newEvent(3, "b")}
	l.failing[events[0].ID] = errHandler
	require.Equal(t, []inbox.Result{inbox.SetAside, inbox.Held, inbox.Applied}, l.results(t, events...))
	l.handled = nil
	for range 2 {
		l.rewind(t, inbox.StreamPosition{})
		require.Equal(t, repeat(inbox.Duplicate, 3), l.results(t, events...))
	}
	require.Empty(t, l.handled)
	require.Equal(t, 1, l.requireLetter(t, events[0], inbox.Dead).Attempts)
	l.requireLetter(t, events[1], inbox.Waiting)
}

func setAsideDiscarded(t *testing.T, l *lane) {
	l.begin(t)
	first, second := suspect(newEvent(1, "a")), newEvent(2, "a")
	l.failing[first.ID] = errHandler
	require.Equal(t, []inbox.Result{inbox.SetAside}, l.results(t, first))
	require.NoError(t, l.Letters.Discard(t.Context(), subscriber, first.ID))
	require.Equal(t, []inbox.Result{inbox.Applied}, l.results(t, second))
	l.rewind(t, inbox.StreamPosition{})
	require.Equal(t, repeat(inbox.Duplicate, 2), l.results(t, first, second))
	l.requireLetter(t, first, inbox.Discarded)
	l.requireCount(t, 1)
}

func setAsideUnreadable(t *testing.T, l *lane) {
	l.begin(t)
	stray := inbox.Event{
		Sequence: 2, Unreadable: inbox.ErrUnreadable.With("it has no type"), Entry: outbox.Entry{Message: outbox.Message{
			ID: "unreadable-2-abc", Subject: relaytest.SubjectPrefix + "stray", Headers: map[string]string{"X": "1\n2"}, Payload: []byte{0, 0xff},
		}},
	}
	twin := stray
	twin.Sequence, twin.ID = 3, "unreadable-3-abc"
	for range 2 {
		l.rewind(t, inbox.StreamPosition{})
		outcome, err := l.try(t.Context(), newEvent(1, "a"), stray, twin, newEvent(4, "a"))
		require.NoError(t, err)
		if len(outcome.Letters) == 0 {
			require.Equal(t, []inbox.Result{inbox.Applied, inbox.Duplicate, inbox.Duplicate, inbox.Applied}, outcome.Results)
			continue
		}
		require.Equal(t, []inbox.Result{inbox.Applied, inbox.SetAside, inbox.SetAside, inbox.Applied}, outcome.Results)
		require.Len(t, outcome.Letters, 2)
		for _, letter := range []inbox.Letter{outcome.Letters[0], l.requireLetter(t, stray, inbox.Dead)} {
			require.Equal(t, stray.Message, letter.Message)
			require.Equal(t, "it has no type", letter.Error)
			require.False(t, letter.Readable())
			require.WithinDuration(t, time.Now(), letter.DeadAt, time.Minute)
		}
	}
	require.Len(t, l.handled, 4)
	require.NoError(t, l.Letters.Discard(t.Context(), subscriber, stray.ID))
	l.rewind(t, inbox.StreamPosition{})
	require.Equal(t, repeat(inbox.Duplicate, 2), l.results(t, stray, twin))
	l.requireLetter(t, stray, inbox.Discarded)
}

// setAsideForeign checks messages that look like events, but have ids that no event of the engine has.
func setAsideForeign(t *testing.T, l *lane) {
	l.begin(t)
	events := newEvents(0, 5, "a")
	events[0].ID, events[1].ID, events[2].ID, events[3].ID = "17", "", "not a\x00 UUID\xff", strings.Repeat("é", 5000)
	for _, want := range []inbox.Result{inbox.SetAside, inbox.Duplicate} {
		l.rewind(t, inbox.StreamPosition{})
		results := l.results(t, events...)
		require.Equal(t, repeat(want, 4), results[:4])
	}
	require.Equal(t, []string{events[4].ID}, l.handled, "nothing waits behind them")
	for _, event := range events[:4] {
		letter := l.requireLetter(t, event, inbox.Dead)
		require.False(t, letter.Readable())
		require.Contains(t, letter.Error, "UUID")
		require.Equal(t, event.Payload, letter.Payload)
	}
}

// setAsideOdd checks events with text that databases cannot store unchanged.
func setAsideOdd(t *testing.T, l *lane) {
	l.begin(t)
	odd := newEvents(0, 3, "\x00\xff")
	for i := range odd {
		odd[i].Key.Type, odd[i].Subject, odd[i].Type = "\xfe", "\xff\x00", "\x00"
		odd[i].Headers, odd[i].Payload, odd[i].RecordedAt = map[string]string{"\xff": "\x00"}, nil, time.Time{}
	}
	odd[1].Suspect = true
	l.failing[odd[1].ID] = errors.New("\xff\x00")
	require.Equal(t, []inbox.Result{inbox.Applied, inbox.SetAside, inbox.Held}, l.results(t, odd...))
	later := newEvent(4, "")
	later.Key = odd[0].Key
	require.Equal(t, []inbox.Result{inbox.Held, inbox.Applied}, l.results(t, later, newEvent(5, "b")))

	long := newEvents(5, 3, strings.Repeat("long?", 8000))
	long[0].Suspect = true
	l.failing[long[0].ID] = errHandler
	require.Equal(t, []inbox.Result{inbox.SetAside, inbox.Held, inbox.Held}, l.results(t, long...))
	requireSame(t, long[0], l.requireLetter(t, long[0], inbox.Dead))
}

func setAsideUndone(t *testing.T, l *lane) {
	l.begin(t)
	events := []inbox.Event{suspect(newEvent(1, "a")), newEvent(2, "a"), newEvent(3, "b")}
	l.failing[events[0].ID], l.failing[events[2].ID] = errHandler, errHandler
	require.ErrorIs(t, l.apply(t, events...), errHandler)
	l.requireNothingKept(t, events...)
}
