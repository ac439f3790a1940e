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
)

// ParkingHarness is an empty parking lot, with the log that its events are in and the cursor and the lease that fence it.
type ParkingHarness interface {
	CursorHarness
	Parking() relay.Parking
	ParkingAdmin() operations.ParkingAdmin
}

// TestParking runs the contracts of relay.Parking and relay.ParkingAdmin. Each call of open gives a new log, lot, cursor and
// lease.
func TestParking(t *testing.T, open func(t *testing.T) ParkingHarness) {
	for name, test := range map[string]func(t *testing.T, h ParkingHarness){
		"a notice parks its event":                                parkingNotice,
		"a notice counts only for the log's own event":            parkingForeignNotice,
		"what comes behind a parked event is set aside":           parkingAside,
		"what came before it is not":                              parkingBefore,
		"what was dealt with holds nothing up":                    parkingDealtWith,
		"what is set aside inherits the redrive":                  parkingInherits,
		"an operator and the leader do not miss each other":       parkingRace,
		"an aggregate is redriven, or all":                        parkingRedrive,
		"one aggregate comes at a time, in order":                 parkingNext,
		"what is due is limited, but never empty":                 parkingLimits,
		"nothing passes an event that is still parked":            parkingBlocked,
		"redriven events are counted back from the tail":          parkingCountBack,
		"what the stream lost is redriven again":                  parkingLost,
		"an end that is not certain changes nothing":              parkingEnd,
		"a notice says what the stream has kept":                  parkingKept,
		"other tails change nothing":                              parkingOtherTails,
		"what is refused again is parked again":                   parkingRefuse,
		"an event is discarded":                                   parkingDiscard,
		"only parked events are discarded":                        parkingDiscardOthers,
		"an event that is gone from the log is discarded":         parkingDiscardGone,
		"the list is limited and in order":                        parkingList,
		"the first parked event of each aggregate comes in pages": parkingUndecided,
		"events of a choice are redriven":                         parkingRedriveChosen,
		"events of a choice are discarded":                        parkingDiscardChosen,
		"a choice and the leader do not miss each other":          parkingChosenRace,
		"without the lease or out of turn nothing changes":        parkingFenced,
		"each write counts one and leaves the cursor's rest":      parkingCounts,
		"what can never be published is due, and says so":         parkingInvalid,
		"what no broker takes is due, but not read":               parkingLarge,
		"an ended context is an error":                            parkingContext,
		"a lost connection is an outage":                          parkingOutage,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// leader does what a relay does with the parking lot, each time as the turn that is due.
type leader struct {
	ParkingHarness
	t    *testing.T
	term relay.Term
}

func lead(t *testing.T, h ParkingHarness) *leader {
	t.Helper()
	return &leader{h, t, acquire(t, h, "instance-1")}
}

func (l *leader) fence() relay.WriteFence { return turn(l.t, l, l.term) }

func (l *leader) settle(tail relay.MessageMeta, sequence uint64) bool {
	l.t.Helper()
	settled, err := l.Parking().Reconcile(l.t.Context(), l.fence(), tail, sequence, true)
	require.NoError(l.t, err)
	return settled.Waiting
}

// park parks entries one by one, at the end of a long stream.
func (l *leader) park(entries ...outbox.Entry) {
	l.t.Helper()
	for _, entry := range entries {
		require.True(l.t, l.settle(noticeOf(entry, "too large"), 1<<40))
	}
}

func (l *leader) setAside(entries ...outbox.Entry) []outbox.Position {
	l.t.Helper()
	aside, err := l.Parking().SetAside(l.t.Context(), l.fence(), entries)
	require.NoError(l.t, err)
	return aside
}

// next returns the positions of what is due.
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

// due is what Parking.Due answers.
type due struct {
	Redrive []outbox.Entry
	Waiting bool
}

func (l *leader) refuse(entry outbox.Entry, reason string) {
	l.t.Helper()
	require.NoError(l.t, l.Parking().Refuse(l.t.Context(), l.fence(), entry, reason))
}

// redrive asks for all that is parked, and wants it to be so much.
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

// requireWaiting wants the lot to hold these states, in order of position.
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

// events appends an event of each aggregate named, and returns all that the log has.
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

func noticeOf(entry outbox.Entry, reason string) relay.MessageMeta {
	return relay.MessageMeta{Own: true, Progress: entry.Progress(), Parked: reason, LastOwnSequence: math.MaxUint64}
}

// redrivenEvent is stamped on the message of an event that was redriven when the log was dealt with up to last.
func redrivenEvent(entry, last outbox.Entry) relay.MessageMeta {
	return relay.MessageMeta{Own: true, Progress: last.Progress(), Event: entry.Position, Redriven: true}
}

func parkingNotice(t *testing.T, h ParkingHarness) {
	l, before := lead(t, h), time.Now().Add(-time.Minute)
	log := events(t, h, "a's ?", "b")
	for i, reason := range []string{"it's too large ?", "said again"} {
		require.True(t, l.settle(noticeOf(log[0], reason), uint64(i)+7))
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

func parkingForeignNotice(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "c")
	h.Forget(t, log[1].Position)
	other := log[0]
	other.ID = log[1].ID
	unknown := log[0]
	unknown.ID = "not even an id"
	adopted, foreign := noticeOf(log[0], ""), noticeOf(log[0], "too large")
	foreign.Own = false
	for i, tail := range []relay.MessageMeta{{}, noticeOf(log[2], "x"), noticeOf(other, "x"), noticeOf(unknown, "x"), adopted, foreign} {
		require.False(t, l.settle(tail, 1), "tail %d", i)
	}
	require.Empty(t, l.waiting())
	require.False(t, readAll(t, h)[0].Parked)
}

func parkingAside(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "a", "c", "a", "c")
	require.Empty(t, l.setAside(log...), "nothing waits")
	require.Empty(t, l.setAside())
	l.park(log[0])
	require.Equal(t, positions(log[2], log[4]), l.setAside(log[1:]...))
	require.Equal(t, positions(log[0], log[2], log[4]), l.setAside(log...), "those that are in the lot already as well")
	l.requireWaiting(parked(log[0]), parked(log[2]), parked(log[4]))

	behind := l.waiting()[2]
	require.Equal(t, log[4].Progress(), behind.Progress)
	require.Equal(t, log[4].Key, behind.Key)
	require.Equal(t, log[4].Type, behind.Type)
	require.Contains(t, behind.Reason, fmt.Sprint("position ", log[0].Position), "it says behind which")
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

func parkingDealtWith(t *testing.T, h ParkingHarness) {
	l, log := lead(t, h), events(t, h, "a", "b", "a", "b")
	l.park(log[0])
	l.redrive(1)
	require.Equal(t, positions(log[0]), l.next(log[1].Position))
	l.settle(redrivenEvent(log[0], log[1]), 3)
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

// parkingRace sets events aside at the moment at which their aggregates are redriven: whoever comes first, they are to be
// redriven.
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
		require.True(t, l.settle(redrivenEvent(log[2], log[2]), 100*uint64(round)+100) || len(l.waiting()) == 0)
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
