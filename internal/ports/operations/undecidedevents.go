package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

const (
	// MaxGroupedEvents is how many undecided events Groups looks at.
	MaxGroupedEvents = 100_000
	// MaxGroups is how many groups Groups lists.
	MaxGroups = 100
	// MaxGroupTypes is how many types a group lists.
	MaxGroupTypes = 20
)

// UndecidedEventsAdmin lets an operator decide about many events at once. An undecided event waits for a decision: it is a dead letter of a
// subscriber, or the first parked event of an aggregate.
//
// Retry and Discard change a few hundred events in each transaction. If a transaction fails, the transactions before it have taken effect,
// and the count includes their events. The caller can call the method again.
type UndecidedEventsAdmin interface {
	// Groups groups events by the fingerprints of their reasons. It looks at most at MaxGroupedEvents events.
	Groups(ctx context.Context) (Groups, error)
	// Count counts the chosen events.
	Count(ctx context.Context, choice Choice) (ChoiceCount, error)
	// Retry lets the subscriber or the relay try the chosen events again, and returns how many. It does not change a dead letter that is
	// not an event. The relay redrives a chosen parked event together with the events that are parked behind it.
	Retry(ctx context.Context, choice Choice) (int, error)
	// Discard gives up the chosen events for ever, and returns how many.
	Discard(ctx context.Context, choice Choice) (int, error)
}

// DeadLetterFinder finds the dead letters of subscribers.
type DeadLetterFinder interface {
	// ForSubscriber returns the dead letters of a subscriber, or fails with inbox.ErrNoSubscriber.
	ForSubscriber(ctx context.Context, subscriber string) (UndecidedEventsAdmin, error)
}

// UndecidedEvent is a dead letter of a subscriber, or the first parked event of an aggregate.
type UndecidedEvent struct {
	Position     outbox.Position // 0: the message is not an event
	EventID      string
	Key          outbox.Key
	Type         string
	Reason       string // the beginning of the reason, long enough for its fault.Fingerprint
	First        time.Time
	Last         time.Time
	EventsBehind int // events of its aggregate that wait behind it, if they were counted. Each of them counts for only one undecided event
}

// Choice chooses undecided events. A field with its zero value excludes no event.
type Choice struct {
	Group     string // id of the fault.Fingerprint of the events' reasons
	Type      string
	Aggregate outbox.Key
}

// Has reports whether c includes u.
func (c Choice) Has(u UndecidedEvent) bool { return c.Matcher()(u) }

// Matcher returns a function that is Has for many events. It remembers fingerprints, so it is not safe for concurrent use.
func (c Choice) Matcher() func(UndecidedEvent) bool {
	var known fault.Fingerprints
	return func(u UndecidedEvent) bool {
		return (c.Type == "" || c.Type == u.Type) && (c.Aggregate == outbox.Key{} || c.Aggregate == u.Key) &&
			(c.Group == "" || c.Group == known.Of(u.Reason).ID)
	}
}

// ChoiceCount is how many events a choice includes.
type ChoiceCount struct {
	Events       int
	Unreadable   int // of these, messages that are not events: nobody can retry them, only discard
	EventsBehind int // events that wait behind these
}

// Group is the undecided events whose reasons have the same fingerprint.
type Group struct {
	fault.Fingerprint
	Events       int
	EventsBehind int // events that wait behind these
	First        time.Time
	Last         time.Time
	Types        []string       // sorted, at most MaxGroupTypes
	Example      UndecidedEvent // the first one
}

// Groups are the undecided events, grouped by fingerprint.
type Groups struct {
	List   []Group // the largest first, at most MaxGroups
	All    int     // how many groups there are, with those that List leaves out
	Events int     // how many events the method Groups has looked at
	More   bool    // there are more events, which are in no group
}
