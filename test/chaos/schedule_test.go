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
	streamLimited    kind = "stream limit that bites"
	endpointHangs    kind = "external effect hangs"
)

// area is what a fault takes hold of. Two faults at once are never in the same one.
type area int

const (
	instances area = iota
	subscribers
	postgresServer
	natsServer
	networks
	transactions
	lot
	letters
	damages
	moves
	endpoint
)

// also is what a kind takes hold of besides its area. While a limit bites, the relay must not have more to publish at once than the limit
// leaves; and something has to come.
var also = map[kind][]area{streamLimited: {subscribers, transactions, postgresServer, networks}}

// meets reports whether two faults take hold of the same thing.
func (c card) meets(other card) bool {
	return c.area == other.area || slices.Contains(also[c.kind], other.area) || slices.Contains(also[other.kind], c.area)
}

// early are the kinds that come early in the first round, so that a short run has them, too.
var early = []kind{typeDeployed, subscriberRewind, lanesChanged, streamLimited, endpointHangs}

const leaseTTL = time.Second

// card is a kind with its area and how long it lasts.
type card struct {
	kind        kind
	area        area
	least, most time.Duration
}

// deck is every kind.
var deck = []card{
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
	{eventOversize, lot, 200 * time.Millisecond, time.Second},
	{lotRepaired, lot, 0, 0},
	{lettersDecided, letters, 0, 0},
	{typeDeployed, subscribers, time.Second, 3 * time.Second},
	{subscriberRewind, moves, 500 * time.Millisecond, time.Second},
	{lanesChanged, moves, time.Second, 4 * time.Second},
	{streamLimited, natsServer, 200 * time.Millisecond, time.Second},
	{endpointHangs, endpoint, time.Second, 4 * time.Second},
}

// fault is one of the schedule. Which process is hit, and how, is drawn with it; that the leader is meant is drawn, too,
// but who leads is known only when it comes to that.
type fault struct {
	card
	hold   time.Duration
	leader bool
	number uint64 // for whatever else is to be drawn
}

// step is one fault, or two at once, and the calm that follows.
type step struct {
	faults []fault
	calm   time.Duration
}

// schedule deals faults for ever. The same seed deals the same ones. Every kind comes before any comes again.
type schedule struct {
	random *rand.Rand
	cards  []card
	left   []int // of the cards, shuffled
	began  bool
}

// newSchedule deals the given cards, of which there must be some.
func newSchedule(seed uint64, cards []card) *schedule {
	return &schedule{random: rand.New(rand.NewPCG(seed, 0)), cards: cards} //nolint:gosec // repeatable
}

// next deals a step.
func (s *schedule) next() step {
	first := s.deal(func(card) bool { return true })
	next := step{faults: []fault{first}, calm: s.between(500*time.Millisecond, 3*time.Second)}
	if other := func(c card) bool { return !c.meets(first.card) }; s.random.IntN(4) == 0 && slices.ContainsFunc(s.cards, other) {
		next.faults = append(next.faults, s.deal(other))
	}
	return next
}

func (s *schedule) deal(fits func(card) bool) fault {
	place := slices.IndexFunc(s.left, func(number int) bool { return fits(s.cards[number]) })
	if place < 0 {
		round := s.random.Perm(len(s.cards))
		if !s.began {
			s.began, round = true, s.earlyFirst(round)
		}
		s.left = append(s.left, round...)
		return s.deal(fits)
	}
	card := s.cards[s.left[place]]
	s.left = slices.Delete(s.left, place, place+1)
	return s.of(card)
}

// of draws a fault of a kind.
func (s *schedule) of(card card) fault {
	return fault{
		card: card, hold: s.between(card.least, card.most),
		leader: s.random.IntN(3) > 0, number: s.random.Uint64(),
	}
}

// earlyFirst has every second of a round's first cards be an early one.
func (s *schedule) earlyFirst(round []int) (mixed []int) {
	var soon, others []int
	for _, number := range round {
		if slices.Contains(early, s.cards[number].kind) {
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

func TestSchedule(t *testing.T) {
	one, same, other := newSchedule(1, deck), newSchedule(1, deck), newSchedule(2, deck)
	dealt := make(map[kind]int)
	pairs, differ, missing := 0, false, slices.Clone(early)
	for range 200 {
		next := one.next()
		require.Equal(t, next, same.next(), "a seed deals the same schedule again")
		differ = differ || !slices.Equal(next.faults, other.next().faults)
		for _, f := range next.faults {
			dealt[f.kind]++
		}
		if len(next.faults) == 2 {
			pairs++
			require.False(t, next.faults[0].meets(next.faults[1].card))
		}
	}
	require.True(t, differ, "another seed deals another one")
	require.NotZero(t, pairs)
	short := newSchedule(3, deck)
	for range 2 * len(early) {
		for _, f := range short.next().faults {
			if at := slices.Index(missing, f.kind); at >= 0 {
				missing = slices.Delete(missing, at, at+1)
			}
		}
	}
	require.Empty(t, missing, "a short run has them")
	for _, card := range deck {
		require.InDelta(t, dealt[deck[0].kind], dealt[card.kind], 1, "%s comes as often as the others", card.kind)
	}
}
