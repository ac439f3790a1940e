package inboxtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

func redeliverLongestDue(t *testing.T, l *letters) {
	l.begin(t)
	a, b, c := l.prepare(t, 0, 2, "a"), l.prepare(t, 2, 2, "b"), l.prepare(t, 4, 2, "c")
	for _, events := range [][]inbox.Event{b, c, a} {
		l.retry(t, events[0])
		time.Sleep(2 * time.Millisecond)
	}
	one := inbox.Redelivery{Limit: 1}
	for _, event := range []inbox.Event{b[0], c[0], a[0]} {
		l.redeliver(t, one, event)
		time.Sleep(2 * time.Millisecond)
	}
	for _, event := range []inbox.Event{b[1], c[1], a[1]} {
		l.redeliver(t, one, event)
	}
}

func redeliverWait(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 2, "a")
	l.poison(events[0])
	l.wait = time.Hour
	require.Equal(t, inbox.Retrying, l.redeliver(t, careful).Failed.State)
	l.requireNothingDue(t)
	l.requireList(t, "1 retrying 1")
	require.ErrorIs(t, l.Letters.Retry(t.Context(), subscriber, events[0].ID), inbox.ErrNotDead)

	other := l.retried(t, l.at.Sequence, 1, "b")
	l.poison(other...)
	l.wait = 20 * soon // long enough for requireNothingDue, even on a busy machine
	begun := time.Now()
	l.redeliver(t, careful)
	l.requireNothingDue(t)
	l.heal(other...)
	require.Eventually(t, func() bool {
		_, found, err := l.try(t.Context(), all)
		return err == nil && found
	}, waitLimit, soon/20)
	require.GreaterOrEqual(t, time.Since(begun), l.wait)
	l.requireEnded(t, other...)
}

func redeliverFailingCommit(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 2, "a")
	l.FailNextCommit(t)
	_, found, err := l.try(t.Context(), all)
	require.Error(t, err)
	require.False(t, found)
	l.requireCount(t, 0)
	l.requireLetter(t, events[0], inbox.Retrying)
	l.redeliver(t, all, events...)
	l.requireCount(t, 2)
}

func redeliverEnded(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 2, "a")
	ended, end := context.WithCancel(t.Context())
	end()
	_, _, err := l.try(ended, all)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, l.handled)
	for _, r := range []inbox.Redelivery{all, careful} {
		for _, early := range []bool{true, false} {
			ctx, end := context.WithCancel(t.Context())
			l.disturb(events[1], early, end)
			_, err := l.tryFree(ctx, r)
			require.ErrorIs(t, err, context.Canceled)
			end()
		}
	}
	l.inHandler = nil
	l.requireCount(t, 0)
	require.Empty(t, l.attemptsSeen)
	done, err := l.tryFree(t.Context(), all)
	require.NoError(t, err)
	require.Equal(t, idsOf(events), idsOfEntries(done.Applied))
}

// tryFree tries letters again as soon as nobody works on them: a transaction whose context has ended may be undone a little later.
func (l *letters) tryFree(ctx context.Context, r inbox.Redelivery) (inbox.Redelivered, error) {
	for begun := time.Now(); ; {
		done, found, err := l.try(ctx, r)
		if found || err != nil || time.Since(begun) > waitLimit {
			return done, err
		}
	}
}

func redeliverOutage(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 2, "a")
	for _, r := range []inbox.Redelivery{all, careful} {
		for _, early := range []bool{true, false} {
			l.disturb(events[1], early, func() { l.Disconnect(t) })
			for range 2 {
				_, _, err := l.try(t.Context(), r)
				require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
			}
			l.Reconnect(t)
		}
	}
	l.inHandler = nil
	l.requireCount(t, 0)
	require.Empty(t, l.attemptsSeen, "an outage is no failure of an event")
	l.redeliver(t, all, events...)
}

func redeliverDeadTx(t *testing.T, l *letters) {
	l.begin(t)
	l.limit = 100
	events := l.retried(t, 0, 2, "a")
	var left []inbox.Tx
	l.inHandler = func(_ context.Context, tx inbox.Tx, _ outbox.Entry) error {
		left = append(left, tx)
		return nil
	}
	l.poison(events[1])
	_, _, err := l.try(t.Context(), all)
	require.ErrorIs(t, err, errHandler)
	l.redeliver(t, careful, events[0])
	l.heal(events[1])
	l.redeliver(t, all, events[1])
	require.Len(t, left, 5)
	for _, tx := range left {
		require.Error(t, l.Add(t.Context(), tx, l.key, amount))
	}
	l.requireCount(t, 2)
}

func redeliverForEach(t *testing.T, l *letters) {
	l.begin(t)
	events := l.retried(t, 0, 2, "a")
	for _, name := range []string{"shipping", "Billing's ?0"} {
		_, found, err := l.DeadLetters.Redeliver(t.Context(), name, all, l, l.policy)
		require.NoError(t, err)
		require.False(t, found)
	}
	l.redeliver(t, all, events...)
}

func redeliverFaithful(t *testing.T, l *letters) {
	l.begin(t)
	events := newEvents(0, 2, `it's "?0"`)
	for i := range events {
		events[i].Headers = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X": "\"?0'\n2"}
		events[i].Payload = []byte("{\"a\":  \"\\u00e9\x00\xff ?0\"}")
	}
	events[0].Suspect = true
	l.poison(events[0])
	require.Equal(t, []inbox.Result{inbox.SetAside, inbox.Held}, l.results(t, events...))
	l.heal(events[0])
	l.retry(t, events[0])
	var seen []outbox.Entry
	l.inHandler = func(_ context.Context, _ inbox.Tx, entry outbox.Entry) error {
		seen = append(seen, entry)
		return nil
	}
	done := l.redeliver(t, all, events...)
	require.Equal(t, done.Applied, seen)
	for i, event := range events {
		requireSame(t, event, inbox.Letter{Entry: seen[i]})
	}
}

func redeliverDiscarded(t *testing.T, l *letters) {
	l.begin(t)
	events := l.prepare(t, 0, 4, "a")
	l.discard(t, events[2])
	l.requireNothingDue(t)
	l.discard(t, events[0])
	l.requireList(t, "2 retrying 1")
	l.redeliver(t, all, events[1], events[3])
	l.requireApplied(t, events, events[1], events[3])
	l.requireNothingDue(t)

	events = l.retried(t, l.at.Sequence, 3, "b")
	l.discard(t, events[0])
	l.redeliver(t, all, events[1:]...)
}

// redeliverApart checks that a second copy can try the letters of another aggregate while the handler of the first copy works.
func redeliverApart(t *testing.T, l *letters) {
	l.begin(t)
	a, b := l.retried(t, 0, 3, "a"), l.retried(t, 3, 3, "b")
	inner := &letters{lane: l.copyOf(), DeadLetters: l.DeadLetters, limit: 1}
	l.inHandler = func(_ context.Context, _ inbox.Tx, entry outbox.Entry) error {
		switch entry.ID {
		case a[0].ID:
			inner.redeliver(t, inbox.Redelivery{Limit: 2}, b[:2]...)
		case a[1].ID:
			inner.redeliver(t, careful, b[2])
			inner.requireNothingDue(t)
		}
		return nil
	}
	l.redeliver(t, inbox.Redelivery{Limit: 2}, a[:2]...)
	l.inHandler = nil
	inner.redeliver(t, all, a[2])
	l.requireCount(t, 6)
}

// redeliverBesideLane checks that the lane does not wait if it meets an event of an aggregate whose letters are being tried.
func redeliverBesideLane(t *testing.T, l *letters) {
	l.begin(t)
	for _, r := range []inbox.Redelivery{{Limit: 1}, all, careful} {
		events := l.retried(t, l.at.Sequence, 2, "a")
		var held []inbox.Event
		l.inHandler = func(context.Context, inbox.Tx, outbox.Entry) error {
			more := newEvent(l.at.Sequence+1, "a")
			ctx, cancel := context.WithTimeout(t.Context(), waitLimit/3)
			defer cancel()
			outcome, err := l.lane.try(ctx, more)
			require.NoError(t, err)
			require.Equal(t, []inbox.Result{inbox.Held}, outcome.Results)
			held = append(held, more)
			return nil
		}
		l.redeliver(t, r, events[:min(2, r.Limit)]...)
		l.inHandler = nil
		l.redeliver(t, all, append(events[min(2, r.Limit):], held...)...)
		l.requireNothingDue(t)
		require.Equal(t, []inbox.Result{inbox.Applied}, l.results(t, newEvent(l.at.Sequence+1, "a")))
	}
}

// redeliverBesideDiscard checks that Discard waits while its letter, or an earlier letter of the aggregate, is being tried.
func redeliverBesideDiscard(t *testing.T, l *letters) {
	l.begin(t)
	for _, r := range []inbox.Redelivery{all, careful} {
		events := l.retried(t, l.at.Sequence, 3, "a")
		var operating sync.WaitGroup
		answers := make(chan error, len(events))
		l.inHandler = func(_ context.Context, _ inbox.Tx, entry outbox.Entry) error {
			if entry.ID != events[0].ID {
				return nil
			}
			for _, event := range events {
				operating.Go(func() { answers <- l.Letters.Discard(t.Context(), subscriber, event.ID) })
			}
			require.Never(t, func() bool { return len(answers) > 0 }, soon, soon/4, "it has to wait")
			return nil
		}
		l.redeliver(t, r, events...)
		l.inHandler = nil
		operating.Wait()
		for range events {
			require.ErrorIs(t, <-answers, inbox.ErrNoLetter)
		}
		l.requireEnded(t, events...)
	}
}
