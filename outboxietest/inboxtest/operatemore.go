package inboxtest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// operateBesideLetters checks that the changes of an operator succeed while copies try letters all the time. At each moment at least one letter
// is under way.
func operateBesideLetters(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	o.subscribe(t, "b")
	o.look(t)
	for n, aggregate := range []string{"a", "b", "c"} {
		o.poison(o.retried(t, uint64(n), 1, aggregate)...)
	}
	o.inHandler = func(context.Context, inbox.Tx, outbox.Entry) error {
		time.Sleep(soon)
		return nil
	}
	ctx, stop := context.WithCancel(t.Context())
	var copies sync.WaitGroup
	for range 3 {
		time.Sleep(soon / 3)
		copies.Go(func() {
			for ctx.Err() == nil {
				_, found, _ := o.DeadLetters.Redeliver(ctx, subscriber, careful, o, func(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
					return inbox.Failure{Cause: err, Limit: 1_000_000}, nil
				})
				if !found {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	defer copies.Wait()
	defer stop()
	within, cancel := context.WithTimeout(t.Context(), waitLimit/2)
	defer cancel()
	require.NoError(t, o.Pause(within, subscriber))
	require.NoError(t, o.Resume(within, subscriber))
	time.Sleep(soon)
	_, err := o.Move(within, subscriber, moveBack(inbox.StreamPosition{}), noObjection)
	require.NoError(t, err)
	time.Sleep(soon)
	_, err = o.SetLanes(within, subscriber, 3, noObjection)
	require.NoError(t, err)
	time.Sleep(soon)
	_, err = o.Ignore(within, subscriber, "b")
	require.NoError(t, err)
	time.Sleep(soon)
	require.NoError(t, o.Forget(within, subscriber))
}

func operateIgnore(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	o.subscribe(t, "new's ?0", "b")
	o.look(t)
	waits := o.withoutHandler(t, 3)
	apart := without(newEvent(o.at.Sequence+1, "b"))
	require.Equal(t, []inbox.Result{inbox.SetAside}, o.results(t, apart...))
	_, err := o.Ignore(t.Context(), subscriber, "another")
	require.ErrorIs(t, err, inbox.ErrNotWanted)
	discarded, err := o.Ignore(t.Context(), subscriber, "new's ?0")
	require.NoError(t, err)
	require.Equal(t, 2, discarded)
	require.Equal(t, []string{"b"}, subscriptionOf(t, o.Store, subscriber).Types)
	requireLaneMoved(t, o.apply(t, newEvent(9, "c")), "it was made while the type was wanted")
	for _, event := range []inbox.Event{waits[0], apart[0]} {
		require.False(t, o.requireLetter(t, event, inbox.Discarded).NoHandler)
	}
	o.redeliverAll(t)
	o.requireApplied(t, waits, waits[1:]...)
	o.rewindTo(t, inbox.StreamPosition{})
	require.Equal(t, []inbox.Result{inbox.Duplicate}, o.results(t, waits[:1]...))
	_, err = o.Ignore(t.Context(), subscriber, "new's ?0")
	require.ErrorIs(t, err, inbox.ErrNotWanted)
	o.subscribe(t, "new's ?0")
	require.Equal(t, []string{"b", "new's ?0"}, subscriptionOf(t, o.Store, subscriber).Types)
}

// rewindTo moves the lane back as an operator does.
func (o *operatedSubscriber) rewindTo(t *testing.T, to inbox.StreamPosition) {
	t.Helper()
	_, err := o.Move(t.Context(), subscriber, moveBack(to), noObjection)
	require.NoError(t, err)
	o.look(t)
}

func operateForget(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	o.subscribe(t, "a")
	o.look(t)
	events := o.retried(t, 0, 2, "a")
	applied := newEvent(3, "b")
	require.NoError(t, o.apply(t, applied))
	o.move(t, positionAt(inbox.MarkEvery))
	former := o.at
	require.ErrorIs(t, o.RemoveTombstone(t.Context(), subscriber), inbox.ErrNotForgotten)
	for range 2 {
		require.NoError(t, o.Forget(t.Context(), subscriber))
	}
	standing := subscriptionOf(t, o.Store, subscriber)
	require.WithinDuration(t, time.Now(), standing.Forgotten, time.Minute)
	require.Equal(t, inbox.Subscription{Forgotten: standing.Forgotten}, standing)
	require.Empty(t, lanesOf(t, o.Store, subscriber))
	o.requireMarks(t)
	requireLaneMoved(t, o.apply(t, newEvent(inbox.MarkEvery+1, "b")))
	o.requireNothingDue(t)
	require.ErrorIs(t, o.Checkpoints.Subscribe(t.Context(), subscriber, handlerName, []string{"a"}), inbox.ErrForgotten)
	require.ErrorIs(t, o.Checkpoints.CreateLanes(t.Context(), subscriber, 1, stream, inbox.StreamPosition{}), inbox.ErrForgotten)
	require.ErrorIs(t, o.RemoveTombstone(t.Context(), subscriber), inbox.ErrNotErased)
	for change, err := range o.changes(t.Context(), subscriber) {
		switch change {
		case "forget":
			require.NoError(t, err)
		case "remove tombstone":
			require.ErrorIs(t, err, inbox.ErrNotErased)
		default:
			require.ErrorIs(t, err, inbox.ErrForgotten, change)
		}
	}
	o.erase(t, 100)
	require.NoError(t, o.RemoveTombstone(t.Context(), subscriber))
	require.ErrorIs(t, o.RemoveTombstone(t.Context(), subscriber), inbox.ErrNoSubscriber)
	require.Zero(t, subscriptionOf(t, o.Store, subscriber))
	o.requireCount(t, 1)

	o.begin(t)
	require.Equal(t, inbox.StreamPosition{}, o.at.StreamPosition)
	require.Equal(t, repeat(inbox.Applied, 3), o.results(t, append(events, applied)...), "it is a new subscriber")
	o.requireCount(t, 4)
	require.Greater(t, o.at.Revision, former.Revision, "a copy that was frozen all the time finds no lane as it knows it")
}

// operateForgetLetters checks a subscriber that was forgotten and began again with another handler. A copy of the former subscriber, which was
// frozen all the time, tries no letters of the new subscriber.
func operateForgetLetters(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	o.subscribe(t, "a")
	require.NoError(t, o.Forget(t.Context(), subscriber))
	require.NoError(t, o.RemoveTombstone(t.Context(), subscriber))
	o.at.Lane = 0
	o.begin(t)
	events := o.retried(t, 0, 2, "a")
	require.NoError(t, o.Checkpoints.Subscribe(t.Context(), subscriber, "another", []string{"a"}))
	o.requireNothingDue(t)
	o.requireLetter(t, events[0], inbox.Retrying)
}

// erase erases everything that is left, in pieces, and returns how many pieces there were.
func (o *operatedSubscriber) erase(t *testing.T, limit int) (pieces int) {
	t.Helper()
	for ; ; pieces++ {
		erased, err := o.Erase(t.Context(), subscriber, limit)
		require.NoError(t, err)
		require.LessOrEqual(t, erased, limit)
		if erased == 0 {
			return pieces
		}
	}
}

func operateForgetDuring(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	forgotten := o.during(t, func() error { return o.Forget(t.Context(), subscriber) })
	event := newEvent(1, "a")
	require.NoError(t, o.apply(t, event))
	require.NoError(t, <-forgotten)
	requireLaneMoved(t, o.apply(t, newEvent(2, "a")))
	o.requireApplied(t, []inbox.Event{event}, event)
	o.requireCount(t, 1)
}

func operateErase(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	o.prepare(t, 0, 5, "a")
	require.NoError(t, o.apply(t, newEvents(5, 10, "b")...))
	other := newLetters(LetterStore{o.Store, o.DeadLetters})
	other.subscriber = "another"
	kept := other.begin(t).copyOf()
	event := newEvent(1, "a")
	require.NoError(t, kept.apply(t, event))
	_, err := o.Erase(t.Context(), subscriber, 10)
	require.ErrorIs(t, err, inbox.ErrNotForgotten)
	require.NoError(t, o.Forget(t.Context(), subscriber))
	require.Equal(t, 2+4, o.erase(t, 4), "5 letters, and 15 events")
	kept.requireApplied(t, []inbox.Event{event}, event)
	left, err := o.Letters.Letters(t.Context(), subscriber, 10)
	require.NoError(t, err)
	require.Empty(t, left)
	o.requireCount(t, 10)
}

func (o *operatedSubscriber) overviews(t *testing.T) []inbox.Overview {
	t.Helper()
	overviews, err := o.Overviews(t.Context())
	require.NoError(t, err)
	return overviews
}

func operateOverview(t *testing.T, o *operatedSubscriber) {
	require.Empty(t, o.overviews(t))
	o.begin(t)
	require.NoError(t, o.Checkpoints.RemoveCopy(t.Context(), subscriber, "reader"))
	require.Empty(t, o.overviews(t)[0].Copies)
	o.subscribe(t, "b", "a")
	o.look(t)
	began := time.Now()
	o.prepare(t, 0, 3, "a")
	require.NoError(t, o.apply(t, newEvents(3, 20, "b")...))
	require.NoError(t, o.Pause(t.Context(), subscriber))
	require.NoError(t, o.Checkpoints.Subscribe(t.Context(), "another", "handler", nil))
	require.NoError(t, o.Checkpoints.CreateLanes(t.Context(), "Third", 3, stream, positionAt(7)))
	require.NoError(t, o.Forget(t.Context(), "Third"))
	time.Sleep(soon)

	overviews := o.overviews(t)
	names := make([]string, len(overviews))
	for i, seen := range overviews {
		names[i] = seen.Subscriber
	}
	require.Equal(t, []string{"Third", "another", subscriber}, names)
	require.False(t, overviews[0].Forgotten.IsZero())
	require.Empty(t, overviews[0].Lanes)
	require.Equal(t, inbox.Overview{Subscriber: "another", Subscription: inbox.Subscription{Handler: "handler"}}, withoutEmpty(overviews[1]))
	seen := overviews[2]
	require.Equal(t, inbox.Subscription{Handler: handlerName, Types: []string{"a", "b"}, Paused: true}, seen.Subscription)
	require.GreaterOrEqual(t, seen.PausedFor, soon)
	require.Less(t, seen.PausedFor, time.Minute)
	require.Equal(t, []string{"reader"}, seen.Copies)
	require.Len(t, seen.Lanes, 1)
	require.Equal(t, positionAt(23), seen.Lanes[0].StreamPosition)
	require.GreaterOrEqual(t, seen.Lanes[0].Idle, soon)
	require.Equal(t, []int{1, 2}, []int{seen.Dead, seen.Waiting})
	require.WithinRange(t, seen.Applied, began.Add(-time.Second), time.Now().Add(time.Second))
	if time.Since(began) < inbox.RateWindow/2 {
		require.InDelta(t, 20/inbox.RateWindow.Seconds(), seen.Rate, 1e-9)
	}
}

// withoutEmpty makes empty slices nil.
func withoutEmpty(seen inbox.Overview) inbox.Overview {
	seen.Types = slices.Clip(append([]string(nil), seen.Types...))
	seen.Copies, seen.Lanes = append([]string(nil), seen.Copies...), append([]inbox.Checkpoint(nil), seen.Lanes...)
	return seen
}

func operateApart(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	require.NoError(t, o.Checkpoints.CreateLanes(t.Context(), "another", 2, stream, positionAt(7)))
	require.NoError(t, o.Checkpoints.Subscribe(t.Context(), "another", "handler", []string{"a"}))
	for change, err := range o.changes(t.Context(), "another") {
		require.NoError(t, err, change)
	}
	require.NoError(t, o.apply(t, newEvent(1, "a")))
}

func operateOutage(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	o.Disconnect(t)
	_, viewing := o.Overviews(t.Context())
	_, erasing := o.Erase(t.Context(), subscriber, 1)
	for change, err := range o.changes(t.Context(), subscriber) {
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%s: %v", change, err)
	}
	require.Equal(t, fault.Unavailable, fault.KindOf(viewing))
	require.Equal(t, fault.Unavailable, fault.KindOf(erasing))
	o.Reconnect(t)
	o.requireAsKnown(t)
}

// operateTogether checks that operators may make different changes at the same time, while a copy applies events.
func operateTogether(t *testing.T, o *operatedSubscriber) {
	o.begin(t)
	o.subscribe(t, "a")
	var operators sync.WaitGroup
	for n := range 4 {
		operators.Go(func() {
			for range 5 {
				errs := []error{o.Pause(t.Context(), subscriber), o.Resume(t.Context(), subscriber)}
				_, err := o.SetLanes(t.Context(), subscriber, 1+n%2, noObjection)
				errs = append(errs, err)
				_, err = o.Move(t.Context(), subscriber, moveBack(positionAt(2)), noObjection)
				for _, err := range append(errs, err) {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		operators.Wait()
	}()
	events := newEvents(0, 200, "a")
	for n := 0; ; n++ {
		select {
		case <-done:
			lanes := lanesOf(t, o.Store, subscriber)
			require.Len(t, lanes, lanes[0].Lanes)
			var applied int64
			for _, event := range events {
				applied += int64(len(o.WasApplied(t, subscriber, event.ID)))
			}
			o.requireCount(t, applied)
			return
		default:
			o.at.Lane = 0
			at := min(int(o.look(t).at.Sequence)+1, len(events))
			_ = o.apply(t, events[at-1])
		}
	}
}
