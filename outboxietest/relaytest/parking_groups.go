package relaytest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// walk returns all undecided events, page by page, in order of position.
func (l *leader) walk(limit int) (all []operations.UndecidedEvent) {
	l.t.Helper()
	var after outbox.Key
	for {
		page, err := l.ParkingAdmin().Undecided(l.t.Context(), after, limit)
		require.NoError(l.t, err)
		require.LessOrEqual(l.t, len(page), limit)
		if len(page) == 0 {
			slices.SortFunc(all, byPosition)
			return all
		}
		all, after = append(all, page...), page[len(page)-1].Key
	}
}

func byPosition(a, b operations.UndecidedEvent) int { return int(a.Position - b.Position) }

// each returns all undecided events in order of position, as EachUndecided visits them.
func (l *leader) each() (all []operations.UndecidedEvent) {
	l.t.Helper()
	require.NoError(l.t, l.ParkingAdmin().EachUndecided(l.t.Context(), func(u operations.UndecidedEvent) bool {
		all = append(all, u)
		return true
	}))
	slices.SortFunc(all, byPosition)
	return all
}

// requireUndecided requires the first parked events, and how many are behind each. The pages have the same events.
func (l *leader) requireUndecided(want map[outbox.Position]int) {
	l.t.Helper()
	all, behind := l.each(), make(map[outbox.Position]int)
	for i, u := range all {
		behind[u.Position] = u.EventsBehind
		all[i].EventsBehind = 0
	}
	require.Equal(l.t, want, behind)
	for _, limit := range []int{1, 2, 100} {
		require.Equal(l.t, all, l.walk(limit))
	}
}

// parkFor parks events for a reason.
func (l *leader) parkFor(reason string, entries ...outbox.Entry) {
	l.t.Helper()
	for _, entry := range entries {
		l.reconcile(parkingOf(entry, reason), 1<<40)
	}
}

func parkingUndecided(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "b", "a", "b", "A", "b", "c", "it's ?0", "a")
	l.requireUndecided(map[outbox.Position]int{})
	l.parkFor("too large: 7 bytes", log...)
	l.requireUndecided(map[outbox.Position]int{1: 2, 2: 1, 4: 0, 6: 0, 7: 0})
	first := l.each()[0]
	require.WithinDuration(t, time.Now(), first.First, time.Minute)
	require.WithinDuration(t, time.Now(), first.Last, time.Minute)
	first.First, first.Last = time.Time{}, time.Time{}
	require.Equal(t, operations.UndecidedEvent{
		Position: 1, EventID: log[0].ID, Key: log[0].Key, Type: log[0].Type, Reason: "too large: 7 bytes", EventsBehind: 2,
	}, first)

	l.discard(log[0])
	_, err := h.ParkingAdmin().Redrive(t.Context(), &log[1].Key)
	require.NoError(t, err)
	l.requireUndecided(map[outbox.Position]int{3: 1, 4: 0, 6: 0, 7: 0})
	none, err := h.ParkingAdmin().Undecided(t.Context(), outbox.Key{}, 0)
	require.NoError(t, err)
	require.Empty(t, none)
	visited := 0
	require.NoError(t, h.ParkingAdmin().EachUndecided(t.Context(), func(operations.UndecidedEvent) bool { visited++; return visited < 2 }))
	require.Equal(t, 2, visited, "the visitor ends the reading")
}

func parkingRedriveChosen(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "a", "c", "c", "d")
	l.parkFor("too large: 7 bytes", log[0], log[1])
	l.parkFor("its subject is \"x\"", log[2:]...)
	group := fault.NewFingerprint("too large: 8 bytes").ID
	every := append(positions(log...), 0, 99)
	for _, c := range []struct {
		asked  []outbox.Position
		choice operations.Choice
		want   int
	}{
		{every, operations.Choice{Group: "0"}, 0},
		{every, operations.Choice{Group: group, Type: "other"}, 0},
		{nil, operations.Choice{}, 0},
		{every[2:], operations.Choice{Group: group}, 0},
		{every, operations.Choice{Group: group, Type: log[0].Type, Aggregate: log[0].Key}, 1},
		{every, operations.Choice{Group: group, Aggregate: log[0].Key}, 0},
	} {
		chosen, err := h.ParkingAdmin().RedriveChosen(t.Context(), c.asked, c.choice)
		require.NoError(t, err)
		require.Equal(t, c.want, chosen, "%+v", c.choice)
	}
	l.requireWaiting(toRedrive(log[0]), parked(log[1]), toRedrive(log[2]), parked(log[3]), parked(log[4]), parked(log[5]))
	chosen, err := h.ParkingAdmin().RedriveChosen(t.Context(), positions(log[4], log[5]), operations.Choice{})
	require.NoError(t, err)
	require.Equal(t, 2, chosen)
	l.requireWaiting(toRedrive(log[0]), parked(log[1]), toRedrive(log[2]), parked(log[3]), toRedrive(log[4]), toRedrive(log[5]))
	require.Equal(t, positions(log[0], log[2]), l.next(log[5].Position))
	l.reconcile(redrivenEvent(log[2], log[5]), 20)
	require.Equal(t, positions(log[5]), l.next(log[5].Position), "the one before it in its aggregate is parked")
}

func parkingDiscardChosen(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "a", "c")
	l.parkFor("too large: 7 bytes", log[0], log[1])
	l.parkFor("its subject is \"x\"", log[2:]...)
	group := operations.Choice{Group: fault.NewFingerprint("too large: 8 bytes").ID}
	for _, want := range []int{2, 0} {
		chosen, err := h.ParkingAdmin().DiscardChosen(t.Context(), positions(log...), group)
		require.NoError(t, err)
		require.Equal(t, want, chosen)
		l.requireWaiting(parked(log[2]), parked(log[3]))
	}
	l.redrive(2)
	chosen, err := h.ParkingAdmin().DiscardChosen(t.Context(), positions(log...), operations.Choice{})
	require.NoError(t, err)
	require.Zero(t, chosen, "an event in state Redrive is not parked")
	require.Equal(t, positions(log[2]), l.next(log[3].Position))
}

// parkingChosenRace checks the same as parkingRace for a choice of events.
func parkingChosenRace(t *testing.T, h ParkingHarness) {
	l := lead(t, h)
	for round := range 20 {
		aggregate := fmt.Sprint("aggregate ", round)
		all := events(t, h, aggregate, aggregate, aggregate)
		log := all[len(all)-3:]
		l.parkFor("too large", log[0])
		aside := make(chan error, 1)
		next := l.fence()
		go func() {
			_, err := h.Parking().SetAside(t.Context(), next, log[1:])
			aside <- err
		}()
		chosen, err := h.ParkingAdmin().RedriveChosen(t.Context(), positions(log...), operations.Choice{Group: fault.NewFingerprint("too large").ID})
		require.NoError(t, err)
		require.Equal(t, 1, chosen)
		require.NoError(t, <-aside)
		l.requireWaiting(toRedrive(log[0]), toRedrive(log[1]), toRedrive(log[2]))
		l.reconcile(redrivenEvent(log[2], log[2]), 100*uint64(round)+100)
		require.Empty(t, l.waiting())
	}
}
