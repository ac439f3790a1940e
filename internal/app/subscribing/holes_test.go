package subscribing_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// lossyService is a service whose stream loses messages. The subscriber's database also has the log.
type lossyService struct {
	*service
	rows    *memory.Log
	cursors *memory.CursorStore
	cursor  outbox.Position
	created string
}

// withLog gives the subscriber's database an empty log.
func (s *service) withLog() *lossyService {
	l := &lossyService{service: s, rows: memory.NewLog()}
	l.cursors = memory.NewCursorStore(memory.NewLease(time.Minute), l.rows)
	s.inbox.UseLog(l.rows)
	state, err := memory.NewReader(s.stream, subscriber).State(s.t.Context())
	require.NoError(s.t, err)
	l.created = state.Created
	l.save()
	return l
}

// save sets the log's cursor to the end of the stream.
func (l *lossyService) save() {
	l.cursors.Edit(func(cursor *relay.Cursor) {
		cursor.StreamCreated, cursor.StreamSequence, cursor.Position = l.created, l.stream.LastSequence(), l.cursor
	})
}

// add commits events of three aggregates to the log, and publishes them.
func (l *lossyService) add(count int) []outbox.Entry { return l.addType(count, relaytest.EventType) }

func (l *lossyService) addType(count int, eventType string) []outbox.Entry {
	l.t.Helper()
	entries := relaytest.NewEntries(l.cursor, count)
	for i := range entries {
		entries[i].Type = eventType
		entries[i].Key.ID, entries[i].Version = fmt.Sprint("thing-", entries[i].Position%3), int64(entries[i].Position)
		writer := l.rows.Begin()
		require.NoError(l.t, writer.Append(l.t.Context(), entries[i].Message))
		require.NoError(l.t, writer.Commit())
	}
	_, err := l.stream.Publish(l.t.Context(), l.stream.LastSequence(), entries)
	require.NoError(l.t, err)
	l.cursor += outbox.Position(count)
	l.save()
	return entries
}

// remove removes messages of the stream.
func (l *lossyService) remove(from, to uint64) {
	for sequence := from; sequence <= to; sequence++ {
		l.stream.Delete(sequence)
	}
}

// requireApplied checks that the events at exactly these positions took effect, each once, in order within each aggregate.
func (l *lossyService) requireApplied(positions ...int) {
	l.t.Helper()
	var applied []int
	last := make(map[outbox.Key]outbox.Position)
	for _, entry := range l.inbox.History(subscriber) {
		require.Greater(l.t, entry.Position, last[entry.Key], "sequence of %s", entry.Key)
		last[entry.Key] = entry.Position
		applied = append(applied, int(entry.Position))
	}
	slices.Sort(applied)
	require.Equal(l.t, positions, applied)
}

func (l *lossyService) requireCounts(filled, missed int64) {
	l.t.Helper()
	view, err := l.inbox.Heartbeat(l.t.Context(), subscriber, "judge")
	require.NoError(l.t, err)
	require.Equal(l.t, []int64{filled, missed}, []int64{view.FilledEvents, view.MissedMessages})
}

func upTo(n int) []int { return from(1, n) }

func from(first, last int) (positions []int) {
	for position := first; position <= last; position++ {
		positions = append(positions, position)
	}
	return positions
}

// runLossy runs a test in fake time. It calls prepare, runs some copies for a while, and calls judge while the copies still run.
func runLossy(
	t *testing.T, opts subscribing.Options, copies int,
	prepare func(l *lossyService), judge func(l *lossyService, running *subscribing.Subscriber),
) {
	t.Helper()
	inFakeTime(t, opts, func(_ *testing.T, s *service) {
		l := s.withLog()
		require.NoError(s.t, s.inbox.CreateLanes(s.t.Context(), subscriber, max(s.opts.Lanes, 1), l.created, inbox.StreamPosition{}))
		prepare(l)
		var running *subscribing.Subscriber
		var stops []func()
		for n := range copies {
			one, stop := s.run(fmt.Sprint("copy-", n), effectRecorder{copyHandler{s, fmt.Sprint("copy-", n)}}, s.inbox)
			running, stops = one, append(stops, stop)
		}
		pass(20 * time.Second)
		judge(l, running)
		for _, stop := range stops {
			stop()
		}
		s.running.Wait()
	})
}

// effectRecorder records each handled event in the database, so that the history contains the event.
type effectRecorder struct{ copyHandler }

func (c effectRecorder) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	if err := c.copyHandler.Handle(ctx, tx, entry); err != nil {
		return err
	}
	return memory.NewTotals().Add(ctx, tx, customer, value.NewMoney(100, "USD"))
}

// TestLimitOfTheStreamIsFilled checks that events come from the log, in order, if a limit of the stream has removed their messages before
// the subscriber read them. There are one or several lanes, and one or three copies.
func TestLimitOfTheStreamIsFilled(t *testing.T) {
	for _, lanes := range []int{1, 5} {
		for _, copies := range []int{1, 3} {
			t.Run(fmt.Sprintf("%d lanes %d copies", lanes, copies), func(t *testing.T) {
				runLossy(t, subscribing.Options{Lanes: lanes}, copies, func(l *lossyService) {
					l.add(20)
					l.remove(1, 10)
				}, func(l *lossyService, running *subscribing.Subscriber) {
					l.requireApplied(upTo(20)...)
					l.requireCounts(10, 0)
					require.Empty(t, running.Trouble())
					require.Contains(t, l.log.String(), `level=WARN msg="events that the stream had removed came from the log" events=`)
				})
			})
		}
	}
}

// TestEverythingWasRemoved checks that a lane fills a hole although no message follows it. The hole has more messages than one transaction
// takes.
func TestEverythingWasRemoved(t *testing.T) {
	runLossy(t, subscribing.Options{}, 1, func(l *lossyService) {
		l.add(1200)
		l.remove(1, 1200)
	}, func(l *lossyService, running *subscribing.Subscriber) {
		l.requireApplied(upTo(1200)...)
		l.requireCounts(1200, 0)
		require.Empty(t, running.Trouble())
		l.add(5)
		pass(5 * time.Second)
		l.requireApplied(upTo(1205)...)
		l.requireCounts(1200, 0)
	})
}

// TestMessagesThatSomebodyDeleted checks that single deleted messages are filled, and that a deleted message at the position of a lane, or
// before it, is not filled again.
func TestMessagesThatSomebodyDeleted(t *testing.T) {
	runLossy(t, subscribing.Options{Lanes: 2}, 2, func(l *lossyService) {
		l.add(20)
		for _, sequence := range []uint64{3, 7, 8, 15} {
			l.stream.Delete(sequence)
		}
	}, func(l *lossyService, _ *subscribing.Subscriber) {
		l.requireApplied(upTo(20)...)
		l.requireCounts(4, 0)
		l.stream.Delete(20) // where the lanes stand
		l.stream.Delete(10) // the lanes have passed this message
		l.add(3)
		pass(10 * time.Second)
		l.requireApplied(upTo(23)...)
		l.requireCounts(4, 0)
	})
}

// TestRedrivenEventsAreFilled checks that an event is filled if it was redriven into a hole. An event is not filled if it waits in the
// parking lot, or was redriven after the hole.
func TestRedrivenEventsAreFilled(t *testing.T) {
	runLossy(t, subscribing.Options{}, 1, func(l *lossyService) {
		entries := l.add(3)
		l.remove(1, 3) // control messages stood here, because the relay parked the three events
		for _, entry := range entries {
			l.rows.Park(entry.Position, relay.Parked, 0)
		}
		l.add(6)
		_, err := l.stream.Redrive(l.t.Context(), 9, outbox.Progress{Position: 9}, entries[:1])
		require.NoError(l.t, err)
		l.rows.Park(1, relay.Redriven, 10)
		l.remove(4, 10)
		_, err = l.stream.Redrive(l.t.Context(), 10, outbox.Progress{Position: 9}, entries[1:2])
		require.NoError(l.t, err)
		l.rows.Park(2, relay.Redriven, 11)
	}, func(l *lossyService, running *subscribing.Subscriber) {
		require.Empty(t, running.Trouble())
		var applied []int
		for _, entry := range l.inbox.History(subscriber) {
			applied = append(applied, int(entry.Position))
		}
		require.ElementsMatch(t, []int{1, 2, 4, 5, 6, 7, 8, 9}, applied)
		l.requireCounts(7, 0)
	})
}

// TestLossStops checks that the subscriber stops before lost messages whose events are unknown. It reports how many there are and what to
// do, and does not handle the events after them.
func TestLossStops(t *testing.T) {
	skip := func(subscriber string, to uint64) string { return fmt.Sprintf("skip %s to %d", subscriber, to) }
	runLossy(t, subscribing.Options{LossAdvice: skip}, 1, func(l *lossyService) {
		l.add(20)
		l.remove(1, 12)
		l.rows.Purge(10)
	}, func(l *lossyService, running *subscribing.Subscriber) {
		l.requireApplied([]int(nil)...)
		l.requireCounts(0, 0)
		require.Equal(t, 10, running.Lost())
		for _, text := range []string{
			"sequences 1 to 12", "the events of up to 10 of them are unknown", "retention has removed the log up to position 10",
			"skip billing to 12",
		} {
			require.Contains(t, running.Trouble(), text)
		}
		require.Contains(t, l.log.String(), "level=ERROR")
	})
}

// TestLossContinues checks that the subscriber goes on without the lost messages whose events are unknown. It fills the events that the log
// has, and counts each lost message once, whatever the number of lanes.
func TestLossContinues(t *testing.T) {
	for _, lanes := range []int{1, 4} {
		t.Run(fmt.Sprint(lanes, " lanes"), func(t *testing.T) {
			runLossy(t, subscribing.Options{Continue: true, Lanes: lanes}, 2, func(l *lossyService) {
				l.add(20)
				l.remove(1, 12)
				l.rows.Purge(10)
			}, func(l *lossyService, running *subscribing.Subscriber) {
				l.requireApplied(from(11, 20)...)
				l.requireCounts(2, 10)
				require.Empty(t, running.Trouble())
				require.Zero(t, running.Lost())
				require.Contains(t, l.log.String(), `level=ERROR msg="skipped removed messages whose events are unknown" messages=10`)
			})
		})
	}
}

// TestLossOfAnotherDatabase checks that lost messages are counted if the log is in another database.
func TestLossOfAnotherDatabase(t *testing.T) {
	runLossy(t, subscribing.Options{}, 1, func(l *lossyService) {
		l.add(20)
		l.remove(1, 12)
		l.created = "another"
		l.save()
	}, func(l *lossyService, running *subscribing.Subscriber) {
		require.Contains(t, running.Trouble(), "the events of up to 12 of them are unknown, because this database is not the one whose log fills")
	})
}

// TestNewSubscriberMissesNothing checks that messages that the stream lost before a subscriber began do not count as missed.
func TestNewSubscriberMissesNothing(t *testing.T) {
	inFakeTime(t, subscribing.Options{}, func(t *testing.T, s *service) {
		l := s.withLog()
		l.add(20)
		l.remove(1, 10)
		running, stop := s.run("late", effectRecorder{copyHandler{s, "late"}}, s.inbox)
		pass(5 * time.Second)
		l.requireApplied(from(11, 20)...)
		l.add(5)
		l.remove(15, 25) // the subscriber notices the hole with the next message
		pass(5 * time.Second)
		l.add(1)
		pass(5 * time.Second)
		l.requireApplied(from(11, 26)...)
		l.requireCounts(5, 0)
		require.Empty(t, running.Trouble())
		stop()
		s.running.Wait()
	})
}
