package subscribing_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// newType is the type that a newer program knows.
const newType = "outboxie.test.happened.v2"

// handling returns the handler of a program that has handlers for these types.
func (s *service) handling(name string, types ...string) inbox.Handler {
	functions := make(map[string]inbox.HandlerFunc)
	for _, eventType := range types {
		functions[eventType] = copyHandler{s, name}.Handle
	}
	return subscribing.NewHandler("test", functions, copyHandler{s, name}.Applied)
}

// publishTypes appends events of the given types, in order, to the aggregates in turn, and returns them.
func (s *service) publishTypes(versions map[string]int64, aggregates int, types ...string) []outbox.Entry {
	s.t.Helper()
	entries := relaytest.NewEntries(outbox.Position(s.stream.LastSequence()), len(types))
	for i := range entries {
		key := fmt.Sprint("thing-", i%aggregates)
		versions[key]++
		entries[i].Key.ID, entries[i].Version, entries[i].Type = key, versions[key], types[i]
	}
	_, err := s.stream.Publish(s.t.Context(), s.stream.LastSequence(), entries)
	require.NoError(s.t, err)
	return entries
}

// appliedOf returns how many of the events took effect.
func (s *service) appliedOf(entries []outbox.Entry) (count int) {
	for _, entry := range entries {
		if s.inbox.Applied(subscriber, entry.ID) {
			count++
		}
	}
	return count
}

// requireInOrder requires that each event took effect once, and that the events of each aggregate took effect in order.
func (s *service) requireInOrder() {
	s.t.Helper()
	last := make(map[string]int64)
	seen := make(map[string]bool)
	for _, entry := range s.inbox.History(subscriber) {
		require.False(s.t, seen[entry.ID], "%s took effect twice", entry.ID)
		require.Greater(s.t, entry.Version, last[entry.Key.ID], "of %s", entry.Key)
		seen[entry.ID], last[entry.Key.ID] = true, entry.Version
	}
}

// TestRollingDeploymentWithANewType checks that events of a new type wait for a program that knows the type, hold up only their aggregates,
// and all take effect in order. It deploys such a program beside the one that does not know the type, takes it back, and deploys it again.
func TestRollingDeploymentWithANewType(t *testing.T) {
	inFakeTime(t, subscribing.Options{Lanes: 3, Transactions: 3}, func(t *testing.T, s *service) {
		old, versions := relaytest.EventType, make(map[string]int64)
		before := func(name string) func() { return s.startHandling(name, s.handling(name, old)) }
		after := func(name string) func() { return s.startHandling(name, s.handling(name, old, newType)) }
		stopA, stopB := before("a"), before("b")
		pass(time.Second)
		first := s.publishTypes(versions, 10, slices.Repeat([]string{old}, 100)...)
		pass(time.Second)
		require.Equal(t, len(first), s.appliedOf(first))

		// Forward, one copy after the other, while orders come in.
		stopC := after("c")
		pass(time.Second)
		mixed := slices.Repeat([]string{old, newType, old, old, old}, 20) // two of ten aggregates get events of the new type
		during := s.publishTypes(versions, 10, mixed...)
		pass(5 * time.Second)
		require.Equal(t, len(during), s.appliedOf(during))
		stopA()
		stopB()
		pass(5 * time.Second)

		// Back: only programs that do not know the type.
		stopD := before("d")
		stopC()
		pass(5 * time.Second)
		held := s.publishTypes(versions, 10, mixed...)
		pass(5 * time.Second)
		for _, entry := range held {
			blocked := entry.Key.ID == "thing-1" || entry.Key.ID == "thing-6"
			require.Equal(t, !blocked, s.inbox.Applied(subscriber, entry.ID), "%s of %s", entry.Type, entry.Key)
		}
		dead, err := s.inbox.CountDead(t.Context(), subscriber)
		require.NoError(t, err)
		require.Equal(t, 2, dead, "one of each aggregate waits for the program, and the rest behind it")

		// Forward again.
		stopE := after("e")
		pass(5 * time.Second)
		require.Equal(t, len(held), s.appliedOf(held))
		letters, err := s.inbox.Letters(t.Context(), subscriber, 10)
		require.NoError(t, err)
		require.Empty(t, letters)
		s.requireInOrder()
		stopD()
		stopE()
		s.running.Wait()
	})
}

// TestOtherTypesArePassedOver checks that events of unwanted types leave no trace, and that each of them is counted once.
func TestOtherTypesArePassedOver(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		counted := &passing{UnitOfWork: s.inbox}
		s.work = counted
		versions := make(map[string]int64)
		stop := s.start("a")
		pass(time.Second)
		types := slices.Repeat([]string{newType, newType, relaytest.EventType}, 1000)
		entries := s.publishTypes(versions, 7, append(types, newType, newType)...)
		pass(5 * time.Second)
		require.Equal(t, 1000, s.count())
		require.Equal(t, 1000, s.appliedOf(entries))
		require.Equal(t, 2002, counted.total())
		letters, err := s.inbox.Letters(t.Context(), subscriber, 10)
		require.NoError(t, err)
		require.Empty(t, letters)
		view, err := s.inbox.Heartbeat(t.Context(), subscriber, "a")
		require.NoError(t, err)
		require.Equal(t, s.stream.LastSequence(), view.Lanes[0].Sequence)
		stop()
		s.running.Wait()
	})
}

// passing counts events that were passed over.
type passing struct {
	inbox.UnitOfWork
	mu     sync.Mutex
	passed int
}

func (p *passing) Apply(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	outcome, err := p.UnitOfWork.Apply(ctx, subscriber, batch, handler, judge)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.passed += batch.PassedOver
	}
	return outcome, err
}

func (p *passing) total() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed
}

// operatorView changes what Heartbeat returns to a copy, as if operators had changed the subscriber.
type operatorView struct {
	inbox.Checkpoints
	mu      sync.Mutex
	decided func(view *inbox.View)
}

func (s *operatorView) Heartbeat(ctx context.Context, subscriber, instance string) (inbox.View, error) {
	view, err := s.Checkpoints.Heartbeat(ctx, subscriber, instance)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decided != nil {
		s.decided(&view)
	}
	return view, err
}

func (s *operatorView) decide(decided func(view *inbox.View)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decided = decided
}

// TestCopiesRestWhilePaused checks that a copy of a paused subscriber handles no event and no letter, reports the pause, and goes on
// afterwards.
func TestCopiesRestWhilePaused(t *testing.T) {
	inFakeTime(t, subscribing.Options{MinBackoff: time.Second}, func(t *testing.T, s *service) {
		shown := &operatorView{Checkpoints: s.inbox}
		fails := true
		s.handle = func(context.Context, outbox.Entry) error {
			if fails {
				return errPoison
			}
			return nil
		}
		running, stop := s.run("a", s.handling("a", relaytest.EventType), shown)
		s.publish(1)
		pass(500 * time.Millisecond)
		shown.decide(func(view *inbox.View) { view.Paused = true })
		pass(400 * time.Millisecond)
		fails = false
		s.publish(10)
		pass(time.Minute)
		require.Zero(t, s.count())
		require.Contains(t, running.Trouble(), "paused")
		shown.decide(nil)
		pass(3 * time.Second)
		require.Equal(t, 11, s.count())
		require.Empty(t, running.Trouble())
		stop()
		require.NoError(t, <-s.ended)
	})
}

// TestRunEndsForAPersonToDecide checks that Run ends if a person must decide: the subscriber is forgotten, it has another handler, or the
// program does not have its handler.
func TestRunEndsForAPersonToDecide(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		shown := &operatorView{Checkpoints: s.inbox}
		_, _ = s.run("a", s.handling("a", relaytest.EventType), shown)
		pass(time.Second)
		shown.decide(func(view *inbox.View) { view.Forgotten = time.Now() })
		require.ErrorIs(t, <-s.ended, inbox.ErrForgotten)

		other := subscribing.NewHandler("another", nil, nil)
		_, _ = s.run("b", other, s.inbox)
		require.ErrorIs(t, <-s.ended, inbox.ErrOtherHandler)

		missing := errors.New("no such handler")
		var asked []string
		copied := subscribing.New(subscriber, "c", subscribing.Ports{Checkpoints: s.inbox, Handlers: func(name string) (inbox.Handler, error) {
			asked = append(asked, name)
			return nil, missing
		}}, s.opts, quiet)
		require.Equal(t, missing, copied.Run(t.Context()))
		require.Equal(t, []string{"test"}, asked, "without a setting the subscriber's own is taken")
		s.opts.Handler = "given"
		copied = subscribing.New(subscriber, "d", subscribing.Ports{Checkpoints: s.inbox, Handlers: func(name string) (inbox.Handler, error) {
			asked = append(asked, name)
			return nil, missing
		}}, s.opts, quiet)
		require.Equal(t, missing, copied.Run(t.Context()))
		require.Equal(t, []string{"test", "given"}, asked)
	})
}
