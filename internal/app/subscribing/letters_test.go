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

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

var errPoison = errors.New("it is poison")

// onceHandler applies events to an inbox, unless fails says why not.
func onceHandler(applied *memory.Inbox, fails func(entry outbox.Entry) error) inbox.Handler {
	return handlerFunc(func(ctx context.Context, entry outbox.Entry) error {
		_, err := applied.Once(ctx, subscriber, entry, func(context.Context, inbox.Tx) error { return fails(entry) })
		return err
	})
}

// poisonous fails the events at some positions while it is on.
type poisonous struct {
	at map[outbox.Position]bool
	on atomic.Bool
}

func poison(positions ...outbox.Position) *poisonous {
	p := &poisonous{at: make(map[outbox.Position]bool)}
	for _, position := range positions {
		p.at[position] = true
	}
	p.on.Store(true)
	return p
}

func (p *poisonous) fails(entry outbox.Entry) error {
	if p.on.Load() && p.at[entry.Position] {
		return errPoison
	}
	return nil
}

func positions(entries []outbox.Entry) []outbox.Position {
	var at []outbox.Position
	for _, entry := range entries {
		at = append(at, entry.Position)
	}
	return at
}

func letter(t *testing.T, letters *memory.Inbox, entry outbox.Entry) inbox.Letter {
	t.Helper()
	found, err := letters.Letter(t.Context(), subscriber, entry.ID)
	require.NoError(t, err)
	return found
}

// TestPoisonEvent: it is tried ten times, then it is set aside and reported, and only its aggregate waits. Retried, it and
// what waited behind it take effect once, in order.
func TestPoisonEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, applied, logs := streamOf(t, 25), memory.NewInbox(), &lines{} // of ten aggregates: 3, 13 and 23 are of one
		bad := poison(3)
		handler := onceHandler(applied, bad.fails)
		stop := startWith(t, sourceOf(stream), handler, applied, defaults, logs)
		stopRetrier := startRetrier(t, applied, handler, defaults, logs)
		pass(51 * time.Second)
		require.Equal(t, []outbox.Position{1, 2}, positions(applied.History(subscriber)), "it is tried for a while")
		pass(time.Second)
		require.Equal(t, []outbox.Position{1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 25},
			positions(applied.History(subscriber)))
		errs := logs.at(slog.LevelError)
		require.Len(t, errs, 10)
		entry := stream.Entries()[2]
		require.Equal(t, "an event is dead, later ones of its aggregate wait for it and all others go on", errs[9].text)
		require.Equal(t, map[string]any{
			"event_id": entry.ID, "position": int64(3), "aggregate": "order/order-2", "attempts": int64(10), "error": errPoison,
			"retry": "retry " + entry.ID + " of billing",
		}, errs[9].attrs)
		require.Len(t, logs.at(slog.LevelWarn), 2, "13 and 23 wait")
		require.Equal(t, inbox.Dead, letter(t, applied, entry).State)
		require.Equal(t, 2, letter(t, applied, entry).Behind)

		bad.on.Store(false)
		pass(time.Hour)
		require.Len(t, applied.History(subscriber), 22, "nothing is retried unasked")
		require.NoError(t, applied.Retry(t.Context(), subscriber, entry.ID))
		pass(2 * time.Second)
		require.Equal(t, []outbox.Position{3, 13, 23}, positions(applied.History(subscriber))[22:])
		publish(t, stream, outboxtest.NewEntries(25, 10)...)
		pass(time.Second)
		stop()
		stopRetrier()
		require.Len(t, applied.History(subscriber), 35)
		require.Len(t, logs.at(slog.LevelError), 10)
	})
}

// TestFailuresAreCountedOverCopies: three copies, each killed in the middle, do not try the event more often than one.
func TestFailuresAreCountedOverCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, applied, logs := streamOf(t, 2), memory.NewInbox(), &lines{}
		var tries atomic.Int64
		handler := onceHandler(applied, func(entry outbox.Entry) error {
			if entry.Position == 1 {
				tries.Add(1)
				return errPoison
			}
			return nil
		})
		for range 3 {
			stop := startWith(t, sourceOf(stream), handler, applied, defaults, logs)
			pass(2 * time.Second)
			stop()
		}
		stop := startWith(t, sourceOf(stream), handler, applied, defaults, logs)
		pass(time.Minute)
		stop()
		require.Equal(t, int64(10), tries.Load())
		require.Equal(t, []outbox.Position{2}, positions(applied.History(subscriber)))
	})
}

func TestPanicIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, applied, logs := streamOf(t, 2), memory.NewInbox(), &lines{}
		handler := onceHandler(applied, func(entry outbox.Entry) error {
			if entry.Position == 1 {
				panic("at the disco")
			}
			return nil
		})
		stop := startWith(t, sourceOf(stream), handler, applied, subscribing.Options{MaxAttempts: 2}, logs)
		stopRetrier := startRetrier(t, applied, handler, subscribing.Options{MaxAttempts: 2}, logs)
		pass(time.Second)
		require.Equal(t, []outbox.Position{2}, positions(applied.History(subscriber)))
		dead := letter(t, applied, stream.Entries()[0])
		require.Equal(t, inbox.Dead, dead.State)
		require.Contains(t, dead.Error, "the handler panicked: at the disco")
		require.NoError(t, applied.Retry(t.Context(), subscriber, dead.ID))
		pass(time.Minute)
		stop()
		stopRetrier()
		require.Equal(t, inbox.Dead, letter(t, applied, stream.Entries()[0]).State)
	})
}

// TestUnreadableMessageIsSetAside: it is a dead letter at once and holds up nothing, however often it comes.
func TestUnreadableMessageIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream, applied, logs := newStream(t), memory.NewInbox(), &lines{}
		stream.AppendForeign()
		publish(t, stream, outboxtest.NewEntries(0, 1)...)
		stream.AppendForeign()
		source := &faulty{Source: sourceOf(stream), ack: once()}
		stop := startWith(t, source, onceHandler(applied, poison().fails), applied, defaults, logs)
		pass(time.Hour)
		stop()
		require.Equal(t, []outbox.Position{1}, positions(applied.History(subscriber)))
		letters, err := applied.Letters(t.Context(), subscriber, 10)
		require.NoError(t, err)
		require.Len(t, letters, 2)
		for _, letter := range letters {
			require.Equal(t, inbox.Dead, letter.State)
			require.Equal(t, "orders.stray", letter.Subject)
			require.Equal(t, "hello", string(letter.Payload))
			require.Regexp(t, `^unreadable-[13]-[0-9a-f]{12}$`, letter.ID)
		}
		errs := logs.at(slog.LevelError)
		require.Len(t, errs, 3, "the first came twice, because its acknowledgement was lost")
		require.ErrorIs(t, errs[0].attrs["error"].(error), inbox.ErrUnreadable)
		require.Equal(t, errs[0].attrs, errs[1].attrs)
		require.Regexp(t, `^discard unreadable-1-[0-9a-f]{12} of billing$`, errs[0].attrs["discard"])
	})
}

// unwilling is dead letters that take nothing while err says why.
type unwilling struct {
	inbox.DeadLetters
	err atomic.Pointer[error]
}

func (u *unwilling) Fail(ctx context.Context, subscriber string, entry outbox.Entry, failure inbox.Failure) (inbox.Letter, error) {
	if err := u.err.Load(); err != nil {
		return inbox.Letter{}, *err
	}
	return u.DeadLetters.Fail(ctx, subscriber, entry, failure)
}

// TestWhatCannotBeRecordedIsNotDropped: while dead letters cannot be written, an outage or not, the event keeps coming and
// everything waits for it.
func TestWhatCannotBeRecordedIsNotDropped(t *testing.T) {
	for name, test := range map[string]struct {
		err    error
		errors int
	}{"outage": {errCut, 0}, "anything else": {errors.New("no such table"), 10}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream, applied, logs := streamOf(t, 2), memory.NewInbox(), &lines{}
				letters := &unwilling{DeadLetters: applied}
				letters.err.Store(&test.err)
				handler := onceHandler(applied, poison(1).fails)
				stop := startWith(t, sourceOf(stream), handler, letters, defaults, logs)
				pass(time.Hour)
				require.Empty(t, applied.History(subscriber))
				require.GreaterOrEqual(t, len(logs.at(slog.LevelError)), test.errors)
				require.Equal(t, test.errors == 0, len(logs.at(slog.LevelWarn)) == 1)
				letters.err.Store(nil)
				pass(2 * time.Minute)
				stop()
				require.Equal(t, []outbox.Position{2}, positions(applied.History(subscriber)))
				require.Equal(t, 10, letter(t, applied, stream.Entries()[0]).Attempts)
			})
		})
	}
}

// TestRetriedLetterFailsAgain: it is tried as often as from the stream, with the same waits, and reported again.
func TestRetriedLetterFailsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		applied, logs, seen := memory.NewInbox(), &lines{}, &handled{}
		entry := outboxtest.NewEntries(0, 1)[0]
		_, err := applied.Fail(t.Context(), subscriber, entry, inbox.Failure{Cause: errPoison, Limit: 1})
		require.NoError(t, err)
		require.NoError(t, applied.Retry(t.Context(), subscriber, entry.ID))
		stop := startRetrier(t, applied, onceHandler(applied, func(entry outbox.Entry) error {
			seen.note(entry)
			return errPoison
		}), subscribing.Options{MaxAttempts: 4, MinBackoff: 2 * time.Second}, logs)
		pass(time.Minute)
		stop()
		require.Equal(t, []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second}, seen.waits())
		require.Equal(t, inbox.Dead, letter(t, applied, entry).State)
		errs := logs.at(slog.LevelError)
		require.Len(t, errs, 4)
		require.Equal(t, "retry "+entry.ID+" of billing", errs[3].attrs["retry"])
	})
}

// TestRetrierWaitsOutagesOut: an outage, of the letters or of what the handler works on, is no failure.
func TestRetrierWaitsOutagesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		applied, logs := memory.NewInbox(), &lines{}
		entry := outboxtest.NewEntries(0, 1)[0]
		_, err := applied.Fail(t.Context(), subscriber, entry, inbox.Failure{Cause: errPoison, Limit: 1})
		require.NoError(t, err)
		require.NoError(t, applied.Retry(t.Context(), subscriber, entry.ID))
		began := time.Now()
		handler := onceHandler(applied, func(outbox.Entry) error {
			if time.Since(began) < time.Hour {
				return errCut
			}
			return nil
		})
		applied.Disconnect()
		stop := startRetrier(t, applied, handler, defaults, logs)
		pass(10 * time.Minute)
		require.Len(t, logs.at(slog.LevelWarn), 1)
		applied.Reconnect()
		pass(10 * time.Minute)
		require.Len(t, logs.at(slog.LevelWarn), 2)
		require.Zero(t, letter(t, applied, entry).Attempts)
		pass(time.Hour)
		stop()
		require.Equal(t, []outbox.Position{1}, positions(applied.History(subscriber)))
		require.Empty(t, logs.at(slog.LevelError))
	})
}

// TestCopyDiesWithALetterInHand: another one tries it when the claim has ended.
func TestCopyDiesWithALetterInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		applied, seen := memory.NewInbox(), &handled{}
		entry := outboxtest.NewEntries(0, 1)[0]
		_, err := applied.Fail(t.Context(), subscriber, entry, inbox.Failure{Cause: errPoison, Limit: 1})
		require.NoError(t, err)
		require.NoError(t, applied.Retry(t.Context(), subscriber, entry.ID))
		began := time.Now()
		stop := startRetrier(t, applied, handlerFunc(func(ctx context.Context, _ outbox.Entry) error {
			<-ctx.Done()
			return ctx.Err()
		}), defaults, &lines{})
		pass(time.Second)
		stop()
		stop = startRetrier(t, applied, onceHandler(applied, func(entry outbox.Entry) error {
			seen.note(entry)
			return nil
		}), defaults, &lines{})
		pass(time.Minute)
		stop()
		require.Len(t, applied.History(subscriber), 1)
		require.WithinDuration(t, began.Add(30*time.Second), seen.at[0], 2*time.Second)
	})
}

// TestSweepForgetsInChunks: what is older than the retention goes, all of it, and an outage only delays it.
func TestSweepForgetsInChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		applied, logs := memory.NewInbox(), &lines{}
		handler := onceHandler(applied, poison().fails)
		old, fresh := outboxtest.NewEntries(0, 2500), outboxtest.NewEntries(2500, 10)
		for _, entry := range old {
			require.NoError(t, handler.Handle(t.Context(), entry))
		}
		pass(time.Hour)
		for _, entry := range fresh {
			require.NoError(t, handler.Handle(t.Context(), entry))
		}
		applied.Disconnect()
		stop := running(t, func(ctx context.Context) error {
			return subscribing.Sweep(ctx, subscriber, applied, time.Hour, slog.New(logs))
		})
		pass(time.Second)
		require.Len(t, logs.at(slog.LevelWarn), 1)
		applied.Reconnect()
		pass(2 * time.Minute)
		stop()
		for _, entry := range old {
			require.False(t, applied.Applied(subscriber, entry.ID))
		}
		for _, entry := range fresh {
			require.True(t, applied.Applied(subscriber, entry.ID))
		}
	})
}
