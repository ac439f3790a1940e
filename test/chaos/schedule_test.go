package chaos_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kind is a kind of fault.
type kind string

// The kinds.
const (
	instanceKilled     kind = "serve kill -9"
	instanceStalled    kind = "serve SIGSTOP"
	instanceTerminated kind = "serve SIGTERM"

	subscriberKilled     kind = "subscriber kill -9"
	subscriberStalled    kind = "subscriber SIGSTOP"
	subscriberTerminated kind = "subscriber SIGTERM"
	subscriberInBatch    kind = "subscriber hit within a batch"
	subscribersRolled    kind = "subscriber's copies restarted"
	copiesChanged        kind = "other number of copies"

	postgresKilled     kind = "Postgres immediate shutdown"
	backendsTerminated kind = "Postgres backends terminated"
	backendKilled      kind = "Postgres backend kill -9"
	postgresSwitched   kind = "switchover behind a late name"
	settingsChanged    kind = "settings changed while running"
	databaseReadOnly   kind = "database read-only for a while"

	natsKilled     kind = "NATS kill -9"
	natsStalled    kind = "NATS SIGSTOP"
	natsRolledBack kind = "NATS store rolled back"
	natsOlder      kind = "older NATS"

	streamChanged kind = "stream settings changed"

	networkCut      kind = "network cut"
	networkOneWay   kind = "network one-way"
	networkSlow     kind = "network slow"
	networkHalfOpen kind = "network half-open"
	networkStranded kind = "network black hole"

	transactionOpen     kind = "transaction left open"
	transactionPrepared kind = "prepared transaction orphaned"
	totalsLocked        kind = "totals locked"

	streamDeleted   kind = "stream deleted, then adopted"
	sequenceSetBack kind = "sequence set back, then adopted"

	eventOversize kind = "oversize event"
	lotRepaired   kind = "discard and redrive"

	lettersDecided kind = "dead letters retried, discarded"

	typeDeployed     kind = "new type deployed, forward, back"
	subscriberRewind kind = "subscriber rewound"
	lanesChanged     kind = "other number of lanes"
	streamLimited    kind = "stream limit removes unread messages"
	endpointHangs    kind = "external effect hangs"
)

// area is the part of the system that a fault affects. Two faults at the same time are never in the same area.
type area int

const (
	instances area = iota
	subscribers
	postgresServer
	natsServer
	networks
	transactions
	parkingLot
	letters
	damages
	moves
	endpoint
)

// alsoAffected lists the areas that a kind affects besides its own. While the stream has a limit, the relay must not publish more at once
// than the limit leaves, and new events have to arrive.
var alsoAffected = map[kind][]area{streamLimited: {subscribers, transactions, postgresServer, networks}}

// conflictsWith reports whether two fault types affect the same area.
func (t faultType) conflictsWith(other faultType) bool {
	return t.area == other.area || slices.Contains(alsoAffected[t.kind], other.area) || slices.Contains(alsoAffected[other.kind], t.area)
}

// earlyKinds come early in the first round, so that a short run has them, too.
var earlyKinds = []kind{typeDeployed, subscriberRewind, lanesChanged, streamLimited, endpointHangs}

const leaseTTL = time.Second

// faultType is a kind of fault with its area and its shortest and longest duration.
type faultType struct {
	kind        kind
	area        area
	least, most time.Duration
}

// faultTypes lists every kind.
var faultTypes = []faultType{
	{instanceKilled, instances, 200 * time.Millisecond, 2 * time.Second},
	{instanceStalled, instances, leaseTTL / 2, 5 * leaseTTL},
	{instanceTerminated, instances, 200 * time.Millisecond, 2 * time.Second},
	{subscriberKilled, subscribers, 200 * time.Millisecond, 2 * time.Second},
	{subscriberStalled, subscribers, 500 * time.Millisecond, 7 * time.Second},
	{subscriberTerminated, subscribers, 200 * time.Millisecond, 2 * time.Second},
	{subscriberInBatch, subscribers, 500 * time.Millisecond, 5 * time.Second},
	{subscribersRolled, subscribers, 100 * time.Millisecond, time.Second},
	{copiesChanged, subscribers, 2 * time.Second, 6 * time.Second},
	{postgresKilled, postgresServer, 100 * time.Millisecond, 2 * time.Second},
	{backendsTerminated, postgresServer, 0, 0},
	{backendKilled, postgresServer, 0, 0},
	{postgresSwitched, postgresServer, 2 * time.Second, 5 * time.Second},
	{settingsChanged, postgresServer, time.Second, 5 * time.Second},
	{databaseReadOnly, postgresServer, time.Second, 4 * time.Second},
	{natsKilled, natsServer, 100 * time.Millisecond, 2 * time.Second},
	{natsStalled, natsServer, 500 * time.Millisecond, 4 * time.Second},
	{natsRolledBack, natsServer, 500 * time.Millisecond, 4 * time.Second},
	{natsOlder, natsServer, 500 * time.Millisecond, 3 * time.Second},
	{streamChanged, natsServer, 500 * time.Millisecond, 4 * time.Second},
	{networkCut, networks, 500 * time.Millisecond, 4 * time.Second},
	{networkOneWay, networks, 500 * time.Millisecond, 7 * time.Second},
	{networkSlow, networks, time.Second, 5 * time.Second},
	{networkHalfOpen, networks, 500 * time.Millisecond, 7 * time.Second},
	{networkStranded, networks, 2 * time.Second, 12 * time.Second},
	{transactionOpen, transactions, 500 * time.Millisecond, 3 * time.Second},
	{transactionPrepared, transactions, 500 * time.Millisecond, 4 * time.Second},
	{totalsLocked, transactions, 500 * time.Millisecond, 4 * time.Second},
	{streamDeleted, damages, 500 * time.Millisecond, 2 * time.Second},
	{sequenceSetBack, damages, 500 * time.Millisecond, 2 * time.Second},
	{eventOversize, parkingLot, 200 * time.Millisecond, time.Second},
	{lotRepaired, parkingLot, 0, 0},
	{lettersDecided, letters, 0, 0},
	{typeDeployed, subscribers, time.Second, 3 * time.Second},
	{subscriberRewind, moves, 500 * time.Millisecond, time.Second},
	{lanesChanged, moves, time.Second, 4 * time.Second},
	{streamLimited, natsServer, 200 * time.Millisecond, time.Second},
	{endpointHangs, endpoint, time.Second, 4 * time.Second},
}

// fault is one entry of the schedule. The seed decides whether it affects the leader; which process leads is known only when the fault
// begins.
type fault struct {
	faultType
	hold   time.Duration
	leader bool
	number uint64 // random, for the other choices
}

// step is one fault, or two at once, and the calm that follows.
type step struct {
	faults []fault
	calm   time.Duration
}

// schedule draws faults without end. The same seed draws the same faults. Every kind comes once before any kind comes again.
type schedule struct {
	random *rand.Rand
	types  []faultType
	left   []int // indexes of types, shuffled
	began  bool
}

// newSchedule draws from the given types, of which there must be at least one.
func newSchedule(seed uint64, types []faultType) *schedule {
	return &schedule{random: rand.New(rand.NewPCG(seed, 0)), types: types} //nolint:gosec // repeatable
}

// next draws a step.
func (s *schedule) next() step {
	first := s.draw(func(faultType) bool { return true })
	next := step{faults: []fault{first}, calm: s.between(500*time.Millisecond, 3*time.Second)}
	if other := func(t faultType) bool { return !t.conflictsWith(first.faultType) }; s.random.IntN(4) == 0 && slices.ContainsFunc(s.types, other) {
		next.faults = append(next.faults, s.draw(other))
	}
	return next
}

func (s *schedule) draw(fits func(faultType) bool) fault {
	place := slices.IndexFunc(s.left, func(number int) bool { return fits(s.types[number]) })
	if place < 0 {
		round := s.random.Perm(len(s.types))
		if !s.began {
			s.began, round = true, s.earlyFirst(round)
		}
		s.left = append(s.left, round...)
		return s.draw(fits)
	}
	chosen := s.types[s.left[place]]
	s.left = slices.Delete(s.left, place, place+1)
	return s.drawOf(chosen)
}

// drawOf draws a fault of a type.
func (s *schedule) drawOf(t faultType) fault {
	return fault{
		faultType: t, hold: s.between(t.least, t.most),
		leader: s.random.IntN(3) > 0, number: s.random.Uint64(),
	}
}

// earlyFirst puts the early kinds at the beginning of a round, in turns with other kinds.
func (s *schedule) earlyFirst(round []int) (mixed []int) {
	var soon, others []int
	for _, number := range round {
		if slices.Contains(earlyKinds, s.types[number].kind) {
			soon = append(soon, number)
		} else {
			others = append(others, number)
		}
	}
	for i, number := range soon {
		mixed = append(mixed, number)
		mixed = append(mixed, others[min(i, len(others)):min(i+1, len(others))]...)
	}
	return append(mixed, others[min(len(soon), len(others)):]...)
}

func (s *schedule) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.random.Int64N(int64(most-least)+1)).Truncate(time.Millisecond)
}

// TestSchedule checks that a seed always gives the same faults, that all kinds come equally often, and that faults at the same time do not
// conflict.
func TestSchedule(t *testing.T) {
	one, same, other := newSchedule(1, faultTypes), newSchedule(1, faultTypes), newSchedule(2, faultTypes)
	drawn := make(map[kind]int)
	pairs, differ, missing := 0, false, slices.Clone(earlyKinds)
	for range 200 {
		next := one.next()
		require.Equal(t, next, same.next(), "a seed gives the same schedule again")
		differ = differ || !slices.Equal(next.faults, other.next().faults)
		for _, f := range next.faults {
			drawn[f.kind]++
		}
		if len(next.faults) == 2 {
			pairs++
			require.False(t, next.faults[0].conflictsWith(next.faults[1].faultType))
		}
	}
	require.True(t, differ, "another seed gives another one")
	require.NotZero(t, pairs)
	short := newSchedule(3, faultTypes)
	for range 2 * len(earlyKinds) {
		for _, f := range short.next().faults {
			if at := slices.Index(missing, f.kind); at >= 0 {
				missing = slices.Delete(missing, at, at+1)
			}
		}
	}
	require.Empty(t, missing, "a short run has them")
	for _, f := range faultTypes {
		require.InDelta(t, drawn[faultTypes[0].kind], drawn[f.kind], 1, "%s comes as often as the others", f.kind)
	}
}
