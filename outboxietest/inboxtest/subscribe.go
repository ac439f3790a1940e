package inboxtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// subscriptionOf returns the subscription of a subscriber.
func subscriptionOf(t *testing.T, s Store, subscriber string) inbox.Subscription {
	t.Helper()
	view, err := s.Checkpoints.Heartbeat(t.Context(), subscriber, "reader")
	require.NoError(t, err)
	return view.Subscription
}

func (l *lane) subscribe(t *testing.T, types ...string) {
	t.Helper()
	require.NoError(t, l.Checkpoints.Subscribe(t.Context(), l.subscriber, handlerName, types))
}

func checkpointsSubscribe(t *testing.T, s Store) {
	require.Zero(t, subscriptionOf(t, s, subscriber))
	l := newLane(s)
	l.subscribe(t, "b", "a's ?0", "B")
	want := inbox.Subscription{Handler: handlerName, Types: []string{"B", "a's ?0", "b"}}
	require.Equal(t, want, subscriptionOf(t, s, subscriber))
	require.NoError(t, s.Checkpoints.CreateLanes(t.Context(), subscriber, 3, stream, positionAt(7)))
	begun := lanesOf(t, s, subscriber)
	l.subscribe(t, "b", "B")
	l.subscribe(t)
	require.Equal(t, want, subscriptionOf(t, s, subscriber))
	require.Equal(t, begun, lanesOf(t, s, subscriber), "nothing was added")

	l.subscribe(t, "c", "b")
	want.Types = append(want.Types, "c")
	require.Equal(t, want, subscriptionOf(t, s, subscriber))
	for i, lane := range lanesOf(t, s, subscriber) {
		require.Greater(t, lane.Revision, begun[i].Revision)
		lane.Revision = begun[i].Revision
		require.Equal(t, begun[i], lane)
	}
	require.Zero(t, subscriptionOf(t, s, "another"))
}

// checkpointsSubscribeLate checks a subscriber that began without types, as in an earlier version of the program.
func checkpointsSubscribeLate(t *testing.T, s Store) {
	l := newLane(s).begin(t)
	require.Zero(t, subscriptionOf(t, s, subscriber))
	l.subscribe(t, "a")
	require.Equal(t, inbox.Subscription{Handler: handlerName, Types: []string{"a"}}, subscriptionOf(t, s, subscriber))
	requireLaneMoved(t, l.apply(t, newEvent(1, "a")), "it was made before the type was added")
	require.NoError(t, l.look(t).apply(t, newEvent(1, "a")))
}

func checkpointsOtherHandler(t *testing.T, s Store) {
	l := newLane(s).begin(t)
	l.subscribe(t, "a")
	standing, lanes := subscriptionOf(t, s, subscriber), lanesOf(t, s, subscriber)
	for _, types := range [][]string{nil, {"a"}, {"a", "b"}} {
		err := s.Checkpoints.Subscribe(t.Context(), subscriber, "another", types)
		require.ErrorIs(t, err, inbox.ErrOtherHandler)
		require.ErrorContains(t, err, handlerName)
	}
	require.Equal(t, standing, subscriptionOf(t, s, subscriber))
	require.Equal(t, lanes, lanesOf(t, s, subscriber))
}

// checkpointsSubscribeDuring checks that adding a type waits for the batch under way. That batch commits. The next batch, which was made before
// the type was added, does not commit.
func checkpointsSubscribeDuring(t *testing.T, s Store) {
	l := newLane(s).begin(t)
	l.subscribe(t, "a")
	l.look(t)
	added := make(chan error, 1)
	l.inHandler = func(context.Context, inbox.Tx, outbox.Entry) error {
		l.subscribe(t, "a") // changes nothing, and waits for nobody
		go func() { added <- s.Checkpoints.Subscribe(t.Context(), subscriber, handlerName, []string{"b"}) }()
		select {
		case err := <-added:
			t.Errorf("it did not wait for the batch: %v", err)
		case <-time.After(soon):
		}
		return nil
	}
	require.NoError(t, l.apply(t, newEvent(1, "a")))
	require.NoError(t, <-added)
	l.inHandler = nil
	requireLaneMoved(t, l.apply(t, newEvent(2, "a")))
	require.NoError(t, l.look(t).apply(t, newEvent(2, "a")))
	l.requireCount(t, 2)
}

func checkpointsSubscribeTogether(t *testing.T, s Store) {
	newLane(s).begin(t)
	var want []string
	var copies sync.WaitGroup
	for i := range 12 {
		types := []string{fmt.Sprintf("type-%02d", i), fmt.Sprintf("type-%02d", (i+5)%12)}
		want = append(want, types[0])
		if i%2 == 0 {
			slices.Reverse(types)
		}
		copies.Go(func() {
			if err := s.Checkpoints.Subscribe(t.Context(), subscriber, "handler", types); err != nil {
				t.Error(err)
			}
		})
	}
	copies.Wait()
	require.Equal(t, inbox.Subscription{Handler: "handler", Types: want}, subscriptionOf(t, s, subscriber))
}
