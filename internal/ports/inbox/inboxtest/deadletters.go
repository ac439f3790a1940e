package inboxtest

import (
	"context"
	"errors"
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
		"a long aggregate id is kept":                        lettersLongAggregate,
		"a long event id is kept":                            lettersLongID,
		"a time that no calendar has is kept":                lettersOddTime,
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
