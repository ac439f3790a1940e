package subscribing_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TestKilledCopyIsFollowed checks that other copies go on with the events of a killed copy within a second, although the killed copy still
// counts as present.
func TestKilledCopyIsFollowed(t *testing.T) {
	inFakeTime(t, subscribing.Options{Lanes: 4}, func(t *testing.T, s *service) {
		kill, stop := s.start("a"), s.start("b")
		s.publish(100)
		pass(2 * time.Second)
		require.Equal(t, 100, s.count())
		kill()
		killed := time.Since(s.began)
		late := s.publish(100)
		pass(10 * time.Second)
		require.Equal(t, 200, s.count())
		for _, entry := range late {
			require.LessOrEqual(t, s.applied[entry.ID]-killed, time.Second)
		}
		stop()
		s.running.Wait()
	})
}

// TestFrozenCopyIsFollowed checks a copy that freezes in the middle of a transaction. Another copy goes on with its lane within a second
// after the idle timeout.
func TestFrozenCopyIsFollowed(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		var frozen atomic.Bool
		s.handle = func(context.Context, outbox.Entry) error {
			if frozen.CompareAndSwap(false, true) {
				time.Sleep(time.Hour)
			}
			return nil
		}
		stopA, stopB := s.start("a"), s.start("b")
		s.publish(10)
		pass(idleTimeout + time.Second)
		require.Equal(t, 10, s.count())
		stopA()
		stopB()
		s.running.Wait()
	})
}

// TestLateCopyGetsItsShare checks that three copies share the work on many lanes, and that a copy which comes late has its share after some
// seconds.
func TestLateCopyGetsItsShare(t *testing.T) {
	inFakeTime(t, subscribing.Options{Lanes: 12, Transactions: 12}, func(t *testing.T, s *service) {
		s.handle = func(ctx context.Context, _ outbox.Entry) error {
			sleep(ctx, 10*time.Millisecond)
			return nil
		}
		stops := []func(){s.start("a"), s.start("b")}
		for range 5 {
			s.publish(500)
			pass(time.Second)
		}
		stops = append(stops, s.start("c"))
		pass(2 * time.Second)
		before := s.by["c"]
		s.by = make(map[string]int)
		for range 5 {
			s.publish(500)
			pass(time.Second)
		}
		pass(5 * time.Second)
		require.Equal(t, 5000, s.count())
		t.Log("after three seconds, of 2500 events:", s.by, "before:", before)
		for _, name := range []string{"a", "b", "c"} {
			require.Greater(t, s.by[name], 2500/6, name)
		}
		for _, stop := range stops {
			stop()
		}
		s.running.Wait()
	})
}

// TestCopiesReadOnce checks that each of three copies reads a backlog about once for all of its lanes, although their handlers are slow and
// two copies come late.
func TestCopiesReadOnce(t *testing.T) {
	const events = 20_000
	inFakeTime(t, subscribing.Options{Lanes: 64, Transactions: 64}, func(t *testing.T, s *service) {
		s.handle = func(ctx context.Context, entry outbox.Entry) error {
			sleep(ctx, time.Duration(8+entry.Position%5)*time.Millisecond)
			return nil
		}
		s.publish(events)
		stops := []func(){s.start("a")}
		pass(500 * time.Millisecond)
		stops = append(stops, s.start("b"), s.start("c"))
		pass(10 * time.Second)
		require.Equal(t, events, s.count())
		t.Logf("%.1f messages an event, shares %v", float64(s.read.Load())/events, s.by)
		require.Less(t, s.read.Load(), int64(3.5*events))
		for _, stop := range stops {
			stop()
		}
		s.running.Wait()
	})
}

// TestLanesOfASlowHandler checks that a handler of 10 ms on 64 lanes does at least 40 times the work of one lane.
func TestLanesOfASlowHandler(t *testing.T) {
	const events = 6400
	for lanes, most := range map[int]time.Duration{1: events * 10 * time.Millisecond * 11 / 10, 64: events * 10 * time.Millisecond / 40} {
		inFakeTime(t, subscribing.Options{Lanes: lanes, Transactions: 64}, func(t *testing.T, s *service) {
			s.handle = func(ctx context.Context, _ outbox.Entry) error {
				sleep(ctx, 10*time.Millisecond)
				return nil
			}
			s.publish(events)
			stop := s.start("a")
			pass(most)
			require.Equal(t, events, s.count(), "%d lanes", lanes)
			stop()
			s.running.Wait()
		})
	}
}

// TestDistantDatabaseGetsLargeBatches checks that slow transactions do not make the batches smaller, because their time does not come from
// the handler.
func TestDistantDatabaseGetsLargeBatches(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		s.latency = 200 * time.Millisecond
		stop := s.start("a")
		s.publish(10_000)
		pass(10 * time.Second)
		require.Equal(t, 10_000, s.count())
		stop()
		s.running.Wait()
	})
}

// TestPoisonDelaysNobody checks that events of other aggregates take effect at once although one event fails for ever and another event
// fails for a while. The second event takes effect as soon as it stops failing.
func TestPoisonDelaysNobody(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		s.handle = func(_ context.Context, entry outbox.Entry) error {
			switch {
			case entry.Position == 300:
				return errPoison
			case entry.Position == 700 && time.Since(s.began) < 20*time.Second:
				return errors.New("not yet")
			}
			return nil
		}
		stop := s.start("a")
		entries := s.publish(1000)
		pass(time.Second)
		require.Equal(t, 998, s.count())
		pass(time.Minute)
		require.Equal(t, 999, s.count())
		require.Contains(t, s.applied, entries[699].ID)
		letter, err := s.inbox.Letter(t.Context(), subscriber, entries[299].ID)
		require.NoError(t, err)
		require.Equal(t, inbox.Dead, letter.State)
		require.Equal(t, subscribing.DefaultMaxAttempts, letter.Attempts)
		stop()
		s.running.Wait()
	})
}

// TestWhatCannotHealIsDeadAtOnce checks that an event whose handler calls its failure permanent is dead after the first failure within a
// savepoint.
func TestWhatCannotHealIsDeadAtOnce(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		s.handle = func(_ context.Context, entry outbox.Entry) error {
			if entry.Position == 2 {
				return fmt.Errorf("no such customer: %w", inbox.ErrPermanent)
			}
			return nil
		}
		stop := s.start("a")
		entries := s.publish(3)
		pass(time.Second)
		letter, err := s.inbox.Letter(t.Context(), subscriber, entries[1].ID)
		require.NoError(t, err)
		require.Equal(t, inbox.Dead, letter.State)
		require.Equal(t, 1, letter.Attempts)
		require.Equal(t, 2, s.count())
		stop()
		s.running.Wait()
	})
}

// TestOutageIsNoFailure checks that an outage of a minute, under a backlog of 20,000 events, leaves no dead letter, and that work goes on
// within a second after the outage.
func TestOutageIsNoFailure(t *testing.T) {
	inFakeTime(t, subscribing.Options{Lanes: 4, Transactions: 4}, func(t *testing.T, s *service) {
		s.handle = func(_ context.Context, entry outbox.Entry) error {
			if past := time.Since(s.began); entry.Position > 100 && past < time.Minute {
				return errLine
			}
			return nil
		}
		for range 20 {
			s.publish(1000)
		}
		stop := s.start("a")
		pass(time.Minute - time.Nanosecond)
		require.Less(t, s.count(), 1000)
		pass(2 * time.Second)
		require.Equal(t, 20_000, s.count())
		letters, err := s.inbox.Letters(t.Context(), subscriber, 10)
		require.NoError(t, err)
		require.Empty(t, letters)
		stop()
		s.running.Wait()
	})
}

// TestBeginsWhereTheFormerProgramStands checks that a copy waits while copies of an earlier version of the program work. Then it begins at
// the position that those copies have reached.
func TestBeginsWhereTheFormerProgramStands(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		s.publish(10)
		s.stream.AddLegacyConsumer(subscriber, inbox.LegacyConsumer{Sequence: 4, Busy: true})
		stop := s.start("a")
		pass(time.Minute)
		require.Zero(t, s.count())
		s.stream.AddLegacyConsumer(subscriber, inbox.LegacyConsumer{Sequence: 7})
		pass(2 * time.Second)
		require.Equal(t, 3, s.count())
		stop()
		s.running.Wait()
	})
}

// TestBatchesAreLogged checks that each event of a small batch is logged by its handler, and a large batch by one line with its count.
func TestBatchesAreLogged(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		stop := s.start("a")
		pass(time.Second)
		s.publish(10)
		pass(time.Second)
		require.Len(t, s.logged, 10)
		s.publish(11)
		pass(time.Second)
		require.Len(t, s.logged, 10)
		require.Equal(t, 1, strings.Count(s.log.String(), `msg="handled a batch of events" events=11`))
		stop()
		s.running.Wait()
	})
}

// TestSlowLaneHoldsUpNoOther checks that a lane whose handler does not return does not hold up the other lanes, although its events fill
// the memory for reading ahead.
func TestSlowLaneHoldsUpNoOther(t *testing.T) {
	inFakeTime(t, subscribing.Options{Lanes: 2, Transactions: 2, ReadAhead: 100_000}, func(t *testing.T, s *service) {
		s.inbox.IdleTimeout = time.Hour
		stuck := 0
		s.handle = func(ctx context.Context, entry outbox.Entry) error {
			if inbox.LaneOf(entry.Key, 2) == 0 {
				sleep(ctx, 10*time.Minute)
			}
			return nil
		}
		stop := s.start("a")
		for _, entry := range append(s.publish(1000), s.publish(1000)...) {
			if inbox.LaneOf(entry.Key, 2) == 0 {
				stuck++
			}
		}
		pass(10 * time.Second)
		require.Equal(t, 2000-stuck, s.count())
		stop()
		s.running.Wait()
	})
}
