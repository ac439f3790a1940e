package subscribing_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// TestDuplicateBehindAHole checks that events take effect in order if somebody has stored a removed message again, behind the hole.
func TestDuplicateBehindAHole(t *testing.T) {
	runLossy(t, subscribing.Options{}, 1, func(l *lossyService) {
		l.add(12)
		l.stream.AppendCopy(7)
		l.save()
		l.add(8)
		l.remove(6, 12)
	}, func(l *lossyService, running *subscribing.Subscriber) {
		require.Empty(t, running.Trouble())
		l.requireApplied(upTo(20)...)
		l.requireCounts(7, 0)
	})
}

// TestParkedEventBehindAHole checks that an event is not applied if a control message reports that the event was parked. The event has no
// row in the parking lot yet.
func TestParkedEventBehindAHole(t *testing.T) {
	runLossy(t, subscribing.Options{}, 1, func(l *lossyService) {
		l.add(7)
		parked := l.write(1)[0]
		_, err := l.stream.PublishControl(t.Context(), 7, relay.ControlMessage{Progress: parked.Progress(), Parked: "too large"})
		require.NoError(t, err)
		l.remove(6, 7)
	}, func(l *lossyService, running *subscribing.Subscriber) {
		require.Empty(t, running.Trouble())
		l.requireApplied(upTo(7)...)
	})
}

// TestFillEndsWhereTheRelayIs checks that a fill takes no event of the log that the relay has not published yet. An open transaction may
// still commit an earlier event.
func TestFillEndsWhereTheRelayIs(t *testing.T) {
	for name, end := range map[string]uint64{"before messages": 8, "at the end": 10} {
		t.Run(name, func(t *testing.T) {
			runLossy(t, subscribing.Options{}, 1, func(l *lossyService) {
				l.add(10)
				l.write(5)
				l.remove(1, end)
			}, func(l *lossyService, running *subscribing.Subscriber) {
				require.Empty(t, running.Trouble())
				l.requireApplied(upTo(10)...)
			})
		})
	}
}

// write commits events of an aggregate to the log, which the relay has not published.
func (l *lossyService) write(count int) []outbox.Entry {
	l.t.Helper()
	entries := relaytest.NewEntries(l.cursor, count)
	for i := range entries {
		entries[i].Key.ID, entries[i].Version = "thing-unpublished", int64(entries[i].Position)
		writer := l.rows.Begin()
		require.NoError(l.t, writer.Append(l.t.Context(), entries[i].Message))
		require.NoError(l.t, writer.Commit())
	}
	l.cursor += outbox.Position(count)
	return entries
}

// rollBack leaves positions without an event.
func (l *lossyService) rollBack(count int) {
	l.t.Helper()
	for _, entry := range relaytest.NewEntries(l.cursor, count) {
		writer := l.rows.Begin()
		require.NoError(l.t, writer.Append(l.t.Context(), entry.Message))
		writer.Rollback()
	}
	l.cursor += outbox.Position(count)
}

// TestEverythingExpired checks that a subscriber misses nothing if it had read all messages before they expired. The next event comes after
// positions that were rolled back. The result is the same if the log is in another database.
func TestEverythingExpired(t *testing.T) {
	for name, created := range map[string]string{"beside the log": "", "in another database": "another"} {
		t.Run(name, func(t *testing.T) {
			lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
				_, stop := l.copy("first")
				l.add(20)
				pass(5 * time.Second)
				stop()
				l.running.Wait()
				l.remove(1, 20)
				l.rollBack(5)
				if created != "" {
					l.created = created
				}
				l.add(5)
				running, stop := l.copy("second")
				pass(10 * time.Second)
				require.Empty(t, running.Trouble())
				l.requireApplied(append(upTo(20), from(26, 30)...)...)
				l.requireCounts(0, 0)
				stop()
			})
		})
	}
}

// TestLaneWithoutAProgress checks a lane whose checkpoint has no progress, as earlier versions of this program wrote it. The lane takes
// from the log only the events of messages that were removed after its position. It never takes earlier events.
func TestLaneWithoutAProgress(t *testing.T) {
	for name, removed := range map[string]uint64{"its message has expired": 20, "and later ones": 23} {
		t.Run(name, func(t *testing.T) {
			lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
				l.add(20)
				require.NoError(t, l.inbox.CreateLanes(t.Context(), subscriber, 1, l.created, inbox.StreamPosition{Sequence: 20, StoredAt: time.Now()}))
				l.rollBack(2)
				l.add(10)
				l.remove(1, removed)
				running, stop := l.copy("first")
				pass(10 * time.Second)
				require.Empty(t, running.Trouble())
				l.requireApplied(from(23, 32)...)
				l.requireCounts(int64(removed-20), 0)
				stop()
			})
		})
	}
}

// TestPurgesWhileItFills checks that messages count as missed if retention removes their events before or during a fill. Each message
// counts once.
func TestPurgesWhileItFills(t *testing.T) {
	runLossy(t, subscribing.Options{Continue: true}, 1, func(l *lossyService) {
		handled := 0
		l.handle = func(_ context.Context, entry outbox.Entry) error {
			if handled++; handled == 100 {
				l.rows.Purge(700)
			}
			return nil
		}
		l.add(1000)
		l.remove(1, 1000)
		l.rows.Purge(10)
	}, func(l *lossyService, _ *subscribing.Subscriber) {
		l.requireApplied(append(from(11, 510), from(701, 1000)...)...)
		l.requireCounts(800, 200)
	})
}

// TestFillWaitsBehindALetter checks that events from the log wait behind the dead letter of their aggregate, and take effect in order after
// it.
func TestFillWaitsBehindALetter(t *testing.T) {
	lossyInFakeTime(t, subscribing.Options{MaxAttempts: 2}, func(t *testing.T, l *lossyService) {
		failing := true
		l.handle = func(_ context.Context, entry outbox.Entry) error {
			if failing && entry.Position == 3 {
				return errors.New("no")
			}
			return nil
		}
		_, stop := l.copy("first")
		third := l.add(5)[2]
		pass(10 * time.Second)
		stop()
		l.running.Wait()
		l.requireApplied(1, 2, 4, 5)
		l.add(15)
		l.remove(6, 14)
		_, stop = l.copy("second")
		pass(10 * time.Second)
		l.requireApplied(1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20)
		failing = false
		require.NoError(t, l.inbox.Retry(t.Context(), subscriber, third.ID))
		pass(10 * time.Second)
		l.requireApplied(upTo(20)...)
		l.requireCounts(9, 0)
		stop()
	})
}

// TestFillTakesNoUnwantedType checks that a fill passes over events of a type that the subscriber does not want. An event of a wanted type
// becomes a dead letter if this program has no handler for the type.
func TestFillTakesNoUnwantedType(t *testing.T) {
	lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
		l.addType(4, "another")
		l.addType(4, "known to a newer program")
		l.add(4)
		require.NoError(t, l.inbox.CreateLanes(t.Context(), subscriber, 1, l.created, inbox.StreamPosition{}))
		require.NoError(t, l.inbox.Subscribe(t.Context(), subscriber, "test", []string{"known to a newer program"}))
		l.remove(1, 10)
		running, stop := l.copy("first")
		pass(10 * time.Second)
		require.Empty(t, running.Trouble())
		dead, err := l.inbox.CountDead(t.Context(), subscriber)
		require.NoError(t, err)
		require.Equal(t, 3, dead, "of each aggregate the first one")
		letters, err := l.inbox.Letters(t.Context(), subscriber, 100)
		require.NoError(t, err)
		behind := 0
		for _, letter := range letters {
			require.True(t, letter.NoHandler)
			behind += letter.Behind
		}
		require.Equal(t, 5, behind)
		l.requireApplied([]int(nil)...)
		stop()
	})
}

// TestManyHoles checks that the subscriber fills the holes if every second message is missing.
func TestManyHoles(t *testing.T) {
	runLossy(t, subscribing.Options{Lanes: 3}, 2, func(l *lossyService) {
		l.add(400)
		for sequence := uint64(1); sequence < 400; sequence += 2 {
			l.stream.Delete(sequence)
		}
	}, func(l *lossyService, running *subscribing.Subscriber) {
		require.Empty(t, running.Trouble())
		l.requireApplied(upTo(400)...)
		l.requireCounts(200, 0)
	})
}

// TestPositionsThatNobodyKnows checks that a subscriber stops before positions whose events are unknown, although no sequence is missing.
// The command in its trouble lets the subscriber go on without leaving out the next event.
func TestPositionsThatNobodyKnows(t *testing.T) {
	skipTo := uint64(0)
	skip := func(_ string, to uint64) string { skipTo = to; return "skip" }
	lossyInFakeTime(t, subscribing.Options{LossAdvice: skip}, func(t *testing.T, l *lossyService) {
		_, stop := l.copy("first")
		l.add(20)
		pass(5 * time.Second)
		stop()
		l.running.Wait()
		l.remove(1, 20)
		l.rollBack(5)
		l.add(5)
		l.rows.Purge(27)
		running, stop := l.copy("second")
		pass(5 * time.Second)
		require.Contains(t, running.Trouble(), "before sequence 21")
		require.Contains(t, running.Trouble(), "the events of up to 5 of them are unknown")
		l.send(fmt.Sprint("sequence:", skipTo), true)
		pass(5 * time.Second)
		require.Empty(t, running.Trouble())
		l.requireApplied(append(upTo(20), from(26, 30)...)...)
		stop()
	})
}
