package inboxtest

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

func applyOnceOfTwo(t *testing.T, l *lane) {
	l.begin(t)
	for round := range 10 {
		events := newEvents(l.at.Sequence, 3, "a", "b")
		winners := make(chan *lane, 12)
		var copies sync.WaitGroup
		for range cap(winners) {
			other := l.copyOf()
			copies.Go(func() {
				if _, err := other.try(t.Context(), events...); err == nil {
					winners <- other
				} else if fault.KindOf(err) != fault.Conflict {
					t.Error(err)
				}
			})
		}
		copies.Wait()
		require.Len(t, winners, 1)
		stale := l.copyOf()
		l.at = (<-winners).at
		requireLaneMoved(t, stale.apply(t, events...))
		require.Empty(t, stale.handled)
		l.requireAsKnown(t)
		l.requireCount(t, int64(3*(round+1)))
	}
}

func applyStale(t *testing.T, l *lane) {
	l.begin(t).move(t, positionAt(5))
	event := newEvent(6, "a")
	exact := l.at
	for name, stale := range staleCheckpoints(exact) {
		l.at = stale
		requireLaneMoved(t, l.apply(t, event), name)
	}
	l.at, l.subscriber = exact, "another"
	requireLaneMoved(t, l.apply(t, event))
	l.subscriber = subscriber
	require.Empty(t, l.handled)
	l.requireNothingKept(t, event)
}

func applyBackAndForth(t *testing.T, l *lane) {
	l.begin(t).move(t, positionAt(5))
	stale := l.copyOf()
	l.rewind(t, positionAt(2))
	l.move(t, positionAt(5))
	require.Equal(t, stale.at.StreamPosition, l.at.StreamPosition)
	requireLaneMoved(t, stale.apply(t, newEvent(6, "a")))
	require.NoError(t, l.apply(t, newEvent(6, "a")))
}

func applyBusy(t *testing.T, l *lane) {
	l.begin(t)
	event := newEvent(1, "a")
	l.inHandler = func(context.Context, inbox.Tx, outbox.Entry) error {
		other := l.copyOf()
		begun := time.Now()
		requireLaneMoved(t, other.apply(t, event))
		_, err := l.Checkpoints.Rewind(t.Context(), subscriber, l.at, stream, inbox.StreamPosition{})
		requireLaneMoved(t, err)
		require.Less(t, time.Since(begun), 2*time.Second, "it does not wait")
		require.Empty(t, other.handled)
		l.requireAsKnown(t) // nobody sees the move before the commit
		l.requireCount(t, 0)
		return nil
	}
	require.Equal(t, []inbox.Result{inbox.Applied}, l.results(t, event))
}

func applyLanes(t *testing.T, l *lane) {
	const lanes = 4
	require.NoError(t, l.Checkpoints.CreateLanes(t.Context(), subscriber, lanes, stream, inbox.StreamPosition{}))
	var arrived, all sync.WaitGroup
	arrived.Add(lanes)
	for number := range lanes {
		other := l.copyOf()
		other.at.Lane = number
		other.look(t)
		other.inHandler = func(context.Context, inbox.Tx, outbox.Entry) error {
			arrived.Done()
			arrived.Wait()
			return nil
		}
		all.Go(func() {
			if _, err := other.try(t.Context(), newEvent(1, "a")); err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(waitLimit):
		require.Fail(t, "lanes wait for each other")
	}
	l.requireCount(t, lanes)
}

// race is a stream that several copies apply.
type race struct {
	lanes  int
	events []inbox.Event

	mu   sync.Mutex
	done []applied
}

// applied has the events that one transaction applied.
type applied struct {
	revision int64 // of its lane afterwards
	ids      []string
}

// applyRaces checks that each event takes effect once, in order, while several copies work on lanes at random. Their checkpoints may be stale,
// they rewind lanes, and their handlers fail.
func applyRaces(t *testing.T, l *lane) {
	const copies, lanes, n = 6, 3, 200
	r := &race{lanes: lanes, events: newEvents(0, n, "a", "b", "c", "d", "e", "f", "g", "h")}
	require.NoError(t, l.Checkpoints.CreateLanes(t.Context(), subscriber, lanes, stream, inbox.StreamPosition{}))
	var all sync.WaitGroup
	for number := range copies {
		other := l.copyOf()
		all.Go(func() { r.run(t, other, rand.New(rand.NewPCG(1, uint64(number)))) }) //nolint:gosec // repeatable
	}
	all.Wait()
	l.requireCount(t, n)
	l.requireApplied(t, r.events, r.events...)
	slices.SortFunc(r.done, func(a, b applied) int { return cmp.Compare(a.revision, b.revision) })
	got := make(map[string][]string)
	want := make(map[string][]string)
	aggregates := make(map[string]string)
	for _, event := range r.events {
		aggregates[event.ID] = event.Key.ID
		want[event.Key.ID] = append(want[event.Key.ID], event.ID)
	}
	for _, transaction := range r.done {
		for _, id := range transaction.ids {
			got[aggregates[id]] = append(got[aggregates[id]], id)
		}
	}
	require.Equal(t, want, got)
}

// run runs one copy. It returns when all lanes are at the end of the stream.
func (r *race) run(t *testing.T, l *lane, random *rand.Rand) {
	for {
		view, err := l.Checkpoints.Heartbeat(t.Context(), subscriber, "copy")
		if err != nil {
			t.Error(err)
			return
		}
		if !slices.ContainsFunc(view.Lanes, func(c inbox.Checkpoint) bool { return c.Sequence < uint64(len(r.events)) }) {
			return
		}
		l.at = view.Lanes[random.IntN(r.lanes)]
		if random.IntN(20) == 0 {
			_, err = l.Checkpoints.Rewind(t.Context(), subscriber, l.at, stream, positionAt(l.at.Sequence/2))
		} else {
			err = r.step(t.Context(), l, random.IntN(10) == 0)
		}
		if err != nil && fault.KindOf(err) != fault.Conflict && !errors.Is(err, errHandler) {
			t.Error(err)
			return
		}
	}
}

// step applies the next events of the lane, at most four.
func (r *race) step(ctx context.Context, l *lane, fail bool) error {
	batch := inbox.Batch{From: l.at, To: l.at.StreamPosition}
	for _, event := range r.events[l.at.Sequence:] {
		if len(batch.Events) == 4 {
			break
		}
		batch.To = positionAt(event.Sequence)
		if inbox.LaneOf(event.Key, r.lanes) == l.at.Lane {
			batch.Events = append(batch.Events, event)
		}
	}
	clear(l.failing)
	if fail && len(batch.Events) > 0 {
		l.failing[batch.Events[len(batch.Events)-1].ID] = errHandler
	}
	outcome, err := l.UnitOfWork.Apply(ctx, subscriber, batch, l, deadAtFirstFailure)
	if err != nil {
		return err
	}
	transaction := applied{revision: outcome.Checkpoint.Revision}
	for i, result := range outcome.Results {
		if result == inbox.Applied {
			transaction.ids = append(transaction.ids, batch.Events[i].ID)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = append(r.done, transaction)
	return nil
}
