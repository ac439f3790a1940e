package inboxtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

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

// long returns text of n bytes that cannot be compressed.
func long(n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = 'a' + byte(rand.IntN(26))
	}
	return string(text)
}

// lettersLongAggregate takes an id that an index of the outbox holds, but none with a subscriber beside it, and then one that
// no index holds.
func lettersLongAggregate(t *testing.T, d desk) {
	for _, key := range []outbox.Key{{Type: "order", ID: long(2672)}, {Type: long(20_000), ID: long(30_000)}} {
		first, second := newEntry(20), newEntry(21)
		first.Key, second.Key = key, key
		d.kill(t, first)
		d.requireHeld(t, second)
		d.setAside(t, second, inbox.Waiting)
		d.requireNothingDue(t)
		d.retry(t, first)
		require.Equal(t, key, d.requireDue(t, first).Key)
		d.requireApply(t, first, true)
		d.requireApply(t, d.requireDue(t, second).Entry, true)
	}
	d.requireApply(t, d.other, true)
}

// lettersLongID is about a message of a stranger: events of the engine have UUIDs.
func lettersLongID(t *testing.T, d desk) {
	strange, another := d.other, d.events[0]
	strange.ID, another.ID = long(12_000), long(12_000)
	for range limit - 1 {
		require.Equal(t, inbox.Failing, d.fail(t, strange).State)
	}
	d.kill(t, another)
	letter := d.fail(t, strange)
	require.Equal(t, inbox.Dead, letter.State)
	require.Equal(t, limit, letter.Attempts)
	for _, id := range []string{strange.ID, letter.ID} {
		found, err := d.Letter(t.Context(), subscriber, id)
		require.NoError(t, err)
		require.Equal(t, strange.Position, found.Position)
	}
	require.NoError(t, d.Retry(t.Context(), subscriber, letter.ID))
	d.requireState(t, strange, inbox.Retrying)
	require.NoError(t, d.Discard(t.Context(), subscriber, letter.ID))
	d.requireState(t, strange, inbox.Discarded)
	d.requireState(t, another, inbox.Dead)
}

func lettersOddTime(t *testing.T, d desk) {
	odd := d.other
	odd.RecordedAt = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	d.kill(t, odd)
	d.requireState(t, odd, inbox.Dead)
	odd = d.events[0]
	odd.RecordedAt = time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -23*3600))
	d.kill(t, odd)
	d.requireState(t, odd, inbox.Dead)
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
