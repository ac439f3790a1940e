package subscribing_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

var defaults subscribing.Options

func TestEventsAreHandledInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, seen, logs := streamOf(t, 3), &handled{}, &lines{}
		note := handlerFunc(func(_ context.Context, entry outbox.Entry) error {
			seen.note(entry)
			return nil
		})
		stop := start(t, sourceOf(stream), note, defaults, logs)
		pass(time.Hour)
		publish(t, stream, outboxtest.NewEntries(3, 2)...)
		pass(time.Hour)
		stop()
		require.Equal(t, []outbox.Position{1, 2, 3, 4, 5}, seen.all())
		require.Empty(t, logs.all, "nothing to say when everything works")
	})
}

// TestFailingEventHoldsUpLaterOnes: the waits double for one event, and begin anew with the next.
func TestFailingEventHoldsUpLaterOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, seen, logs := streamOf(t, 2), &handled{}, &lines{}
		fail := handlerFunc(func(_ context.Context, entry outbox.Entry) error {
			if call := seen.note(entry); call <= 4 || call == 6 {
				return errors.New("no such customer")
			}
			return nil
		})
		stop := start(t, sourceOf(stream), fail, defaults, logs)
		pass(time.Minute)
		stop()
		require.Equal(t, []outbox.Position{1, 1, 1, 1, 1, 2, 2}, seen.all())
		const ms = time.Millisecond
		require.Equal(t, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 0, 100 * ms}, seen.waits())

		errs := logs.at(slog.LevelError)
		require.Len(t, errs, 5)
		require.Equal(t, map[string]any{
			"event_id": stream.Entries()[0].ID, "position": int64(1), "attempt": int64(4), "of": int64(10), "wait": 800 * ms,
			"error": errors.New("no such customer"),
		}, errs[3].attrs)
		require.Equal(t, int64(2), errs[4].attrs["position"])
		require.Equal(t, int64(1), errs[4].attrs["attempt"])
	})
}

func TestWaitsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &handled{}
		fail := handlerFunc(func(_ context.Context, entry outbox.Entry) error {
			seen.note(entry)
			return errors.New("never")
		})
		opts := subscribing.Options{MinBackoff: time.Second, MaxBackoff: 5 * time.Second}
		stop := start(t, sourceOf(streamOf(t, 1)), fail, opts, &lines{})
		pass(20 * time.Second)
		stop()
		require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second}, seen.waits())
	})
}

// TestSlowHandlerKeepsItsEvent: three times as long as the source waits, with a second copy of the subscriber ready.
func TestSlowHandlerKeepsItsEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, seen, logs := streamOf(t, 2), &handled{}, &lines{}
		slow := handlerFunc(func(_ context.Context, entry outbox.Entry) error {
			seen.note(entry)
			time.Sleep(3 * ackWait)
			return nil
		})
		stopOne := start(t, sourceOf(stream), slow, defaults, logs)
		stopOther := start(t, sourceOf(stream), slow, defaults, logs)
		pass(time.Hour)
		stopOne()
		stopOther()
		require.Equal(t, []outbox.Position{1, 2}, seen.all())
		require.Equal(t, []time.Duration{3 * ackWait}, seen.waits())
		require.Empty(t, logs.all)
	})
}

// TestLostExtension: the event is handed out again, which is told, and the handler in hand is left alone.
func TestLostExtension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, seen, logs := streamOf(t, 1), &handled{}, &lines{}
		slow := handlerFunc(func(ctx context.Context, entry outbox.Entry) error {
			if seen.note(entry) == 1 {
				time.Sleep(2 * ackWait)
			}
			return ctx.Err()
		})
		source := &faulty{Source: sourceOf(stream), extend: func() error { return errCut }}
		stop := start(t, source, slow, defaults, logs)
		pass(time.Second)
		stopOther := start(t, sourceOf(stream), slow, defaults, &lines{})
		pass(time.Hour)
		stop()
		stopOther()
		require.Equal(t, []outbox.Position{1, 1}, seen.all())
		require.NotEmpty(t, logs.at(slog.LevelWarn))
		require.Empty(t, logs.at(slog.LevelError))
	})
}

func TestOutageOfTheSourceIsOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, seen, logs := streamOf(t, 1), &handled{}, &lines{}
		began := time.Now()
		var tries atomic.Int64
		down := func(after, until time.Duration) bool {
			now := time.Since(began)
			return now >= after && now < until
		}
		source := &faulty{Source: sourceOf(stream), next: func() error {
			tries.Add(1)
			switch {
			case down(0, 5*time.Minute):
				return errCut
			case down(time.Hour, time.Hour+time.Second):
				return errors.New("nobody classified this")
			}
			return nil
		}}
		stop := start(t, source, handlerFunc(func(_ context.Context, entry outbox.Entry) error {
			seen.note(entry)
			return nil
		}), defaults, logs)
		pass(4 * time.Minute)
		require.Len(t, logs.at(slog.LevelWarn), 1)
		require.ErrorIs(t, logs.at(slog.LevelWarn)[0].attrs["error"].(error), errCut)
		require.Empty(t, logs.at(slog.LevelInfo))
		require.InDelta(t, 240, tries.Load(), 5, "it tries every second")
		pass(2 * time.Minute)
		require.Equal(t, []outbox.Position{1}, seen.all())
		require.Len(t, logs.at(slog.LevelInfo), 1, "the recovery is told")

		time.Sleep(time.Until(began.Add(time.Hour)))
		publish(t, stream, outboxtest.NewEntries(1, 1)...)
		pass(time.Minute)
		publish(t, stream, outboxtest.NewEntries(2, 1)...)
		pass(time.Minute)
		stop()
		require.Equal(t, []outbox.Position{1, 2, 3}, seen.all())
		require.Len(t, logs.at(slog.LevelWarn), 2, "another outage, another line")
		require.Len(t, logs.at(slog.LevelInfo), 2)
		require.Empty(t, logs.at(slog.LevelError))
	})
}

func TestStopWhileWaiting(t *testing.T) {
	for name, next := range map[string]func() error{"for an event": nil, "for the source": func() error { return errCut }} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stop := start(t, &faulty{Source: sourceOf(newStream(t)), next: next}, nil, defaults, &lines{})
				pass(time.Hour + time.Second)
				asked := time.Now()
				stop()
				require.Zero(t, time.Since(asked))
			})
		})
	}
}

// TestStopWhileHandling: the handler gives up because it is told to. The event is no failure, and is there for the next
// copy at once.
func TestStopWhileHandling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, logs := streamOf(t, 1), &lines{}
		stop := start(t, sourceOf(stream), handlerFunc(func(ctx context.Context, _ outbox.Entry) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			return ctx.Err()
		}), defaults, logs)
		pass(time.Minute)
		asked := time.Now()
		stop()
		require.Equal(t, time.Second, time.Since(asked), "it waits for the handler")
		require.Empty(t, logs.at(slog.LevelError))
		_, err := sourceOf(stream).Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, time.Second, time.Since(asked), "the next copy does not wait")
	})
}

func TestStopWhileHandlingLetsTheHandlerFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, seen := streamOf(t, 2), &handled{}
		stop := start(t, sourceOf(stream), handlerFunc(func(_ context.Context, entry outbox.Entry) error {
			seen.note(entry)
			time.Sleep(time.Minute)
			return nil
		}), defaults, &lines{})
		pass(time.Second)
		stop()
		require.Equal(t, []outbox.Position{1}, seen.all())
		delivery, err := sourceOf(stream).Next(t.Context())
		require.NoError(t, err)
		entry, err := delivery.Entry()
		require.NoError(t, err)
		require.Equal(t, outbox.Position(2), entry.Position, "the first was acknowledged")
	})
}

// TestLostRetry: when the source cannot be asked, the event comes again after the source's own wait.
func TestLostRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen, logs := &handled{}, &lines{}
		source := &faulty{Source: sourceOf(streamOf(t, 1)), retry: once()}
		stop := start(t, source, handlerFunc(func(_ context.Context, entry outbox.Entry) error {
			if seen.note(entry) == 1 {
				return errors.New("once")
			}
			return nil
		}), defaults, logs)
		pass(time.Hour)
		stop()
		require.Equal(t, []time.Duration{ackWait}, seen.waits())
		require.Len(t, logs.at(slog.LevelWarn), 1)
	})
}

// TestWaitsAreOfOneEvent: what another copy of the subscriber got done leaves no long wait to the next event.
func TestWaitsAreOfOneEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, logs := streamOf(t, 2), &lines{}
		elsewhere, err := sourceOf(stream).Next(t.Context())
		require.NoError(t, err)
		fail := handlerFunc(func(context.Context, outbox.Entry) error { return errors.New("never here") })
		stop := start(t, sourceOf(stream), fail, subscribing.Options{MaxAttempts: 1000}, logs)
		pass(time.Hour)
		before := logs.at(slog.LevelError)
		require.Greater(t, len(before), 100)
		require.NoError(t, elsewhere.Ack(t.Context()))
		pass(time.Second)
		stop()
		next := logs.at(slog.LevelError)[len(before)].attrs
		require.Equal(t, int64(2), next["position"])
		require.Equal(t, int64(1), next["attempt"])
	})
}

// TestExtensionIsOverBeforeTheAcknowledgement: nothing is said about an event after the last word.
func TestExtensionIsOverBeforeTheAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var extending atomic.Bool
		acknowledged := false
		source := &faulty{Source: sourceOf(streamOf(t, 1))}
		source.extend = func() error {
			extending.Store(true)
			defer extending.Store(false)
			time.Sleep(ackWait / 6) // a slow broker
			return nil
		}
		source.ack = func() error {
			acknowledged = !extending.Load()
			return nil
		}
		stop := start(t, source, handlerFunc(func(context.Context, outbox.Entry) error {
			time.Sleep(ackWait/3 + ackWait/12)
			return nil
		}), defaults, &lines{})
		pass(ackWait * 2 / 3)
		stop()
		require.True(t, acknowledged)
	})
}

// TestOutageOfTheHandlerIsNoFailure: while the database is away the event comes again every second, with one warning and
// no error, and its own count of failures is untouched.
func TestOutageOfTheHandlerIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen, logs := &handled{}, &lines{}
		began := time.Now()
		stop := start(t, sourceOf(streamOf(t, 2)), handlerFunc(func(_ context.Context, entry outbox.Entry) error {
			if time.Since(began) < 5*time.Minute {
				return errCut
			}
			seen.note(entry)
			return nil
		}), defaults, logs)
		pass(5*time.Minute + time.Second)
		stop()
		require.Equal(t, []outbox.Position{1, 2}, seen.all())
		require.Len(t, logs.at(slog.LevelWarn), 1)
		require.Len(t, logs.at(slog.LevelInfo), 1)
		require.Empty(t, logs.at(slog.LevelError))
	})
}
