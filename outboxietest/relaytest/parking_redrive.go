package relaytest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func parkingNext(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "a", "b", "a")
	last := log[4]
	l.park(log...)
	require.Equal(t, due{Waiting: true}, l.due(last.Position, plenty), "nobody asked")
	l.redrive(5)
	var ready due
	for range 2 {
		ready = l.due(last.Position, plenty)
		require.True(t, ready.Waiting)
		require.Equal(t, positions(log[0], log[2], log[4]), positions(ready.Redrive...), "until it was published")
	}
	require.Equal(t, log[2].Message, ready.Redrive[1].Message)
	require.True(t, log[2].RecordedAt.Equal(ready.Redrive[1].RecordedAt))

	l.reconcile(redrivenEvent(log[4], last), 12)
	l.requireWaiting(toRedrive(log[1]), toRedrive(log[3]))
	require.Equal(t, positions(log[1], log[3]), l.next(last.Position))
	l.reconcile(redrivenEvent(log[3], last), 14)
	require.Equal(t, due{}, l.due(last.Position, plenty))
	require.False(t, l.reconcile(redrivenEvent(log[3], last), 14), "nothing waits")
}

func parkingLimits(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "a", "a", "b")
	l.park(log...)
	l.redrive(5)
	size := len(log[0].Payload)
	for _, c := range []struct {
		upTo  outbox.Entry
		limit relay.ReadLimit
		want  []outbox.Position
	}{
		{log[4], relay.ReadLimit{Count: 2, Bytes: 1 << 20}, positions(log[0], log[2])},
		{log[4], relay.ReadLimit{Count: 1, Bytes: 1 << 20}, positions(log[0])},
		{log[4], relay.ReadLimit{Count: 9, Bytes: 2*size + 1}, positions(log[0], log[2])},
		{log[4], relay.ReadLimit{Count: 9, Bytes: 2 * size}, positions(log[0], log[2])},
		{log[4], relay.ReadLimit{Count: 9, Bytes: 1}, positions(log[0])},
		{log[2], plenty, positions(log[0], log[2])},
		{log[1], plenty, positions(log[0])},
		{outbox.Entry{}, plenty, nil},
	} {
		due := l.due(c.upTo.Position, c.limit)
		require.Equal(t, c.want, positions(due.Redrive...), "%+v up to %d", c.limit, c.upTo.Position)
		require.True(t, due.Waiting)
	}
}

func parkingBlocked(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "a", "a", "b")
	last := log[3]
	l.park(log[1])
	l.redrive(1)
	l.reconcile(redrivenEvent(log[1], last), 6)
	l.park(log[0], log[2], log[3])
	require.Equal(t, due{Waiting: true}, l.due(last.Position, plenty))
	l.reconcile(relay.MessageMeta{}, 5)
	l.requireWaiting(parked(log[0]), toRedrive(log[1]), parked(log[2]), parked(log[3]))
	require.Equal(t, due{Waiting: true}, l.due(last.Position, plenty), "one is parked before it")

	_, err := h.ParkingAdmin().Redrive(t.Context(), &log[3].Key)
	require.NoError(t, err)
	require.Equal(t, positions(log[3]), l.next(last.Position), "another aggregate is not held up")
	l.discard(log[0])
	require.Equal(t, positions(log[1]), l.next(last.Position), "up to the next that is parked")
	l.reconcile(redrivenEvent(log[1], last), 7)
	require.Equal(t, positions(log[3]), l.next(last.Position))
	l.redrive(1)
	require.Equal(t, positions(log[2]), l.next(last.Position))
}

func parkingCountBack(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "b", "a", "a", "b", "a", "a", "c")
	last := log[6]
	l.park(log[:6]...)
	l.redrive(6)
	all := []state{toRedrive(log[0]), toRedrive(log[1]), toRedrive(log[2]), toRedrive(log[3]), toRedrive(log[4]), toRedrive(log[5])}
	l.requireWaiting(all...)
	for range 2 {
		require.True(t, l.reconcile(redrivenEvent(log[4], last), 20))
		l.requireWaiting(all[0], all[3], all[5])
	}
	// If the stream gets shorter, the events above its end wait again.
	l.reconcile(relay.MessageMeta{}, 19)
	l.requireWaiting(all[0], all[3], all[4], all[5])
	l.reconcile(relay.MessageMeta{}, 18)
	l.requireWaiting(all[0], all[2], all[3], all[4], all[5])
	l.reconcile(relay.MessageMeta{}, 17)
	l.requireWaiting(all...)
}

func parkingLost(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "a", "c")
	last := log[3]
	l.park(log[:3]...)
	l.redrive(3)
	l.reconcile(redrivenEvent(log[2], last), 6)
	l.reconcile(redrivenEvent(log[1], last), 7)
	require.Empty(t, l.waiting())
	require.False(t, l.reconcile(redrivenEvent(log[1], last), 7))

	require.True(t, l.reconcile(redrivenEvent(log[0], last), 5), "the tail is the first of a batch again")
	l.requireWaiting(toRedrive(log[1]), toRedrive(log[2]))
	require.Equal(t, positions(log[1]), l.next(last.Position))
	l.reconcile(redrivenEvent(log[1], last), 6)
	require.Equal(t, positions(log[2]), l.next(last.Position))
	require.True(t, l.reconcile(relay.MessageMeta{}, 0), "an empty stream")
	l.requireWaiting(toRedrive(log[0]), toRedrive(log[1]), toRedrive(log[2]))
}

// parkingEnd checks that Reconcile marks no event to be redriven again if the caller is not certain where the stream ends.
func parkingEnd(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "c")
	last := log[2]
	l.park(log[:2]...)
	l.redrive(2)
	l.reconcile(redrivenEvent(log[0], last), 6)
	l.reconcile(redrivenEvent(log[1], last), 7)
	lost := func(tail relay.MessageMeta, sequence uint64) bool {
		t.Helper()
		summary, err := l.Parking().Reconcile(t.Context(), l.fence(), tail, sequence, false)
		require.NoError(t, err)
		require.False(t, summary.Waiting)
		require.Empty(t, l.waiting())
		return summary.Lost
	}
	other := relay.MessageMeta{Own: true, Progress: last.Progress(), Event: last.Position}
	require.False(t, lost(other, 8))
	require.False(t, lost(redrivenEvent(log[1], last), 7))
	require.False(t, lost(relay.MessageMeta{}, 7), "the last message has expired")
	require.True(t, lost(other, 7), "another message is there")
	require.True(t, lost(redrivenEvent(log[0], last), 6))

	require.True(t, l.reconcile(other, 7))
	l.requireWaiting(toRedrive(log[1]))
}

// parkingLastOwn checks that redriven events count as lost if their sequences are above the LastOwnSequence of a later control message.
func parkingLastOwn(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "c", "d")
	last := log[3]
	l.park(log[:3]...)
	l.redrive(3)
	for i, entry := range log[:3] {
		l.reconcile(redrivenEvent(entry, last), uint64(i)+5)
	}
	control := relay.MessageMeta{Own: true, Progress: last.Progress(), LastOwnSequence: 7}
	require.False(t, l.reconcile(control, 9), "it keeps them all")
	control.LastOwnSequence = 5
	require.True(t, l.reconcile(control, 9))
	l.requireWaiting(toRedrive(log[1]), toRedrive(log[2]))
	l.reconcile(redrivenEvent(log[1], last), 10)
	control.LastOwnSequence = 0
	require.True(t, l.reconcile(control, 1), "another stream")
	l.requireWaiting(toRedrive(log[0]), toRedrive(log[1]), toRedrive(log[2]))
}

func parkingOtherTails(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "a", "b", "a")
	last := log[3]
	l.park(log[0])
	require.Equal(t, positions(log[1]), l.setAside(log[1]))
	l.reconcile(redrivenEvent(log[1], last), 5)
	l.requireWaiting(parked(log[0]), parked(log[1]))
	l.redrive(2)
	foreign := redrivenEvent(log[1], last)
	foreign.Own = false
	ordinary := relay.MessageMeta{Own: true, Progress: log[2].Progress(), Event: log[2].Position}
	same := relay.MessageMeta{Own: true, Progress: log[3].Progress(), Event: log[3].Position}
	for _, tail := range []relay.MessageMeta{{}, foreign, ordinary, same, parkingOf(log[0], "again")} {
		require.True(t, l.reconcile(tail, 6))
		l.requireWaiting(toRedrive(log[0]), toRedrive(log[1]))
	}
}

func parkingRefuse(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "a", "b", "a", "c")
	l.park(log[:4]...)
	l.refuse(log[1], "not asked for")
	l.refuse(log[4], "not even parked")
	l.requireWaiting(parked(log[0]), parked(log[1]), parked(log[2]), parked(log[3]))
	require.Equal(t, "too large", l.waiting()[1].Reason)
	l.redrive(4)
	l.refuse(log[1], "it's still too large ?")
	l.requireWaiting(toRedrive(log[0]), parked(log[1]), toRedrive(log[2]), parked(log[3]))
	require.Equal(t, "it's still too large ?", l.waiting()[1].Reason)
	require.Equal(t, "too large", l.waiting()[3].Reason)
	require.Equal(t, positions(log[0]), l.next(log[4].Position))
	l.reconcile(redrivenEvent(log[0], log[4]), 9)
	l.refuse(log[0], "redriven already")
	l.requireWaiting(parked(log[1]), toRedrive(log[2]), parked(log[3]))
	l.redrive(2)
	l.requireWaiting(toRedrive(log[1]), toRedrive(log[2]), toRedrive(log[3]))
}

func parkingDiscard(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "a", "b", "a")
	l.park(log[0])
	l.setAside(log[1:]...)
	l.discard(log[0])
	l.requireWaiting(parked(log[1]), parked(log[3]))
	require.Equal(t, due{Waiting: true}, l.due(log[3].Position, plenty), "what is behind it waits on")
	l.discard(log[3])
	l.redrive(1)
	require.Equal(t, positions(log[1]), l.next(log[3].Position))
	l.reconcile(redrivenEvent(log[1], log[3]), 8)
	require.Equal(t, due{}, l.due(log[3].Position, plenty))
	require.True(t, readAll(t, h)[0].Parked, "it stays in the lot")
	l.reconcile(relay.MessageMeta{}, 0)
	l.requireWaiting(toRedrive(log[1]))
}

func parkingDiscardOthers(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "redriven", "discarded", "redrive", "free")
	l.park(log[0], log[1], log[2])
	l.discard(log[1])
	l.redrive(2)
	l.reconcile(redrivenEvent(log[0], log[3]), 9)
	for _, entry := range log {
		err := h.ParkingAdmin().Discard(t.Context(), entry.Position)
		require.ErrorIs(t, err, relay.ErrNotParked, entry.Key)
		require.ErrorContains(t, err, fmt.Sprint("position ", entry.Position))
	}
	require.ErrorIs(t, h.ParkingAdmin().Discard(t.Context(), 0), relay.ErrNotParked)
	l.requireWaiting(toRedrive(log[2]))
}

func parkingDiscardGone(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "c")
	l.park(log[1], log[2])
	l.redrive(2)
	h.LoseCommits(t, log[1].Position)
	l.discard(log[2])
	l.requireWaiting(toRedrive(log[1]))
	err := h.ParkingAdmin().Discard(t.Context(), log[1].Position)
	require.ErrorIs(t, err, relay.ErrNotParked, "it is still in the log")
}

func parkingList(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "c", "d")
	l.park(log[3], log[0], log[2], log[1])
	for limit, want := range [][]outbox.Entry{nil, log[:1], log[:2], log[:3], log, log} {
		waiting, err := h.ParkingAdmin().Waiting(t.Context(), limit)
		require.NoError(t, err)
		require.Len(t, waiting, len(want))
		for i, entry := range want {
			require.Equal(t, entry.Progress(), waiting[i].Progress)
		}
	}
}

// writes returns the fenced writes of Parking. Each of them changes the lot that prepared returns.
func writes(h ParkingHarness, log []outbox.Entry) map[string]func(context.Context, relay.WriteFence) error {
	return map[string]func(context.Context, relay.WriteFence) error{
		"Reconcile": func(ctx context.Context, fence relay.WriteFence) error {
			_, err := h.Parking().Reconcile(ctx, fence, parkingOf(log[3], "too large"), 1, true)
			return err
		},
		"Reconcile a redriven event": func(ctx context.Context, fence relay.WriteFence) error {
			_, err := h.Parking().Reconcile(ctx, fence, redrivenEvent(log[0], log[3]), 9, true)
			return err
		},
		"SetAside": func(ctx context.Context, fence relay.WriteFence) error {
			_, err := h.Parking().SetAside(ctx, fence, log[5:])
			return err
		},
		"Refuse": func(ctx context.Context, fence relay.WriteFence) error {
			return h.Parking().Refuse(ctx, fence, log[2], "refused")
		},
	}
}

// prepared returns a leader, its log, and the waiting events. Each of the writes changes this parking lot.
func prepared(t *testing.T, h ParkingHarness) (*leader, []outbox.Entry, []relay.ParkedEvent) {
	t.Helper()
	l, log := lead(t, h), events(t, h, "a", "b", "c", "d", "e", "e")
	l.park(log[0], log[1], log[2], log[4])
	l.redrive(4)
	return l, log, l.waiting()
}

func parkingFenced(t *testing.T, h ParkingHarness) {
	l, log, before := prepared(t, h)
	cursor := load(t, h)
	for name, write := range writes(h, log) {
		for _, late := range []int64{cursor.Revision - 1, cursor.Revision + 1, 0} {
			err := write(t.Context(), relay.WriteFence{Token: l.term.Token, Revision: late})
			require.ErrorIs(t, err, relay.ErrStaleRevision, name)
		}
		for _, token := range []int64{l.term.Token - 1, l.term.Token + 1} {
			err := write(t.Context(), relay.WriteFence{Token: token, Revision: cursor.Revision})
			require.ErrorIs(t, err, relay.ErrLeaseLost, name)
		}
		require.Equal(t, before, l.waiting(), name)
		require.Equal(t, cursor, load(t, h), name)
	}
	for name, write := range writes(h, log) {
		require.NoError(t, write(t.Context(), l.fence()))
		after := l.waiting()
		require.NotEqual(t, before, after, "%s can change something", name)
		before = after
	}
}

func parkingCounts(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "c", "d", "e", "e")
	revision := int64(0)
	for name, write := range writes(h, log) {
		require.NoError(t, write(t.Context(), relay.WriteFence{Token: l.term.Token, Revision: revision}), name)
		revision++
		require.Equal(t, at(revision, relay.Cursor{}), load(t, h), name)
	}
	cursor := save(t, h, l.term, relay.Cursor{Progress: log[1].Progress(), StreamCreated: "x", StreamSequence: 2})
	for name, write := range writes(h, log) {
		require.NoError(t, write(t.Context(), relay.WriteFence{Token: l.term.Token, Revision: cursor.Revision}), name)
		cursor.Revision++
		require.Equal(t, cursor, load(t, h), name)
	}
}

// calls returns a call of each method of Parking and ParkingAdmin.
func calls(h ParkingHarness, log []outbox.Entry, fence relay.WriteFence) map[string]func(context.Context) error {
	all := map[string]func(context.Context) error{
		"Redrive": func(ctx context.Context) error {
			_, err := h.ParkingAdmin().Redrive(ctx, nil)
			return err
		},
		"Discard": func(ctx context.Context) error { return h.ParkingAdmin().Discard(ctx, log[1].Position) },
		"Due": func(ctx context.Context) error {
			_, _, err := h.Parking().Due(ctx, log[5].Position, plenty)
			return err
		},
		"Undecided": func(ctx context.Context) error {
			_, err := h.ParkingAdmin().Undecided(ctx, outbox.Key{}, 1)
			return err
		},
		"EachUndecided": func(ctx context.Context) error {
			return h.ParkingAdmin().EachUndecided(ctx, func(operations.UndecidedEvent) bool { return true })
		},
		"RedriveChosen": func(ctx context.Context) error {
			_, err := h.ParkingAdmin().RedriveChosen(ctx, positions(log...), operations.Choice{})
			return err
		},
		"DiscardChosen": func(ctx context.Context) error {
			_, err := h.ParkingAdmin().DiscardChosen(ctx, positions(log...), operations.Choice{})
			return err
		},
		"Waiting": func(ctx context.Context) error {
			_, err := h.ParkingAdmin().Waiting(ctx, 1)
			return err
		},
	}
	for name, write := range writes(h, log) {
		all[name] = func(ctx context.Context) error { return write(ctx, fence) }
	}
	return all
}

func parkingContext(t *testing.T, h ParkingHarness) {
	l, log, before := prepared(t, h)
	ended, end := context.WithCancel(t.Context())
	end()
	for name, call := range calls(h, log, l.fence()) {
		require.ErrorIs(t, call(ended), context.Canceled, name)
	}
	require.Equal(t, before, l.waiting())
}

func parkingOutage(t *testing.T, h ParkingHarness) {
	l, log, before := prepared(t, h)
	next := l.fence()
	h.Disconnect(t)
	for name, call := range calls(h, log, next) {
		err := call(t.Context())
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%s: %v", name, err)
	}
	h.Reconnect(t)
	require.Equal(t, before, l.waiting())
	require.Equal(t, next, l.fence())
}
