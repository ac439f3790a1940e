package relaytest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// RetentionHarness is a log from which nothing was removed, with its parking lot, cursor and lease.
type RetentionHarness interface {
	ParkingHarness
	Retention() relay.Retention
	Age(t *testing.T, by time.Duration) // moves all times in log, cursor and parking lot into the past
}

// TestRetention runs the contract of relay.Retention. Each call of open returns a new log, parking lot, cursor and
// lease.
func TestRetention(t *testing.T, open func(t *testing.T) RetentionHarness) {
	check := contracttest.Runner(t, open)
	check("entries that the cursor passed long ago are removed", retentionAge)
	check("the age counts from publishing, not from recording", retentionRecorded)
	check("the age starts again for entries that the cursor passes again", retentionBack)
	check("entries that the cursor has not passed stay", retentionBeyond)
	check("entries are removed in portions, lowest positions first", retentionPortions)
	check("events that wait in the parking lot stay", retentionWaiting)
	check("a redriven or discarded event ages from then", retentionDealtWith)
	check("Purge does not change the revision", retentionRevision)
	check("a former leader removes nothing", retentionFenced)
	check("an ended context and a lost connection are errors", retentionFailures)
}

// minAge is the retention of the tests.
const minAge = time.Hour

// retentionLeader is a leader that removes old entries.
type retentionLeader struct {
	*leader
	h RetentionHarness
}

func leadRetention(t *testing.T, h RetentionHarness) retentionLeader {
	t.Helper()
	return retentionLeader{lead(t, h), h}
}

func (l retentionLeader) purge(want int) {
	l.t.Helper()
	removed, err := l.h.Retention().Purge(l.t.Context(), l.term.Token, minAge, 1000)
	require.NoError(l.t, err)
	require.Equal(l.t, want, removed)
}

func (l retentionLeader) age(by time.Duration) {
	l.t.Helper()
	l.h.Age(l.t, by)
}

// pass moves the cursor to entry.
func (l retentionLeader) pass(entry outbox.Entry) {
	l.t.Helper()
	save(l.t, l.h, l.term, relay.Cursor{Progress: entry.Progress(), StreamCreated: "x", StreamSequence: 9 + uint64(entry.Position)})
}

// requireLog requires exactly these entries in the log, and this PurgedTo.
func (l retentionLeader) requireLog(purgedTo outbox.Position, want ...outbox.Entry) {
	l.t.Helper()
	require.Equal(l.t, ids(want), ids(readAll(l.t, l.h)))
	require.Equal(l.t, purgedTo, load(l.t, l.h).PurgedTo)
}

func retentionAge(t *testing.T, h RetentionHarness) {
	l, log := leadRetention(t, h), events(t, h, "a", "b", "a", "c")
	l.purge(0)
	l.pass(log[2])
	l.purge(0)
	l.age(minAge - time.Minute)
	l.purge(0)
	l.requireLog(0, log...)
	l.age(2 * time.Minute)
	l.purge(3)
	l.requireLog(log[2].Position, log[3])
	l.purge(0)

	for _, from := range []outbox.Progress{{}, {Position: log[2].Position}, log[2].Progress(), log[0].Progress()} {
		rest, err := h.Log().After(t.Context(), from, plenty)
		require.NoError(t, err)
		require.Equal(t, ids(log[3:]), ids(rest.Entries))
	}
	l.pass(log[3])
	l.age(minAge + time.Minute)
	l.purge(0)
	l.age(minAge + time.Minute)
	l.purge(1)
	l.requireLog(log[3].Position)
}

func retentionRecorded(t *testing.T, h RetentionHarness) {
	l, log := leadRetention(t, h), events(t, h, "a", "b")
	l.purge(0)
	l.age(100 * minAge)
	l.pass(log[1])
	l.purge(0)
	l.purge(0)
	l.requireLog(0, log...)
	l.age(minAge + time.Minute)
	l.purge(2)
	l.requireLog(log[1].Position)
}

func retentionBack(t *testing.T, h RetentionHarness) {
	l, log := leadRetention(t, h), events(t, h, "a", "b", "c")
	l.pass(log[2])
	l.purge(0)
	l.age(minAge - time.Minute)
	l.pass(log[0])
	l.pass(log[2])
	l.age(2 * time.Minute)
	l.purge(1)
	l.requireLog(log[0].Position, log[1:]...)
	l.age(minAge - time.Minute)
	l.purge(0)
	l.age(2 * time.Minute)
	l.purge(2)
	l.requireLog(log[2].Position)
}

func retentionBeyond(t *testing.T, h RetentionHarness) {
	l, log := leadRetention(t, h), events(t, h, "a", "b", "c")
	l.age(2 * minAge)
	l.purge(0)
	l.purge(0)
	l.requireLog(0, log...)
	l.pass(log[0])
	l.purge(0)
	l.pass(log[1])
	l.age(minAge - time.Minute)
	l.purge(0)
	l.requireLog(0, log...)
	l.age(2 * time.Minute)
	l.purge(1)
	l.requireLog(log[0].Position, log[1:]...)
}

func retentionPortions(t *testing.T, h RetentionHarness) {
	l, log := leadRetention(t, h), events(t, h, "a", "b", "c", "d", "e", "f")
	l.park(log[0], log[3])
	l.discard(log[0])
	l.discard(log[3])
	l.pass(log[4])
	l.purge(0)
	l.age(2 * minAge)
	for gone, portion := range []int{2, 2, 1, 0} {
		removed, err := h.Retention().Purge(t.Context(), l.term.Token, minAge, 2)
		require.NoError(t, err)
		require.Equal(t, portion, removed)
		last := min(2*gone+1, 4)
		l.requireLog(log[last].Position, log[last+1:]...)
	}
}

func retentionWaiting(t *testing.T, h RetentionHarness) {
	l, log := leadRetention(t, h), events(t, h, "parked", "a", "redrive", "b", "parked too", "c")
	l.park(log[0], log[2], log[4])
	_, err := h.ParkingAdmin().Redrive(t.Context(), &log[2].Key)
	require.NoError(t, err)
	l.pass(log[4])
	l.purge(0)
	l.age(100 * minAge)
	l.purge(2)
	l.requireLog(log[3].Position, log[0], log[2], log[4], log[5])
	l.age(100 * minAge)
	l.purge(0)
	l.requireWaiting(parked(log[0]), toRedrive(log[2]), parked(log[4]))
	rest, err := h.Log().After(t.Context(), log[3].Progress(), plenty)
	require.NoError(t, err)
	require.Equal(t, ids(log[4:]), ids(rest.Entries))
	require.Equal(t, positions(log[2]), l.next(log[5].Position))
}

func retentionDealtWith(t *testing.T, h RetentionHarness) {
	l, log := leadRetention(t, h), events(t, h, "redriven", "a", "discarded", "a", "later")
	l.park(log[0], log[2])
	_, err := h.ParkingAdmin().Redrive(t.Context(), &log[0].Key)
	require.NoError(t, err)
	l.pass(log[3])
	l.purge(0)
	l.age(100 * minAge)
	l.reconcile(redrivenEvent(log[0], log[3]), 7)
	l.discard(log[2])
	l.purge(2)
	l.requireLog(log[3].Position, log[0], log[2], log[4])
	l.age(minAge - time.Minute)
	l.purge(0)
	l.requireLog(log[3].Position, log[0], log[2], log[4])
	l.age(minAge + 2*time.Minute)
	l.purge(2)
	l.requireLog(log[3].Position, log[4])

	require.False(t, l.reconcile(relay.MessageMeta{}, 0), "the parking lot is empty too")
	require.Empty(t, l.waiting())
}

func retentionRevision(t *testing.T, h RetentionHarness) {
	l, log := leadRetention(t, h), events(t, h, "a", "b", "c")
	l.pass(log[1])
	before := load(t, h)
	l.purge(0)
	require.Equal(t, before, load(t, h))
	l.age(2 * minAge)
	l.purge(2)
	before.PurgedTo, before.EventID = log[1].Position, ""
	require.Equal(t, before, load(t, h), "the rest of the cursor stays")
	saved, err := h.Store().Save(t.Context(), relay.WriteFence{Token: l.term.Token, Revision: before.Revision},
		relay.Cursor{Progress: log[2].Progress(), StreamCreated: "x", StreamSequence: 10})
	require.NoError(t, err)
	require.Equal(t, log[1].Position, saved.PurgedTo)
}

func retentionFenced(t *testing.T, h RetentionHarness) {
	_, err := h.Retention().Purge(t.Context(), 1, 0, 10)
	require.ErrorIs(t, err, relay.ErrLeaseLost, "nobody ever led")
	l, log := leadRetention(t, h), events(t, h, "a", "b")
	l.pass(log[0])
	l.purge(0)
	l.age(2 * minAge)
	h.Advance(t, h.TTL()+time.Second)
	successor := acquire(t, h, "instance-2")
	_, err = h.Retention().Purge(t.Context(), l.term.Token, minAge, 10)
	require.ErrorIs(t, err, relay.ErrLeaseLost)
	l.requireLog(0, log...)
	removed, err := h.Retention().Purge(t.Context(), successor.Token, minAge, 10)
	require.NoError(t, err)
	require.Equal(t, 1, removed)
}

func retentionFailures(t *testing.T, h RetentionHarness) {
	l, log := leadRetention(t, h), events(t, h, "a", "b")
	l.pass(log[0])
	l.purge(0)
	l.age(2 * minAge)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := h.Retention().Purge(ended, l.term.Token, minAge, 10)
	require.ErrorIs(t, err, context.Canceled)
	h.Disconnect(t)
	_, err = h.Retention().Purge(t.Context(), l.term.Token, minAge, 10)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	h.Reconnect(t)
	l.requireLog(0, log...)
	l.purge(1)
}
