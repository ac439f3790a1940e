package subscribing_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// lossyInFakeTime runs a test in fake time on a subscriber that has not begun. Its stream loses messages, and its database also has the
// log.
func lossyInFakeTime(t *testing.T, opts subscribing.Options, test func(t *testing.T, l *lossyService)) {
	t.Helper()
	inFakeTime(t, opts, func(t *testing.T, s *service) {
		test(t, s.withLog())
		s.running.Wait()
	})
}

// copy starts a copy.
func (l *lossyService) copy(name string) (running *subscribing.Subscriber, stop func()) {
	return l.run(name, effectRecorder{copyHandler{l.service, name}}, l.inbox)
}

// admin returns the operations on the subscriber.
func (l *lossyService) admin() *operating.Subscribers {
	return operating.NewSubscribers(operating.SubscriberPorts{
		Operator: memory.NewOperator(l.inbox), Stream: memory.NewReader(l.stream, subscriber), Lags: noLags{}, Log: l.inbox,
	})
}

// send moves the subscriber to a target, as an operator does. place has the form that the function target reads.
func (l *lossyService) send(place string, forwards bool) {
	l.t.Helper()
	plan, err := l.admin().Plan(l.t.Context(), subscriber, target(l.t, place), forwards)
	require.NoError(l.t, err)
	_, err = l.admin().Move(l.t.Context(), plan)
	require.NoError(l.t, err)
}

// target returns the move target for sequence:N, position:N, start or end.
func target(t *testing.T, place string) operations.MoveTarget {
	t.Helper()
	kind, value, _ := strings.Cut(place, ":")
	if value == "" {
		return operations.MoveTarget{End: kind == "end"}
	}
	number, err := strconv.ParseUint(value, 10, 63)
	require.NoError(t, err)
	if kind == "position" {
		return operations.MoveTarget{Position: outbox.Position(number)} //nolint:gosec // 63 bits
	}
	return operations.MoveTarget{Sequence: number}
}

// killDuringFill runs a subscriber of several lanes, and kills it while it fills a hole. One lane has filled a part of the hole, and other lanes
// have filled nothing.
func killDuringFill(t *testing.T, l *lossyService) {
	t.Helper()
	_, stop := l.copy("first")
	l.add(5)
	pass(5 * time.Second)
	stop()
	l.running.Wait()
	l.requireApplied(upTo(5)...)
	var handled atomic.Int64
	l.handle = func(_ context.Context, entry outbox.Entry) error {
		if entry.Key.ID == "thing-0" && handled.Add(1) < 700 {
			return nil
		}
		return fault.New(fault.Unavailable, "away", "what the handler works on is away")
	}
	l.add(3000)
	l.remove(6, 3005)
	l.add(5)
	_, kill := l.copy("killed")
	pass(20 * time.Second)
	kill()
	l.running.Wait()
	var progress []outbox.Position
	for _, lane := range l.lanes() {
		if lane.Sequence == 5 { // not a lane without events in the hole
			progress = append(progress, lane.Progress)
		}
	}
	require.Equal(t, outbox.Position(5), slices.Min(progress))
	require.Greater(t, slices.Max(progress), outbox.Position(1000))
	l.handle = func(context.Context, outbox.Entry) error { return nil }
}

func (l *lossyService) lanes() []inbox.Checkpoint {
	l.t.Helper()
	all, err := memory.NewOperator(l.inbox).Overviews(l.t.Context())
	require.NoError(l.t, err)
	return all[0].Lanes
}

// TestKilledBetweenTheChunksOfAFill checks that lanes which have filled different parts of a hole each go on with their own part.
func TestKilledBetweenTheChunksOfAFill(t *testing.T) {
	lossyInFakeTime(t, subscribing.Options{Lanes: 5, Transactions: 5}, func(t *testing.T, l *lossyService) {
		killDuringFill(t, l)
		_, stop := l.copy("next")
		pass(20 * time.Second)
		l.requireApplied(upTo(3010)...)
		l.requireCounts(3000, 0)
		stop()
	})
}

// TestLanesChangeDuringAFill checks that new lanes fill a hole from the point that the slowest of the former lanes has reached.
func TestLanesChangeDuringAFill(t *testing.T) {
	for _, lanes := range []int{1, 2, 7} {
		t.Run(fmt.Sprint(lanes), func(t *testing.T) {
			lossyInFakeTime(t, subscribing.Options{Lanes: 5, Transactions: 5}, func(t *testing.T, l *lossyService) {
				killDuringFill(t, l)
				_, _, err := l.admin().SetLanes(t.Context(), subscriber, lanes)
				require.NoError(t, err)
				_, stop := l.copy("next")
				pass(20 * time.Second)
				l.requireApplied(upTo(3010)...)
				l.requireCounts(3000, 0)
				stop()
			})
		})
	}
}

// TestSkipGoesToTheEndOfAHole checks a subscriber that stands before lost messages. After a skip into the hole or to its end, the
// subscriber goes on behind the hole, and applies no event of the hole.
func TestSkipGoesToTheEndOfAHole(t *testing.T) {
	for _, to := range []string{"sequence:12", "position:12", "sequence:9"} {
		t.Run(to, func(t *testing.T) {
			lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
				_, end := l.copy("first")
				l.add(4)
				pass(5 * time.Second)
				end()
				l.running.Wait()
				l.add(16)
				l.remove(5, 12)
				l.rows.Purge(10)
				running, stop := l.copy("second")
				pass(5 * time.Second)
				require.Contains(t, running.Trouble(), "the events of up to 6 of them are unknown")
				require.Equal(t, 6, running.Lost())
				l.send(to, true)
				pass(7 * time.Second)
				require.Empty(t, running.Trouble())
				require.Zero(t, running.Lost())
				l.requireApplied(append(upTo(4), from(13, 20)...)...)
				l.requireCounts(0, 0)
				stop()
			})
		})
	}
}

// TestSkipToAPositionInAHole checks that a skip to a position skips the events up to this position, and that the rest of the hole is
// filled.
func TestSkipToAPositionInAHole(t *testing.T) {
	lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
		require.NoError(t, l.inbox.CreateLanes(t.Context(), subscriber, 1, l.created, inbox.StreamPosition{}))
		l.add(20)
		l.remove(5, 12)
		l.send("position:8", true)
		_, stop := l.copy("first")
		pass(5 * time.Second)
		l.requireApplied(from(9, 20)...)
		l.requireCounts(4, 0)
		stop()
	})
}

// TestSkipEndsBeforeALaterHole checks that skipped events are not applied when a later hole is filled. The skip ends at an event, at a
// foreign message, or at the end of a stream from which all messages were removed.
func TestSkipEndsBeforeALaterHole(t *testing.T) {
	for name, prepare := range map[string]func(l *lossyService) (place string, skipped int){
		"an event":   func(l *lossyService) (string, int) { l.add(20); return "sequence:20", 20 },
		"the end":    func(l *lossyService) (string, int) { l.add(20); return "end", 20 },
		"far beyond": func(l *lossyService) (string, int) { l.add(20); return "position:1000000", 20 },
		"a foreign": func(l *lossyService) (string, int) {
			l.add(20)
			l.stream.AppendForeign()
			l.save()
			return "sequence:21", 20
		},
		"many others": func(l *lossyService) (string, int) {
			l.add(20)
			for range 60 {
				l.stream.AppendForeign()
			}
			l.save()
			return "end", 20
		},
		"nothing left": func(l *lossyService) (string, int) { l.add(20); l.remove(1, 20); return "end", 20 },
		"no end left":  func(l *lossyService) (string, int) { l.add(20); l.remove(18, 20); return "end", 20 },
	} {
		t.Run(name, func(t *testing.T) {
			lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
				require.NoError(t, l.inbox.CreateLanes(t.Context(), subscriber, 1, l.created, inbox.StreamPosition{}))
				place, skipped := prepare(l)
				l.send(place, true)
				end := l.stream.LastSequence()
				l.add(10)
				l.remove(end+1, end+5)
				running, stop := l.copy("first")
				pass(20 * time.Second)
				require.Empty(t, running.Trouble())
				l.requireApplied(from(skipped+1, skipped+10)...)
				l.requireCounts(5, 0)
				stop()
			})
		})
	}
}

// TestRewindOfALateSubscriber checks that a subscriber which began late reads the stream again after a rewind to the start. It takes no
// event from the log whose message was removed before the subscriber began.
func TestRewindOfALateSubscriber(t *testing.T) {
	lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
		l.add(20)
		l.remove(1, 10)
		_, stop := l.copy("first")
		pass(5 * time.Second)
		l.requireApplied(from(11, 20)...)
		l.send("start", false)
		pass(5 * time.Second)
		l.requireApplied(from(11, 20)...)
		l.send("start", false)
		l.remove(11, 14)
		l.add(5)
		l.remove(21, 22)
		pass(5 * time.Second)
		l.requireApplied(from(11, 25)...)
		stop()
	})
}

// TestEverythingIsRemovedWhilePaused checks a subscriber that is paused while a limit removes all messages that it has not read. After the
// pause, the subscriber takes all these events from the log, although no new event comes.
func TestEverythingIsRemovedWhilePaused(t *testing.T) {
	lossyInFakeTime(t, subscribing.Options{Lanes: 3}, func(t *testing.T, l *lossyService) {
		running, stop := l.copy("first")
		l.add(20)
		pass(5 * time.Second)
		require.NoError(t, l.admin().Pause(t.Context(), subscriber))
		l.add(30)
		l.remove(1, 50)
		pass(5 * time.Second)
		l.requireApplied(upTo(20)...)
		require.NoError(t, l.admin().Resume(t.Context(), subscriber))
		pass(10 * time.Second)
		require.Empty(t, running.Trouble())
		l.requireApplied(upTo(50)...)
		l.requireCounts(30, 0)
		stop()
	})
}
