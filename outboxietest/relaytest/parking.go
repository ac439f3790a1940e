package relaytest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
)

// ParkingHarness is an empty parking lot, with its log, cursor and lease.
type ParkingHarness interface {
	CursorHarness
	Parking() relay.Parking
	ParkingAdmin() operations.ParkingAdmin
}

// TestParking runs the contracts of relay.Parking and operations.ParkingAdmin. Each call of open returns a new log, parking lot, cursor
// and lease.
func TestParking(t *testing.T, open func(t *testing.T) ParkingHarness) {
	check := contracttest.Runner(t, open)
	check("a control message parks its event", parkingControlMessage)
	check("a control message parks only an event of the log", parkingForeignControl)
	check("events behind a parked event are set aside", parkingSetAside)
	check("events before it are not set aside", parkingBefore)
	check("a redriven or discarded event holds nothing up", parkingDone)
	check("behind events that are redriven, new ones are redriven too", parkingInherits)
	check("an operator and the leader do not miss each other", parkingRace)
	check("one aggregate can be redriven, or all", parkingRedrive)
	check("one aggregate is due at a time, in order", parkingNext)
	check("the due events are limited, but never empty", parkingLimits)
	check("nothing passes an event that is still parked", parkingBlocked)
	check("redriven events are counted back from the tail", parkingCountBack)
	check("events that the stream lost are redriven again", parkingLost)
	check("without a certain end nothing is redriven again", parkingEnd)
	check("a control message tells what the stream still holds", parkingLastOwn)
	check("other tails change nothing", parkingOtherTails)
	check("an event that is refused again is parked again", parkingRefuse)
	check("a parked event can be discarded", parkingDiscard)
	check("only parked events can be discarded", parkingDiscardOthers)
	check("an event that is gone from the log can be discarded", parkingDiscardGone)
	check("the list is limited and in order", parkingList)
	check("the first parked event of each aggregate comes in pages", parkingUndecided)
	check("a choice of events can be redriven", parkingRedriveChosen)
	check("a choice of events can be discarded", parkingDiscardChosen)
	check("a choice and the leader do not miss each other", parkingChosenRace)
	check("without the lease or with a stale revision nothing changes", parkingFenced)
	check("each write raises the revision, and leaves the rest of the cursor", parkingCounts)
	check("an event that can never be published is due with the reason", parkingInvalid)
	check("a payload that no broker accepts is due, but not read", parkingLarge)
	check("an ended context is an error", parkingContext)
	check("a lost connection is an outage", parkingOutage)
}

// leader uses the parking lot as a relay does. Each of its writes has the fence for the next write.
type leader struct {
	ParkingHarness
	t    *testing.T
	term relay.Term
}

func lead(t *testing.T, h ParkingHarness) *leader {
	t.Helper()
	return &leader{h, t, acquire(t, h, "instance-1")}
}

func (l *leader) fence() relay.WriteFence { return fence(l.t, l, l.term) }

func (l *leader) reconcile(tail relay.MessageMeta, sequence uint64) bool {
	l.t.Helper()
	summary, err := l.Parking().Reconcile(l.t.Context(), l.fence(), tail, sequence, true)
	require.NoError(l.t, err)
	return summary.Waiting
}

// park parks entries one by one. The control messages have a very high sequence, so that no redriven event counts as lost.
func (l *leader) park(entries ...outbox.Entry) {
	l.t.Helper()
	for _, entry := range entries {
		require.True(l.t, l.reconcile(parkingOf(entry, "too large"), 1<<40))
	}
}

func (l *leader) setAside(entries ...outbox.Entry) []outbox.Position {
	l.t.Helper()
	aside, err := l.Parking().SetAside(l.t.Context(), l.fence(), entries)
	require.NoError(l.t, err)
	return aside
}

// next returns the positions of the due events.
func (l *leader) next(upTo outbox.Position) []outbox.Position {
	l.t.Helper()
	return positions(l.due(upTo, plenty).Redrive...)
}

func (l *leader) due(upTo outbox.Position, limit relay.ReadLimit) due {
	l.t.Helper()
	entries, waiting, err := l.Parking().Due(l.t.Context(), upTo, limit)
	require.NoError(l.t, err)
	return due{entries, waiting}
}

// due is the answer of Parking.Due.
type due struct {
	Redrive []outbox.Entry
	Waiting bool
}

func (l *leader) refuse(entry outbox.Entry, reason string) {
	l.t.Helper()
	require.NoError(l.t, l.Parking().Refuse(l.t.Context(), l.fence(), entry, reason))
}

// redrive asks for a redrive of all parked events, and requires their number.
func (l *leader) redrive(want int) {
	l.t.Helper()
	count, err := l.ParkingAdmin().Redrive(l.t.Context(), nil)
	require.NoError(l.t, err)
	require.Equal(l.t, want, count)
}

func (l *leader) discard(entry outbox.Entry) {
	l.t.Helper()
	require.NoError(l.t, l.ParkingAdmin().Discard(l.t.Context(), entry.Position))
}

func (l *leader) waiting() []relay.ParkedEvent {
	l.t.Helper()
	events, err := l.ParkingAdmin().Waiting(l.t.Context(), 1000)
	require.NoError(l.t, err)
	return events
}

// requireWaiting requires the states of the events that wait, in order of position.
func (l *leader) requireWaiting(want ...state) {
	l.t.Helper()
	var states []state
	for _, event := range l.waiting() {
		states = append(states, state{event.Position, event.State})
	}
	require.Equal(l.t, want, states)
}

type state struct {
	position outbox.Position
	state    relay.ParkedState
}

func parked(e outbox.Entry) state    { return state{e.Position, relay.Parked} }
func toRedrive(e outbox.Entry) state { return state{e.Position, relay.Redrive} }

// events appends an event of each named aggregate, and returns the whole log.
func events(t *testing.T, h LogHarness, aggregates ...string) []outbox.Entry {
	t.Helper()
	versions := make(map[string]int64)
	var messages []outbox.Message
	for _, aggregate := range aggregates {
		versions[aggregate]++
		message := NewMessage(aggregate, versions[aggregate])
		message.Payload = fmt.Appendf(nil, `{"of": %q, "version": %10d}`, aggregate, versions[aggregate])
		messages = append(messages, message)
	}
	appendCommitted(t, h, messages...)
	return readAll(t, h)
}

func positions(entries ...outbox.Entry) []outbox.Position {
	var all []outbox.Position
	for _, entry := range entries {
		all = append(all, entry.Position)
	}
	return all
}

func parkingOf(entry outbox.Entry, reason string) relay.MessageMeta {
	return relay.MessageMeta{Own: true, Progress: entry.Progress(), Parked: reason, LastOwnSequence: math.MaxUint64}
}

// redrivenEvent returns the meta data of a message that redrives entry. last is the last row that the relay had dealt with at that time.
func redrivenEvent(entry, last outbox.Entry) relay.MessageMeta {
	return relay.MessageMeta{Own: true, Progress: last.Progress(), Event: entry.Position, Redriven: true}
}

func parkingControlMessage(t *testing.T, h ParkingHarness) {
	l, before := lead(t, h), time.Now().Add(-time.Minute)
	log := events(t, h, "a's ?", "b")
	for i, reason := range []string{"it's too large ?", "said again"} {
		require.True(t, l.reconcile(parkingOf(log[0], reason), uint64(i)+7))
		waiting := l.waiting()
		require.Len(t, waiting, 1)
		require.WithinRange(t, waiting[0].ParkedAt, before, time.Now().Add(time.Minute))
		require.WithinRange(t, waiting[0].ChangedAt, before, time.Now().Add(time.Minute))
		waiting[0].ParkedAt, waiting[0].ChangedAt = time.Time{}, time.Time{}
		require.Equal(t, relay.ParkedEvent{
			Progress: log[0].Progress(), Key: log[0].Key, Type: log[0].Type, Reason: "it's too large ?", State: relay.Parked,
		}, waiting[0])
	}
	seen := readAll(t, h)
	require.True(t, seen[0].Parked)
	require.False(t, seen[1].Parked)
	require.Equal(t, log[0].Message, seen[0].Message)
}

func parkingForeignControl(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "c")
	h.LoseCommits(t, log[1].Position)
	other := log[0]
	other.ID = log[1].ID
	unknown := log[0]
	unknown.ID = "not even an id"
	adopted, foreign := parkingOf(log[0], ""), parkingOf(log[0], "too large")
	foreign.Own = false
	for i, tail := range []relay.MessageMeta{{}, parkingOf(log[2], "x"), parkingOf(other, "x"), parkingOf(unknown, "x"), adopted, foreign} {
		require.False(t, l.reconcile(tail, 1), "tail %d", i)
	}
	require.Empty(t, l.waiting())
	require.False(t, readAll(t, h)[0].Parked)
}

func parkingSetAside(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "a", "c", "a", "c")
	require.Empty(t, l.setAside(log...), "nothing waits")
	require.Empty(t, l.setAside())
	l.park(log[0])
	require.Equal(t, positions(log[2], log[4]), l.setAside(log[1:]...))
	require.Equal(t, positions(log[0], log[2], log[4]), l.setAside(log...), "with those that were in the lot before")
	l.requireWaiting(parked(log[0]), parked(log[2]), parked(log[4]))

	behind := l.waiting()[2]
	require.Equal(t, log[4].Progress(), behind.Progress)
	require.Equal(t, log[4].Key, behind.Key)
	require.Equal(t, log[4].Type, behind.Type)
	require.Contains(t, behind.Reason, fmt.Sprint("position ", log[0].Position), "the reason names the event before it")
	for i, entry := range readAll(t, h) {
		require.Equal(t, i == 0 || i == 2 || i == 4, entry.Parked, i)
	}

	l.park(log[3])
	require.Equal(t, positions(log[2], log[5]), l.setAside(log[1], log[2], log[5]), "of several aggregates")
}

func parkingBefore(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "a", "a")
	l.park(log[1])
	require.Equal(t, positions(log[1], log[2]), l.setAside(log...))
	l.requireWaiting(parked(log[1]), parked(log[2]))
}

func parkingDone(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "a", "b")
	l.park(log[0])
	l.redrive(1)
	require.Equal(t, positions(log[0]), l.next(log[1].Position))
	l.reconcile(redrivenEvent(log[0], log[1]), 3)
	l.park(log[1])
	l.discard(log[1])
	require.Equal(t, positions(log[0], log[1]), l.setAside(log...), "they are in the lot, but do not wait there")
	require.False(t, l.due(log[3].Position, plenty).Waiting)
}

func parkingInherits(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "redrive", "discard", "both", "mixed", "both", "mixed", "redrive", "discard", "both", "mixed")
	l.park(log[:6]...)
	for _, entry := range []outbox.Entry{log[1], log[2], log[3]} {
		l.discard(entry)
	}
	for _, entry := range []outbox.Entry{log[0], log[4]} {
		count, err := h.ParkingAdmin().Redrive(t.Context(), &entry.Key)
		require.NoError(t, err)
		require.Equal(t, 1, count)
	}
	require.Equal(t, positions(log[6], log[8], log[9]), l.setAside(log[6:]...))
	l.requireWaiting(toRedrive(log[0]), toRedrive(log[4]), parked(log[5]), toRedrive(log[6]), toRedrive(log[8]), parked(log[9]))
}

// parkingRace checks that events are redriven too if they are set aside while an operator redrives their aggregate. SetAside and Redrive may
// take effect in either order.
func parkingRace(t *testing.T, h ParkingHarness) {
	l := lead(t, h)
	for round := range 20 {
		aggregate := fmt.Sprint("aggregate ", round)
		all := events(t, h, aggregate, aggregate, aggregate)
		log := all[len(all)-3:]
		l.park(log[0])
		aside := make(chan error, 1)
		next := l.fence()
		go func() {
			_, err := h.Parking().SetAside(t.Context(), next, log[1:])
			aside <- err
		}()
		key := log[0].Key
		_, err := h.ParkingAdmin().Redrive(t.Context(), &key)
		require.NoError(t, err)
		require.NoError(t, <-aside)
		l.requireWaiting(toRedrive(log[0]), toRedrive(log[1]), toRedrive(log[2]))
		require.Equal(t, positions(log...), l.next(log[2].Position))
		l.reconcile(redrivenEvent(log[2], log[2]), 100*uint64(round)+100)
		require.Empty(t, l.waiting())
	}
}

func parkingRedrive(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "a", "c")
	l.redrive(0)
	_, err := h.ParkingAdmin().Redrive(t.Context(), &log[0].Key)
	require.ErrorIs(t, err, relay.ErrNotParked)
	l.park(log...)
	count, err := h.ParkingAdmin().Redrive(t.Context(), &log[0].Key)
	require.NoError(t, err)
	require.Equal(t, 2, count)
	l.requireWaiting(toRedrive(log[0]), parked(log[1]), toRedrive(log[2]), parked(log[3]))
	_, err = h.ParkingAdmin().Redrive(t.Context(), &log[0].Key)
	require.ErrorIs(t, err, relay.ErrNotParked)
	require.ErrorContains(t, err, log[0].Key.String())
	l.discard(log[3])
	l.redrive(1)
	l.requireWaiting(toRedrive(log[0]), toRedrive(log[1]), toRedrive(log[2]))
}
