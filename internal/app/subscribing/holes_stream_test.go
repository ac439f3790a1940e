package subscribing_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestMessageOfOthersProvesNothing checks a lane whose message was removed, in a stream that lost its end and grew again. The lane asks the
// log, although the next message is a foreign message.
func TestMessageOfOthersProvesNothing(t *testing.T) {
	lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
		_, stop := l.copy("first")
		l.add(18)
		pass(5 * time.Second)
		stop()
		l.running.Wait()
		l.stream.LoseAfter(10) // the first ten messages are left
		for _, entry := range l.rows.Readable()[10:18] {
			_, err := l.stream.Publish(t.Context(), l.stream.LastSequence(), []outbox.Entry{entry})
			require.NoError(t, err)
		}
		l.stream.LoseAfter(14)
		l.cursor = 18
		l.add(4) // positions 19 to 22 get the sequences that 15 to 18 had
		l.stream.AppendForeign()
		l.add(5)
		l.remove(1, 18)
		running, stop := l.copy("second")
		pass(10 * time.Second)
		require.Empty(t, running.Trouble())
		l.requireApplied(upTo(27)...)
		stop()
	})
}

// TestStreamIsRemadeDuringAFill checks that every event takes effect once if the stream changes during a fill: the stream loses its end, or
// it is created again and filled from the log.
func TestStreamIsRemadeDuringAFill(t *testing.T) {
	for name, happens := range map[string]func(l *lossyService){
		"it loses its end": func(l *lossyService) {
			l.stream.LoseAfter(1300)
			l.republish(1300)
		},
		"it loses the hole": func(l *lossyService) {
			l.stream.LoseAfter(3)
			l.republish(3)
		},
		"it is made again": func(l *lossyService) {
			l.stream.Recreate()
			l.created = "2"
			l.republish(0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			runLossy(t, subscribing.Options{Lanes: 2, Transactions: 2}, 2, func(l *lossyService) {
				var handled atomic.Int64
				l.handle = func(context.Context, outbox.Entry) error {
					if handled.Add(1) == 600 {
						happens(l)
					}
					return nil
				}
				l.add(1310)
				l.remove(6, 1290)
			}, func(l *lossyService, running *subscribing.Subscriber) {
				require.Empty(t, running.Trouble())
				l.requireApplied(upTo(1310)...)
			})
		})
	}
}

// republish publishes all events of the log after a position, as the relay does if the stream has lost them.
func (l *lossyService) republish(after int) {
	l.t.Helper()
	entries := l.rows.Readable()[after:]
	if _, err := l.stream.Publish(context.Background(), l.stream.LastSequence(), entries); err != nil {
		panic(fmt.Sprint("cannot publish again: ", err))
	}
	l.save()
}

// TestFormerPlaceWasRemoved checks a subscriber of an earlier version of the program. The subscriber begins at the position of its
// consumer, although the stream has removed the message there. It takes from the log the events of the messages that were removed after
// this position, and no earlier events.
func TestFormerPlaceWasRemoved(t *testing.T) {
	for name, removed := range map[string]uint64{"its message": 10, "and later ones": 13} {
		t.Run(name, func(t *testing.T) {
			lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
				l.add(20)
				l.stream.AddLegacyConsumer(subscriber, inbox.LegacyConsumer{Sequence: 10})
				l.remove(1, removed)
				running, stop := l.copy("first")
				pass(10 * time.Second)
				require.Empty(t, running.Trouble())
				l.requireApplied(from(11, 20)...)
				l.requireCounts(int64(removed-10), 0)
				stop()
			})
		})
	}
}

// TestAdoptionAndAFill checks a hole after the control message of an adoption that sent the relay back. The hole is filled from the
// position that the control message names, and no event takes effect twice.
func TestAdoptionAndAFill(t *testing.T) {
	for name, removed := range map[string][2]uint64{"behind the notice": {22, 33}, "with the notice": {21, 33}, "up to the end": {22, 36}} {
		t.Run(name, func(t *testing.T) {
			lossyInFakeTime(t, subscribing.Options{Lanes: 2}, func(t *testing.T, l *lossyService) {
				_, stop := l.copy("first")
				l.add(20)
				pass(5 * time.Second)
				stop()
				l.running.Wait()
				_, err := l.stream.PublishControl(t.Context(), 20, relay.ControlMessage{Progress: l.rows.Readable()[9].Progress()})
				require.NoError(t, err)
				l.republish(10)
				l.add(5)
				l.remove(removed[0], removed[1])
				running, stop := l.copy("second")
				pass(10 * time.Second)
				l.add(1)
				pass(10 * time.Second)
				require.Empty(t, running.Trouble())
				l.requireApplied(upTo(26)...)
				stop()
			})
		})
	}
}

// TestBeginsOnAnEmptyStream checks that a subscriber takes no earlier event from the log if the stream has lost all messages before the
// subscriber begins. The last of these messages is a foreign message.
func TestBeginsOnAnEmptyStream(t *testing.T) {
	lossyInFakeTime(t, subscribing.Options{}, func(t *testing.T, l *lossyService) {
		l.add(20)
		l.stream.AppendForeign() // the relay's cursor stands before it
		l.remove(1, 21)
		running, stop := l.copy("first")
		pass(5 * time.Second)
		l.add(10)
		l.remove(22, 26)
		pass(10 * time.Second)
		require.Empty(t, running.Trouble())
		l.requireApplied(from(21, 30)...)
		stop()
	})
}
