package inboxtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

// Letters is everything that dead letters are to somebody.
type Letters interface {
	inbox.DeadLetters
	inbox.LetterDesk
	inbox.Sweeper
}

// LettersHarness is a store in which nothing was applied or set aside.
type LettersHarness interface {
	UnitOfWorkHarness
	DeadLetters() Letters
}

// TestDeadLetters runs the contract of inbox.DeadLetters, inbox.LetterDesk and inbox.Sweeper, and of UnitOfWork.Once
// together with them. Each call of open gives an empty store.
func TestDeadLetters(t *testing.T, open func(t *testing.T) LettersHarness) {
	for name, test := range map[string]func(t *testing.T, d desk){
		"an event is dead after so many failures":            lettersDead,
		"an event that succeeds leaves no letter":            lettersSuccess,
		"later events of the aggregate wait, others do not":  lettersHeld,
		"a failing event that is held waits":                 lettersHeldFailure,
		"a retried letter and those behind it are applied":   lettersRetry,
		"a retried letter may fail again":                    lettersRetryFails,
		"a letter is handed out to one at a time":            lettersLease,
		"of concurrent appliers of a letter one succeeds":    lettersConcurrently,
		"an event set aside meanwhile is not forgotten":      lettersRace,
		"of applying and discarding one wins":                lettersEither,
		"what was applied is not set aside":                  lettersApplied,
		"a failure to apply a letter keeps it":               lettersKept,
		"a discarded event never takes effect":               lettersDiscard,
		"a failing or waiting event can be discarded":        lettersDiscardEarly,
		"a message that cannot be read holds up nothing":     lettersUnreadable,
		"what is odd is kept all the same":                   lettersOdd,
		"a letter is the event as it was":                    lettersFaithful,
		"the list has what needs attention":                  lettersList,
		"what does not exist is said so":                     lettersUnknown,
		"everything dead is retried at once":                 lettersRetryAll,
		"subscribers are known by what they took in":         lettersSubscribers,
		"sweeping forgets the old, some at a time":           lettersSweep,
		"a lost connection is an outage of the dead letters": lettersOutage,
	} {
		t.Run(name, func(t *testing.T) { test(t, newDesk(open(t))) })
	}
}

// desk has three events of one aggregate, and one of another.
type desk struct {
	fixture
	Letters
	events [3]outbox.Entry
	other  outbox.Entry
}

func newDesk(h LettersHarness) desk {
	d := desk{fixture: newFixture(h), Letters: h.DeadLetters()}
	entries := outboxtest.NewEntries(10, 4)
	for i := range d.events {
		d.events[i] = entries[i]
		d.events[i].Key, d.events[i].Version = outbox.Key{Type: "order", ID: "it's ?0"}, int64(i+1)
	}
	d.other = entries[3]
	d.other.Key.ID = "another"
	return d
}

const limit = 3

var errPoison = errors.New("it's poison: ?0")

func (d desk) fail(t *testing.T, entry outbox.Entry) inbox.Letter {
	t.Helper()
	letter, err := d.Fail(t.Context(), subscriber, entry, inbox.Failure{Cause: errPoison, Limit: limit})
	require.NoError(t, err)
	return letter
}

func (d desk) kill(t *testing.T, entry outbox.Entry) {
	t.Helper()
	letter, err := d.Fail(t.Context(), subscriber, entry, inbox.Failure{Cause: errPoison, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, inbox.Dead, letter.State)
}

func (d desk) setAside(t *testing.T, entry outbox.Entry, want inbox.State) {
	t.Helper()
	letter, err := d.SetAside(t.Context(), subscriber, entry)
	require.NoError(t, err)
	require.Equal(t, want, letter.State)
}

func (d desk) apply(t *testing.T, entry outbox.Entry) (applied bool, err error) {
	t.Helper()
	ran := false
	applied, err = d.UnitOfWork().Once(t.Context(), subscriber, entry, func(ctx context.Context, tx inbox.Tx) error {
		ran = true
		return d.add(ctx, tx)
	})
	require.Equal(t, applied, ran)
	return applied, err
}

func (d desk) requireApply(t *testing.T, entry outbox.Entry, want bool) {
	t.Helper()
	applied, err := d.apply(t, entry)
	require.NoError(t, err)
	require.Equal(t, want, applied)
}

func (d desk) requireHeld(t *testing.T, entry outbox.Entry) {
	t.Helper()
	_, err := d.apply(t, entry)
	require.ErrorIs(t, err, inbox.ErrHeld)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
}

func (d desk) requireDue(t *testing.T, want outbox.Entry) inbox.Letter {
	t.Helper()
	letter, found, err := d.Due(t.Context(), subscriber, time.Hour)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, want.Progress(), letter.Progress())
	require.Equal(t, inbox.Retrying, letter.State)
	return letter
}

func (d desk) requireNothingDue(t *testing.T) {
	t.Helper()
	_, found, err := d.Due(t.Context(), subscriber, time.Hour)
	require.NoError(t, err)
	require.False(t, found)
}

func (d desk) requireState(t *testing.T, entry outbox.Entry, want inbox.State) inbox.Letter {
	t.Helper()
	letter, err := d.Letter(t.Context(), subscriber, entry.ID)
	require.NoError(t, err)
	require.Equal(t, want, letter.State)
	return letter
}

func (d desk) requireNoLetter(t *testing.T, entry outbox.Entry) {
	t.Helper()
	_, err := d.Letter(t.Context(), subscriber, entry.ID)
	require.ErrorIs(t, err, inbox.ErrNoLetter)
	require.Equal(t, fault.NotFound, fault.KindOf(err))
}

func (d desk) requireEffects(t *testing.T, n int64) {
	t.Helper()
	d.requireTotal(t, subscriber, Total{n * 10050, n})
}

func (d desk) retry(t *testing.T, entry outbox.Entry) {
	t.Helper()
	require.NoError(t, d.Retry(t.Context(), subscriber, entry.ID))
}

func lettersDead(t *testing.T, d desk) {
	event := d.events[0]
	for attempt := 1; attempt < limit; attempt++ {
		letter := d.fail(t, event)
		require.Equal(t, inbox.Failing, letter.State)
		require.Equal(t, attempt, letter.Attempts)
		require.True(t, letter.DeadAt.IsZero())
	}
	letter := d.fail(t, event)
	require.Equal(t, inbox.Dead, letter.State)
	require.Equal(t, limit, letter.Attempts)
	require.Equal(t, errPoison.Error(), letter.Error)
	require.WithinDuration(t, time.Now(), letter.DeadAt, time.Minute)
	require.Equal(t, inbox.Dead, d.fail(t, event).State, "a copy that was late")
	require.Equal(t, limit, d.requireState(t, event, inbox.Dead).Attempts)

	d.requireApply(t, event, false) // it comes again, because the acknowledgement was lost
	d.setAside(t, event, inbox.Dead)
	d.requireEffects(t, 0)
	applied, err := d.UnitOfWork().Once(t.Context(), "shipping", event, d.add)
	require.NoError(t, err)
	require.True(t, applied, "it is dead for one subscriber")
}

func lettersSuccess(t *testing.T, d desk) {
	for _, event := range d.events {
		d.fail(t, event)
		d.fail(t, event)
		d.requireApply(t, event, true)
		d.requireApply(t, event, false)
		d.requireNoLetter(t, event)
	}
	d.requireEffects(t, 3)
	d.requireNothingDue(t)
}

func lettersHeld(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.requireHeld(t, d.events[1])
	d.requireHeld(t, d.events[2])
	d.requireApply(t, d.other, true)
	applied, err := d.UnitOfWork().Once(t.Context(), "shipping", d.events[1], d.add)
	require.NoError(t, err)
	require.True(t, applied, "it is held for one subscriber")
	earlier := d.events[0]
	earlier.Position--
	earlier.ID = d.entry.ID
	d.requireApply(t, earlier, true)

	for range 2 {
		d.setAside(t, d.events[1], inbox.Waiting)
		d.requireApply(t, d.events[1], false)
	}
	d.requireHeld(t, d.events[2])
	d.requireNothingDue(t)
	d.requireEffects(t, 2)
}

func lettersHeldFailure(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	require.Equal(t, inbox.Waiting, d.fail(t, d.events[1]).State)
	d.requireApply(t, d.events[1], false)
	require.Equal(t, inbox.Failing, d.fail(t, d.other).State)
}

func lettersRetry(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.setAside(t, d.events[1], inbox.Waiting)
	d.setAside(t, d.events[2], inbox.Waiting)
	d.requireNothingDue(t)
	d.retry(t, d.events[0])
	later := newEntry(99)
	later.Key = d.events[0].Key
	d.requireHeld(t, later)
	for i, event := range d.events {
		letter := d.requireDue(t, event)
		require.Zero(t, letter.Attempts)
		d.requireNothingDue(t)
		d.requireApply(t, letter.Entry, true)
		d.requireApply(t, event, false)
		d.requireNoLetter(t, event)
		d.requireEffects(t, int64(i)+1)
	}
	d.requireNothingDue(t)
	dead, err := d.CountDead(t.Context(), subscriber)
	require.NoError(t, err)
	require.Zero(t, dead)
}

func lettersRetryFails(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.setAside(t, d.events[1], inbox.Waiting)
	d.retry(t, d.events[0])
	d.requireDue(t, d.events[0])
	for attempt := 1; attempt < limit; attempt++ {
		letter := d.fail(t, d.events[0])
		require.Equal(t, inbox.Retrying, letter.State)
		require.Equal(t, attempt, letter.Attempts)
		d.requireDue(t, d.events[0])
	}
	letter, err := d.Fail(t.Context(), subscriber, d.events[0], inbox.Failure{Cause: errPoison, Limit: limit + 1, Wait: time.Hour})
	require.NoError(t, err)
	require.Equal(t, inbox.Retrying, letter.State)
	d.requireNothingDue(t)
	require.Equal(t, inbox.Dead, d.fail(t, d.events[0]).State)
	d.requireNothingDue(t)
	d.requireState(t, d.events[1], inbox.Waiting)
	d.requireEffects(t, 0)
}

func lettersLease(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.kill(t, d.other)
	d.retry(t, d.events[0])
	d.retry(t, d.other)
	var claimed sync.Map
	var copies sync.WaitGroup
	for range 8 {
		copies.Go(func() {
			letter, found, err := d.Due(t.Context(), subscriber, time.Hour)
			if err != nil {
				t.Error(err)
			} else if _, twice := claimed.LoadOrStore(letter.ID, true); found && twice {
				t.Errorf("%s was handed out twice", letter.ID)
			}
		})
	}
	copies.Wait()
	for _, entry := range []outbox.Entry{d.events[0], d.other} {
		_, found := claimed.Load(entry.ID)
		require.True(t, found)
	}
	d.kill(t, d.other)
	d.retry(t, d.other)
	for range 3 { // a lease that has ended
		letter, found, err := d.Due(t.Context(), subscriber, 0)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, d.other.ID, letter.ID)
	}
}

func lettersConcurrently(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.retry(t, d.events[0])
	var copies sync.WaitGroup
	for range 16 {
		copies.Go(func() {
			if _, err := d.UnitOfWork().Once(t.Context(), subscriber, d.events[0], d.add); err != nil {
				t.Error(err)
			}
		})
	}
	copies.Wait()
	d.requireEffects(t, 1)
	d.requireNoLetter(t, d.events[0])
}

// lettersRace : while an event is applied, or discarded, the next one is put behind it. It gets its turn, whichever was
// first.
func lettersRace(t *testing.T, d desk) {
	const rounds = 40
	entries := outboxtest.NewEntries(100, rounds)
	for i := range entries {
		entries[i].Key = d.events[0].Key
	}
	d.kill(t, entries[0])
	d.retry(t, entries[0])
	for i := range rounds - 1 {
		d.requireDue(t, entries[i])
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := d.SetAside(t.Context(), subscriber, entries[i+1]); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = d.UnitOfWork().Once(t.Context(), subscriber, entries[i], d.add)
			} else {
				err = d.Discard(t.Context(), subscriber, entries[i].ID)
			}
			if err != nil {
				t.Error(err)
			}
		})
		both.Wait()
	}
	d.requireDue(t, entries[rounds-1])
	d.requireEffects(t, rounds/2)
}

// lettersEither : an operator discards an event while a copy applies it.
func lettersEither(t *testing.T, d desk) {
	effects := int64(0)
	for _, entry := range outboxtest.NewEntries(100, 40) {
		d.kill(t, entry)
		d.retry(t, entry)
		var applied bool
		var discarding, applying error
		var both sync.WaitGroup
		both.Go(func() { discarding = d.Discard(t.Context(), subscriber, entry.ID) })
		both.Go(func() { applied, applying = d.UnitOfWork().Once(t.Context(), subscriber, entry, d.add) })
		both.Wait()
		require.NoError(t, applying)
		if applied {
			effects++
			require.ErrorIs(t, discarding, inbox.ErrNoLetter)
			d.requireNoLetter(t, entry)
		} else {
			require.NoError(t, discarding)
			d.requireState(t, entry, inbox.Discarded)
		}
		d.requireEffects(t, effects)
	}
}

func lettersApplied(t *testing.T, d desk) {
	d.requireApply(t, d.events[0], true)
	require.Equal(t, inbox.Applied, d.fail(t, d.events[0]).State)
	d.setAside(t, d.events[0], inbox.Applied)
	d.requireNoLetter(t, d.events[0])
	d.requireApply(t, d.events[1], true)

	// A copy is about to apply the event while another one gives it up.
	decided := make(chan inbox.Letter, 1)
	_, err := d.UnitOfWork().Once(t.Context(), subscriber, d.other, func(ctx context.Context, tx inbox.Tx) error {
		go func() {
			letter, err := d.Fail(context.WithoutCancel(ctx), subscriber, d.other, inbox.Failure{Cause: errPoison, Limit: 1})
			if err != nil {
				t.Error(err)
			}
			decided <- letter
		}()
		require.Never(t, func() bool { return len(decided) > 0 }, soon, soon/4, "it has to wait")
		return d.add(ctx, tx)
	})
	require.NoError(t, err)
	require.Equal(t, inbox.Applied, (<-decided).State)
	d.requireNoLetter(t, d.other)
	d.requireEffects(t, 3)
}

func lettersKept(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.setAside(t, d.events[1], inbox.Waiting)
	d.retry(t, d.events[0])
	requireKept := func() {
		t.Helper()
		d.requireState(t, d.events[0], inbox.Retrying)
		d.requireState(t, d.events[1], inbox.Waiting)
		d.requireEffects(t, 0)
	}
	_, err := d.UnitOfWork().Once(t.Context(), subscriber, d.events[0], func(ctx context.Context, tx inbox.Tx) error {
		return errors.Join(d.add(ctx, tx), errMine)
	})
	require.ErrorIs(t, err, errMine)
	requireKept()
	d.FailNextCommit(t)
	_, err = d.UnitOfWork().Once(t.Context(), subscriber, d.events[0], d.add)
	require.Error(t, err)
	requireKept()
	d.requireApply(t, d.events[0], true)
	d.requireApply(t, d.events[1], true)
	d.requireEffects(t, 2)
}

func lettersDiscard(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.setAside(t, d.events[1], inbox.Waiting)
	d.setAside(t, d.events[2], inbox.Waiting)
	require.NoError(t, d.Discard(t.Context(), subscriber, d.events[0].ID))
	require.ErrorIs(t, d.Discard(t.Context(), subscriber, d.events[0].ID), inbox.ErrNoLetter)
	require.ErrorIs(t, d.Retry(t.Context(), subscriber, d.events[0].ID), inbox.ErrNoLetter)
	d.requireState(t, d.events[0], inbox.Discarded)
	for range 2 {
		d.requireApply(t, d.events[0], false) // the stream healed, say
		require.Equal(t, inbox.Discarded, d.fail(t, d.events[0]).State)
	}
	for _, event := range d.events[1:] {
		d.requireDue(t, event)
		d.requireApply(t, event, true)
	}
	d.requireEffects(t, 2)
}

func lettersDiscardEarly(t *testing.T, d desk) {
	d.fail(t, d.other)
	require.NoError(t, d.Discard(t.Context(), subscriber, d.other.ID))
	d.requireApply(t, d.other, false)

	d.kill(t, d.events[0])
	d.setAside(t, d.events[1], inbox.Waiting)
	d.setAside(t, d.events[2], inbox.Waiting)
	require.NoError(t, d.Discard(t.Context(), subscriber, d.events[1].ID))
	d.requireNothingDue(t)
	d.retry(t, d.events[0])
	d.requireApply(t, d.requireDue(t, d.events[0]).Entry, true)
	d.requireApply(t, d.requireDue(t, d.events[2]).Entry, true)
	d.requireApply(t, d.events[1], false)
	d.requireEffects(t, 2)
}

func lettersUnreadable(t *testing.T, d desk) {
	message := outbox.Message{ID: "unreadable-17-abc", Subject: "orders.stray", Headers: map[string]string{"X": "1\n2"}, Payload: []byte{0, 0xff}}
	for range 2 {
		require.NoError(t, d.Reject(t.Context(), subscriber, message, inbox.ErrUnreadable))
	}
	letters, err := d.Letters.Letters(t.Context(), subscriber, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, message, letters[0].Message)
	require.Equal(t, inbox.Dead, letters[0].State)
	require.Equal(t, inbox.ErrUnreadable.Error(), letters[0].Error)
	require.False(t, letters[0].Readable())
	d.requireApply(t, d.other, true)
	require.ErrorIs(t, d.Retry(t.Context(), subscriber, message.ID), inbox.ErrNotDead)
	retried, err := d.RetryAll(t.Context(), subscriber)
	require.NoError(t, err)
	require.Zero(t, retried)
	require.NoError(t, d.Discard(t.Context(), subscriber, message.ID))
	require.NoError(t, d.Reject(t.Context(), subscriber, message, inbox.ErrUnreadable))
	letters, err = d.Letters.Letters(t.Context(), subscriber, 10)
	require.NoError(t, err)
	require.Empty(t, letters)
}

// lettersOdd : whatever a stranger writes must not stop the subscriber.
func lettersOdd(t *testing.T, d desk) {
	odd := d.events[0]
	odd.ID, odd.Key.ID, odd.Subject = "not a\x00 UUID\xff", "\x00\xff", "\xff"
	odd.Headers = map[string]string{"\xff": "\x00"}
	odd.Payload = nil
	for range limit - 1 {
		require.Equal(t, inbox.Failing, d.fail(t, odd).State)
	}
	require.Equal(t, inbox.Dead, d.fail(t, odd).State)
	require.Equal(t, inbox.Dead, d.fail(t, odd).State)
	require.NoError(t, d.Reject(t.Context(), subscriber, outbox.Message{ID: "unreadable", Headers: odd.Headers}, errors.New("\xff\x00")))
	dead, err := d.CountDead(t.Context(), subscriber)
	require.NoError(t, err)
	require.Equal(t, 2, dead)
	require.NoError(t, d.Discard(t.Context(), subscriber, odd.ID))
}

func lettersFaithful(t *testing.T, d desk) {
	event := d.events[0]
	event.Headers = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X": `"?0'`}
	event.Payload = []byte("{\"a\":  \"\\u00e9\x00\xff ?0\"}")
	d.kill(t, event)
	d.retry(t, event)
	letter := d.requireDue(t, event)
	require.True(t, event.RecordedAt.Equal(letter.RecordedAt))
	letter.RecordedAt = event.RecordedAt
	require.Equal(t, event, letter.Entry)
}

func lettersList(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.setAside(t, d.events[1], inbox.Waiting)
	d.setAside(t, d.events[2], inbox.Waiting)
	d.fail(t, d.other)
	retrying := newEntry(1)
	d.kill(t, retrying)
	d.retry(t, retrying)
	discarded := newEntry(2)
	discarded.Key.ID = "yet another"
	d.kill(t, discarded)
	require.NoError(t, d.Discard(t.Context(), subscriber, discarded.ID))
	_, err := d.Fail(t.Context(), "shipping", newEntry(3), inbox.Failure{Cause: errPoison, Limit: 1})
	require.NoError(t, err)

	letters, err := d.Letters.Letters(t.Context(), subscriber, 10)
	require.NoError(t, err)
	var seen []string
	for _, letter := range letters {
		seen = append(seen, fmt.Sprintf("%d %s %d", letter.Position, letter.State, letter.Behind))
	}
	require.Equal(t, []string{"1 retrying 0", "11 dead 2", "14 failing 0"}, seen)
	require.WithinDuration(t, time.Now(), letters[1].FirstFailedAt, time.Minute)
	require.WithinDuration(t, time.Now(), letters[1].DeadAt, time.Minute)
	require.Equal(t, 2, d.requireState(t, d.events[0], inbox.Dead).Behind)
	letters, err = d.Letters.Letters(t.Context(), subscriber, 2)
	require.NoError(t, err)
	require.Len(t, letters, 2)
	dead, err := d.CountDead(t.Context(), subscriber)
	require.NoError(t, err)
	require.Equal(t, 1, dead)
}

func lettersUnknown(t *testing.T, d desk) {
	for _, id := range []string{d.other.ID, "", "not a UUID"} {
		require.ErrorIs(t, d.Retry(t.Context(), subscriber, id), inbox.ErrNoLetter)
		require.ErrorIs(t, d.Discard(t.Context(), subscriber, id), inbox.ErrNoLetter)
	}
	d.requireNoLetter(t, d.other)
	d.kill(t, d.events[0])
	require.ErrorIs(t, d.Retry(t.Context(), "shipping", d.events[0].ID), inbox.ErrNoLetter)
	d.setAside(t, d.events[1], inbox.Waiting)
	d.fail(t, d.other)
	d.retry(t, d.events[0])
	for _, entry := range []outbox.Entry{d.events[0], d.events[1], d.other} { // retrying, waiting, failing
		require.ErrorIs(t, d.Retry(t.Context(), subscriber, entry.ID), inbox.ErrNotDead)
	}
}

func lettersRetryAll(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.setAside(t, d.events[1], inbox.Waiting)
	d.kill(t, d.other)
	retried, err := d.RetryAll(t.Context(), subscriber)
	require.NoError(t, err)
	require.Equal(t, 2, retried)
	for range 3 {
		letter, found, err := d.Due(t.Context(), subscriber, time.Hour)
		require.NoError(t, err)
		require.True(t, found)
		d.requireApply(t, letter.Entry, true)
	}
	d.requireNothingDue(t)
	d.requireEffects(t, 3)
}

func lettersSubscribers(t *testing.T, d desk) {
	names, err := d.Subscribers(t.Context())
	require.NoError(t, err)
	require.Empty(t, names)
	for _, name := range []string{"b", "a", "b", "c"} {
		_, err := d.UnitOfWork().Once(t.Context(), name, newEntry(1), d.add)
		require.NoError(t, err)
	}
	_, err = d.Fail(t.Context(), "bb", d.other, inbox.Failure{Cause: errPoison, Limit: 2})
	require.NoError(t, err)
	names, err = d.Subscribers(t.Context())
	require.NoError(t, err)
	require.Equal(t, "a b bb c", strings.Join(names, " "))
}

func lettersSweep(t *testing.T, d desk) {
	sweep := func(age time.Duration, want int) {
		t.Helper()
		swept, err := d.Sweep(t.Context(), subscriber, age, 5)
		require.NoError(t, err)
		require.Equal(t, want, swept)
	}
	many := outboxtest.NewEntries(100, 7)
	for _, entry := range many {
		d.requireApply(t, entry, true)
	}
	d.kill(t, d.events[0])
	d.setAside(t, d.events[1], inbox.Waiting)
	d.fail(t, d.other)
	_, err := d.UnitOfWork().Once(t.Context(), "shipping", many[0], d.add)
	require.NoError(t, err)
	sweep(time.Hour, 0)
	time.Sleep(2 * time.Millisecond)
	sweep(time.Microsecond, 5)
	sweep(time.Microsecond, 2)
	sweep(time.Microsecond, 0)
	applied, err := d.UnitOfWork().Once(t.Context(), "shipping", many[0], d.add)
	require.NoError(t, err)
	require.False(t, applied, "another subscriber's")
	d.requireApply(t, d.events[0], false)
	d.requireApply(t, d.events[1], false)

	require.NoError(t, d.Discard(t.Context(), subscriber, d.events[0].ID))
	sweep(time.Hour, 0)
	time.Sleep(2 * time.Millisecond)
	sweep(time.Microsecond, 1)
	d.requireNoLetter(t, d.events[0])
	d.requireApply(t, d.events[0], true) // it came again when it was forgotten
	d.requireState(t, d.events[1], inbox.Retrying)
	d.requireState(t, d.other, inbox.Failing)
}

func lettersOutage(t *testing.T, d desk) {
	d.kill(t, d.events[0])
	d.Disconnect(t)
	failed := make(map[string]error)
	_, failed["Fail"] = d.Fail(t.Context(), subscriber, d.events[0], inbox.Failure{Cause: errPoison, Limit: 1})
	_, failed["SetAside"] = d.SetAside(t.Context(), subscriber, d.events[1])
	failed["Reject"] = d.Reject(t.Context(), subscriber, d.other.Message, errPoison)
	_, _, failed["Due"] = d.Due(t.Context(), subscriber, time.Hour)
	_, failed["Letters"] = d.Letters.Letters(t.Context(), subscriber, 1)
	_, failed["Letter"] = d.Letter(t.Context(), subscriber, d.events[0].ID)
	failed["Retry"] = d.Retry(t.Context(), subscriber, d.events[0].ID)
	_, failed["RetryAll"] = d.RetryAll(t.Context(), subscriber)
	failed["Discard"] = d.Discard(t.Context(), subscriber, d.events[0].ID)
	_, failed["CountDead"] = d.CountDead(t.Context(), subscriber)
	_, failed["Subscribers"] = d.Subscribers(t.Context())
	_, failed["Sweep"] = d.Sweep(t.Context(), subscriber, time.Hour, 1)
	d.Reconnect(t)
	for call, err := range failed {
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%s: %v", call, err)
	}
	d.requireState(t, d.events[0], inbox.Dead)
}
