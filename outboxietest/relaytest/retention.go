package relaytest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
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
	runSuite(t, open, []promise[RetentionHarness]{
		{"entries that the cursor passed long ago are removed", retentionAge},
		{"the age counts from publishing, not from recording", retentionRecorded},
		{"the age starts again for entries that the cursor passes again", retentionBack},
		{"entries that the cursor has not passed stay", retentionBeyond},
		{"entries are removed in portions, lowest positions first", retentionPortions},
		{"events that wait in the parking lot stay", retentionWaiting},
		{"a redriven or discarded event ages from then", retentionDealtWith},
		{"Purge does not change the revision", retentionRevision},
		{"a former leader removes nothing", retentionFenced},
		{"an ended context and a lost connection are errors", retentionFailures},
	})
}

// kept is the retention of the tests.
const kept = time.Hour

// keeper is a leader that removes old entries.
type keeper struct {
	*leader
	h RetentionHarness
}

func keep(t *testing.T, h RetentionHarness) keeper {
	t.Helper()
	return keeper{lead(t, h), h}
}

func (k keeper) purge(want int) {
	k.t.Helper()
	removed, err := k.h.Retention().Purge(k.t.Context(), k.term.Token, kept, 1000)
	require.NoError(k.t, err)
	require.Equal(k.t, want, removed)
}

func (k keeper) age(by time.Duration) {
	k.t.Helper()
	k.h.Age(k.t, by)
}

// pass moves the cursor to entry.
func (k keeper) pass(entry outbox.Entry) {
	k.t.Helper()
	save(k.t, k.h, k.term, relay.Cursor{Progress: entry.Progress(), StreamCreated: "x", StreamSequence: 9 + uint64(entry.Position)})
}

// requireLog requires exactly these entries in the log, and this PurgedTo.
func (k keeper) requireLog(purgedTo outbox.Position, want ...outbox.Entry) {
	k.t.Helper()
	require.Equal(k.t, ids(want), ids(readAll(k.t, k.h)))
	require.Equal(k.t, purgedTo, load(k.t, k.h).PurgedTo)
}

func retentionAge(t *testing.T, h RetentionHarness) {
	k, log := keep(t, h), events(t, h, "a", "b", "a", "c")
	k.purge(0)
	k.pass(log[2])
	k.purge(0)
	k.age(kept - time.Minute)
	k.purge(0)
	k.requireLog(0, log...)
	k.age(2 * time.Minute)
	k.purge(3)
	k.requireLog(log[2].Position, log[3])
	k.purge(0)

	for _, from := range []outbox.Progress{{}, {Position: log[2].Position}, log[2].Progress(), log[0].Progress()} {
		rest, err := h.Log().After(t.Context(), from, plenty)
		require.NoError(t, err)
		require.Equal(t, ids(log[3:]), ids(rest.Entries))
	}
	k.pass(log[3])
	k.age(kept + time.Minute)
	k.purge(0)
	k.age(kept + time.Minute)
	k.purge(1)
	k.requireLog(log[3].Position)
}

func retentionRecorded(t *testing.T, h RetentionHarness) {
	k, log := keep(t, h), events(t, h, "a", "b")
	k.purge(0)
	k.age(100 * kept)
	k.pass(log[1])
	k.purge(0)
	k.purge(0)
	k.requireLog(0, log...)
	k.age(kept + time.Minute)
	k.purge(2)
	k.requireLog(log[1].Position)
}

func retentionBack(t *testing.T, h RetentionHarness) {
	k, log := keep(t, h), events(t, h, "a", "b", "c")
	k.pass(log[2])
	k.purge(0)
	k.age(kept - time.Minute)
	k.pass(log[0])
	k.pass(log[2])
	k.age(2 * time.Minute)
	k.purge(1)
	k.requireLog(log[0].Position, log[1:]...)
	k.age(kept - time.Minute)
	k.purge(0)
	k.age(2 * time.Minute)
	k.purge(2)
	k.requireLog(log[2].Position)
}

func retentionBeyond(t *testing.T, h RetentionHarness) {
	k, log := keep(t, h), events(t, h, "a", "b", "c")
	k.age(2 * kept)
	k.purge(0)
	k.purge(0)
	k.requireLog(0, log...)
	k.pass(log[0])
	k.purge(0)
	k.pass(log[1])
	k.age(kept - time.Minute)
	k.purge(0)
	k.requireLog(0, log...)
	k.age(2 * time.Minute)
	k.purge(1)
	k.requireLog(log[0].Position, log[1:]...)
}

func retentionPortions(t *testing.T, h RetentionHarness) {
	k, log := keep(t, h), events(t, h, "a", "b", "c", "d", "e", "f")
	k.park(log[0], log[3])
	k.discard(log[0])
	k.discard(log[3])
	k.pass(log[4])
	k.purge(0)
	k.age(2 * kept)
	for gone, portion := range []int{2, 2, 1, 0} {
		removed, err := h.Retention().Purge(t.Context(), k.term.Token, kept, 2)
		require.NoError(t, err)
		require.Equal(t, portion, removed)
		last := min(2*gone+1, 4)
		k.requireLog(log[last].Position, log[last+1:]...)
	}
}

func retentionWaiting(t *testing.T, h RetentionHarness) {
	k, log := keep(t, h), events(t, h, "parked", "a", "redrive", "b", "parked too", "c")
	k.park(log[0], log[2], log[4])
	_, err := h.ParkingAdmin().Redrive(t.Context(), &log[2].Key)
	require.NoError(t, err)
	k.pass(log[4])
	k.purge(0)
	k.age(100 * kept)
	k.purge(2)
	k.requireLog(log[3].Position, log[0], log[2], log[4], log[5])
	k.age(100 * kept)
	k.purge(0)
	k.requireWaiting(parked(log[0]), toRedrive(log[2]), parked(log[4]))
	rest, err := h.Log().After(t.Context(), log[3].Progress(), plenty)
	require.NoError(t, err)
	require.Equal(t, ids(log[4:]), ids(rest.Entries))
	require.Equal(t, positions(log[2]), k.next(log[5].Position))
}

func retentionDealtWith(t *testing.T, h RetentionHarness) {
	k, log := keep(t, h), events(t, h, "redriven", "a", "discarded", "a", "later")
	k.park(log[0], log[2])
	_, err := h.ParkingAdmin().Redrive(t.Context(), &log[0].Key)
	require.NoError(t, err)
	k.pass(log[3])
	k.purge(0)
	k.age(100 * kept)
	k.reconcile(redrivenEvent(log[0], log[3]), 7)
	k.discard(log[2])
	k.purge(2)
	k.requireLog(log[3].Position, log[0], log[2], log[4])
	k.age(kept - time.Minute)
	k.purge(0)
	k.requireLog(log[3].Position, log[0], log[2], log[4])
	k.age(kept + 2*time.Minute)
	k.purge(2)
	k.requireLog(log[3].Position, log[4])

	require.False(t, k.reconcile(relay.MessageMeta{}, 0), "the parking lot is empty too")
	require.Empty(t, k.waiting())
}

func retentionRevision(t *testing.T, h RetentionHarness) {
	k, log := keep(t, h), events(t, h, "a", "b", "c")
	k.pass(log[1])
	before := load(t, h)
	k.purge(0)
	require.Equal(t, before, load(t, h))
	k.age(2 * kept)
	k.purge(2)
	before.PurgedTo, before.EventID = log[1].Position, ""
	require.Equal(t, before, load(t, h), "the rest of the cursor stays")
	saved, err := h.Store().Save(t.Context(), relay.WriteFence{Token: k.term.Token, Revision: before.Revision},
		relay.Cursor{Progress: log[2].Progress(), StreamCreated: "x", StreamSequence: 10})
	require.NoError(t, err)
	require.Equal(t, log[1].Position, saved.PurgedTo)
}

func retentionFenced(t *testing.T, h RetentionHarness) {
	_, err := h.Retention().Purge(t.Context(), 1, 0, 10)
	require.ErrorIs(t, err, relay.ErrLeaseLost, "nobody ever led")
	k, log := keep(t, h), events(t, h, "a", "b")
	k.pass(log[0])
	k.purge(0)
	k.age(2 * kept)
	h.Advance(t, h.TTL()+time.Second)
	successor := acquire(t, h, "instance-2")
	_, err = h.Retention().Purge(t.Context(), k.term.Token, kept, 10)
	require.ErrorIs(t, err, relay.ErrLeaseLost)
	k.requireLog(0, log...)
	removed, err := h.Retention().Purge(t.Context(), successor.Token, kept, 10)
	require.NoError(t, err)
	require.Equal(t, 1, removed)
}

func retentionFailures(t *testing.T, h RetentionHarness) {
	k, log := keep(t, h), events(t, h, "a", "b")
	k.pass(log[0])
	k.purge(0)
	k.age(2 * kept)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := h.Retention().Purge(ended, k.term.Token, kept, 10)
	require.ErrorIs(t, err, context.Canceled)
	h.Disconnect(t)
	_, err = h.Retention().Purge(t.Context(), k.term.Token, kept, 10)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	h.Reconnect(t)
	k.requireLog(0, log...)
	k.purge(1)
}
