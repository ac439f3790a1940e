package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

const (
	// GroupedAtMost is how many undecided events Groups looks at.
	MaxGroupedEvents = 100_000
	// GroupsAtMost is how many groups Groups lists.
	MaxGroups = 100
	// TypesAtMost is how many types a group lists.
	MaxGroupTypes = 20
)

// Undecided is what waits for an operator: the dead letters of a subscriber, or the first parked event of each aggregate.
type UndecidedEvents interface {
	// Groups looks at no more than GroupedAtMost events, and groups them by the fingerprints of their reasons.
	Groups(ctx context.Context) (Groups, error)
	// Count counts what a choice has at the moment.
	Count(ctx context.Context, choice Choice) (ChoiceCount, error)
	// Retry has what a choice has tried again, and counts it. Letters that are no events are left alone. What is parked is
	// redriven, and with it what is parked behind it.
	Retry(ctx context.Context, choice Choice) (int, error)
	// Discard gives up for ever what a choice has, and counts it.
	//
	// Retry and Discard change many events in transactions of some hundred. If one of them fails, the former ones have taken
	// effect, the count says so, and the verb can be called again.
	Discard(ctx context.Context, choice Choice) (int, error)
}

// Letters finds the dead letters of subscribers.
type DeadLetterFinder interface {
	// Of returns those of one subscriber. It fails with inbox.ErrNoSubscriber if there is no such one.
	Of(ctx context.Context, subscriber string) (UndecidedEvents, error)
}

// Group is what is undecided for reasons that have one fingerprint.
type Group struct {
	fault.Fingerprint
	Events  int
	Behind  int // events that wait behind these
	First   time.Time
	Last    time.Time
	Types   []string       // sorted, at most TypesAtMost
	Example UndecidedEvent // the first one
}

// Groups is what is undecided, by fingerprint.
type Groups struct {
	List   []Group // the largest first, at most GroupsAtMost
	All    int     // groups, also those that are not listed
	Events int     // that were looked at
	More   bool    // there are more events, which were not looked at
}

// Chosen is how much a choice has.
type ChoiceCount struct {
	Events     int
	Unreadable int // of these, messages that are no events. They can only be discarded
	Behind     int // events that wait behind these
}
