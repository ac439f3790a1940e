package subscribing_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

const callTime = idleTimeout * 2 / 5

// call is one call of an external handler.
type call struct {
	entry        outbox.Entry
	began, ended time.Duration // since the test began
}

// callRecorder is an external handler that records its calls.
type callRecorder struct {
	copyHandler
	calls *calls
}

type calls struct {
	mu  sync.Mutex
	all []call
}

func (callRecorder) External() bool { return true }

func (c callRecorder) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	began := time.Since(c.began)
	err := c.copyHandler.Handle(ctx, tx, entry)
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	c.calls.all = append(c.calls.all, call{entry, began, time.Since(c.began)})
	return err
}

// of returns the calls for an event.
func (c *calls) of(entry outbox.Entry) (found []call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, made := range c.all {
		if made.entry.ID == entry.ID {
			found = append(found, made)
		}
	}
	return found
}

// requireFirstCallsInOrder requires that the first calls for the events of each aggregate are in order, and that no event is left out.
func (c *calls) requireFirstCallsInOrder(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, last := make(map[string]bool), make(map[outbox.Key]int64)
	for _, made := range c.all {
		if !seen[made.entry.ID] {
			seen[made.entry.ID] = true
			require.Equal(t, last[made.entry.Key]+1, made.entry.Version, "%s", made.entry.Key)
			last[made.entry.Key]++
		}
	}
}

// publishTo appends count events of the given number of aggregates, in turn.
func (s *service) publishTo(aggregates, count int) []outbox.Entry {
	s.t.Helper()
	entries := relaytest.NewEntries(outbox.Position(s.stream.LastSequence()), count)
	for i := range entries {
		entries[i].Key.ID, entries[i].Version = fmt.Sprint("thing-", i%aggregates), int64(i/aggregates)+1
	}
	_, err := s.stream.Publish(s.t.Context(), s.stream.LastSequence(), entries)
	require.NoError(s.t, err)
	return entries
}

// inCalls runs a test on a subscriber with an external handler.
func inCalls(t *testing.T, opts subscribing.Options, test func(t *testing.T, s *service, start func(name string) (kill func()), made *calls)) {
	t.Helper()
	opts.CallTime = callTime
	inFakeTime(t, opts, func(t *testing.T, s *service) {
		made := &calls{}
		test(t, s, func(name string) func() { return s.startHandling(name, callRecorder{copyHandler{s, name}, made}) }, made)
	})
}

// TestExternalHandlerGetsOneEventATransaction checks that no transaction has two events, that lanes call at the same time, and that the
// calls of an aggregate are in order, also the calls for letters.
func TestExternalHandlerGetsOneEventATransaction(t *testing.T) {
	inCalls(t, subscribing.Options{Lanes: 8, Transactions: 8}, func(t *testing.T, s *service, start func(string) func(), made *calls) {
		s.work = counting{s.inbox, t}
		s.handle = func(ctx context.Context, entry outbox.Entry) error {
			sleep(ctx, 100*time.Millisecond)
			if entry.Position%17 == 0 && time.Since(s.began) < 5*time.Second {
				return errors.New("not yet")
			}
			return nil
		}
		stops := []func(){start("a"), start("b")}
		s.publishTo(40, 400)
		pass(12 * time.Second) // without parallel calls this would take 40 s
		require.Less(t, 350, s.count())
		pass(time.Minute)
		require.Equal(t, 400, s.count())
		made.requireFirstCallsInOrder(t)
		for _, stop := range stops {
			stop()
		}
		s.running.Wait()
	})
}

// counting fails the test when a transaction has several events.
type counting struct {
	inbox.UnitOfWork
	t *testing.T
}

func (c counting) Apply(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	if len(batch.Events) > 1 {
		c.t.Errorf("a transaction has %d events", len(batch.Events))
	}
	return c.UnitOfWork.Apply(ctx, subscriber, batch, handler, judge)
}

// TestHungCallHoldsItsAggregateOnly checks that a call which never ends is given up after CallTime, and that its event is tried again as a
// letter with the same bound. Meanwhile the handler is not called for later events of the aggregate. It is called for events of other
// aggregates, in the same lane too.
func TestHungCallHoldsItsAggregateOnly(t *testing.T) {
	inCalls(t, subscribing.Options{MaxAttempts: 4, Transactions: 4}, func(t *testing.T, s *service, start func(string) func(), made *calls) {
		s.handle = func(ctx context.Context, entry outbox.Entry) error {
			if entry.Key.ID == "thing-0" && entry.Version == 1 && time.Since(s.began) < time.Minute {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		entries := s.publishTo(3, 9)
		stop := start("a")
		pass(callTime + time.Second)
		require.Equal(t, 6, s.count(), "those of the other aggregates")
		pass(30 * time.Second)
		require.Equal(t, 6, s.count())
		hung := made.of(entries[0])
		require.Len(t, hung, 4)
		for _, made := range hung {
			require.Equal(t, callTime, made.ended-made.began)
		}
		require.Empty(t, made.of(entries[3]), "it waits before the call")
		letter, err := s.inbox.Letter(t.Context(), subscriber, entries[0].ID)
		require.NoError(t, err)
		require.Equal(t, inbox.Dead, letter.State)
		require.Contains(t, letter.Error, context.DeadlineExceeded.Error())

		pass(time.Minute)
		require.NoError(t, s.inbox.Retry(t.Context(), subscriber, entries[0].ID))
		pass(2 * time.Second)
		require.Equal(t, 9, s.count())
		made.requireFirstCallsInOrder(t)
		stop()
		s.running.Wait()
	})
}

// TestLateCallIsNotMade checks that the handler is not called if the transaction is older than CallTime. A process that was frozen before
// the call might otherwise call after another copy has called for the next event. This is checked for a lane and for a letter. Neither
// counts as a failure.
func TestLateCallIsNotMade(t *testing.T) {
	inCalls(t, subscribing.Options{}, func(t *testing.T, s *service, start func(string) func(), made *calls) {
		var mu sync.Mutex
		frozen := map[string]time.Duration{"handle": callTime}
		s.inbox.OnStep = func(ctx context.Context, step string) {
			mu.Lock()
			wait := frozen[step]
			mu.Unlock()
			sleep(ctx, wait)
		}
		entries := s.publishTo(1, 1)
		stop := start("a")
		pass(10 * time.Second)
		require.Empty(t, made.all)
		_, err := s.inbox.Letter(t.Context(), subscriber, entries[0].ID)
		require.ErrorIs(t, err, inbox.ErrNoLetter, "nothing is known about the event")

		s.handle = func(context.Context, outbox.Entry) error {
			mu.Lock()
			defer mu.Unlock()
			frozen["handle"] = callTime
			return errors.New("not yet")
		}
		mu.Lock()
		frozen["handle"] = callTime - time.Millisecond
		mu.Unlock()
		pass(20 * time.Second)
		require.Len(t, made.all, 1, "the letter is not called for")
		letter, err := s.inbox.Letter(t.Context(), subscriber, entries[0].ID)
		require.NoError(t, err)
		require.Equal(t, inbox.Retrying, letter.State)
		require.Equal(t, 1, letter.Attempts)

		s.handle = func(context.Context, outbox.Entry) error { return nil }
		mu.Lock()
		clear(frozen)
		mu.Unlock()
		pass(5 * time.Second)
		require.Equal(t, 1, s.count())
		stop()
		s.running.Wait()
	})
}

// TestOutageOfAnExternalHandlerHoldsTheLane checks that a declared outage leaves no letter.
func TestOutageOfAnExternalHandlerHoldsTheLane(t *testing.T) {
	inCalls(t, subscribing.Options{}, func(t *testing.T, s *service, start func(string) func(), made *calls) {
		s.handle = func(context.Context, outbox.Entry) error {
			if time.Since(s.began) < time.Minute {
				return errLine
			}
			return nil
		}
		s.publishTo(2, 10)
		stop := start("a")
		pass(time.Minute)
		require.Zero(t, s.count())
		pass(2 * time.Second)
		require.Equal(t, 10, s.count())
		made.requireFirstCallsInOrder(t)
		letters, err := s.inbox.Letters(t.Context(), subscriber, 10)
		require.NoError(t, err)
		require.Empty(t, letters)
		stop()
		s.running.Wait()
	})
}

// TestFrozenCopyDoesNotCallBeforeTheOthers checks that the first calls are in order although three copies work on one lane. Each copy
// freezes now and then for longer than the idle timeout, before a call or during a call.
func TestFrozenCopyDoesNotCallBeforeTheOthers(t *testing.T) {
	inCalls(t, subscribing.Options{}, func(t *testing.T, s *service, start func(string) func(), made *calls) {
		var mu sync.Mutex
		steps := 0
		s.inbox.OnStep = func(ctx context.Context, _ string) {
			mu.Lock()
			steps++
			freezes := steps%37 == 0
			mu.Unlock()
			if freezes {
				sleep(ctx, 2*idleTimeout)
			}
		}
		s.handle = func(ctx context.Context, entry outbox.Entry) error {
			if entry.Position%11 == 0 {
				sleep(ctx, callTime)
			}
			return ctx.Err()
		}
		stops := []func(){start("a"), start("b"), start("c")}
		s.publishTo(5, 100)
		pass(5 * time.Minute)
		require.Equal(t, 100, s.count())
		made.requireFirstCallsInOrder(t)
		for _, stop := range stops {
			stop()
		}
		s.running.Wait()
	})
}

// TestEmittedEventsWakeTheRelay checks that a transaction wakes the relay only if it has appended events, in a lane or for a letter.
func TestEmittedEventsWakeTheRelay(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		log, notifier := memory.NewLog(), memory.NewNotifier()
		s.inbox.UseLog(log)
		s.notifier = notifier
		emits, emitter := false, memory.NewEmitter()
		s.inTx = func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
			if entry.Position == 2 && time.Since(s.began) < 10*time.Second {
				return errors.New("not yet")
			}
			if !emits {
				return nil
			}
			message := relaytest.NewMessage("follower of "+entry.ID, 1)
			return emitter.Emit(ctx, tx, entry, message)
		}
		rung := func() bool {
			select {
			case <-notifier.Notifications():
				return true
			default:
				return false
			}
		}
		stop := s.start("a")
		s.publish(1)
		pass(time.Second)
		require.Equal(t, 1, s.count())
		require.False(t, rung())
		emits = true
		s.publish(1)
		pass(time.Second)
		require.False(t, rung(), "it is a letter")
		s.publish(1)
		pass(time.Second)
		require.True(t, rung())
		require.Len(t, log.Readable(), 1)
		pass(20 * time.Second)
		require.True(t, rung(), "the letter was applied")
		require.Len(t, log.Readable(), 2)
		stop()
		s.running.Wait()
	})
}

// TestPauseEndsTheCallsOfManyLanes checks an operator who pauses a subscriber of many lanes whose calls all hang. Pause waits only for the
// calls under way, not for one call of each lane after the other. No call is made afterwards.
func TestPauseEndsTheCallsOfManyLanes(t *testing.T) {
	inCalls(t, subscribing.Options{Lanes: 32, Transactions: 32}, func(t *testing.T, s *service, start func(string) func(), made *calls) {
		s.handle = func(ctx context.Context, _ outbox.Entry) error {
			<-ctx.Done()
			return ctx.Err()
		}
		s.publish(1000)
		stops := []func(){start("a"), start("b")}
		pass(5 * callTime / 2)
		operator := memory.NewOperator(s.inbox)
		began := time.Since(s.began)
		require.NoError(t, operator.Pause(t.Context(), subscriber))
		require.LessOrEqual(t, time.Since(s.began)-began, 3*callTime)
		made.mu.Lock()
		calls := len(made.all)
		made.mu.Unlock()
		pass(time.Minute)
		require.Len(t, made.all, calls)
		require.NoError(t, operator.Resume(t.Context(), subscriber))
		pass(5 * callTime / 2)
		require.Less(t, calls, len(made.all))
		for _, stop := range stops {
			stop()
		}
		s.running.Wait()
	})
}
