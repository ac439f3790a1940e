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

// UndecidedEvents wait for an operator's decision: the dead letters of a subscriber, or the first parked event of each aggregate.
//
// Retry and Discard change many events in transactions of some hundred. If one transaction fails, those before it have taken effect,
// the count includes them, and the method can be called again.
type UndecidedEvents interface {
	// Groups groups events by the fingerprints of their reasons. It looks at MaxGroupedEvents at most.
	Groups(ctx context.Context) (Groups, error)
	// Count counts the chosen events.
	Count(ctx context.Context, choice Choice) (ChoiceCount, error)
	// Retry lets the chosen events be tried again, and returns how many. It leaves dead letters alone that are not events. A parked
	// event is redriven together with those parked behind it.
	Retry(ctx context.Context, choice Choice) (int, error)
	// Discard gives the chosen events up for ever, and returns how many.
	Discard(ctx context.Context, choice Choice) (int, error)
}

// DeadLetterFinder finds the dead letters of subscribers.
type DeadLetterFinder interface {
	// Of returns the dead letters of one subscriber. If there is no such subscriber, it fails with inbox.ErrNoSubscriber.
	Of(ctx context.Context, subscriber string) (UndecidedEvents, error)
}

// UndecidedEvent is a dead letter of a subscriber, or the first parked event of an aggregate.
type UndecidedEvent struct {
	Position outbox.Position // 0: the message is not an event
	EventID  string
	Key      outbox.Key
	Type     string
	Reason   string // its beginning: all that a fault.Fingerprint needs
	First    time.Time
	Last     time.Time
	Behind   int // events of its aggregate that wait behind it. Each is counted for one undecided event
}

// Choice chooses undecided events. Each zero value chooses all.
type Choice struct {
	Group     string // the id of the fault.Fingerprint of their reason
	Type      string
	Aggregate outbox.Key
}

// Has reports whether the choice includes an event.
func (c Choice) Has(u UndecidedEvent) bool {
	return (c.Type == "" || c.Type == u.Type) && (c.Aggregate == outbox.Key{} || c.Aggregate == u.Key) &&
		(c.Group == "" || c.Group == fault.NewFingerprint(u.Reason).ID)
}

// ChoiceCount is how many events a choice includes.
type ChoiceCount struct {
	Events     int
	Unreadable int // of these, messages that are not events. They can only be discarded
	Behind     int // events that wait behind these
}

// Group is the undecided events whose reasons have one fingerprint.
type Group struct {
	fault.Fingerprint
	Events  int
	Behind  int // events that wait behind these
	First   time.Time
	Last    time.Time
	Types   []string       // sorted, at most MaxGroupTypes
	Example UndecidedEvent // the first one
}

// Groups is the undecided events by fingerprint.
type Groups struct {
	List   []Group // the largest first, at most MaxGroups
	All    int     // how many groups there are, those that are not listed included
	Events int     // how many events were looked at
	More   bool    // there are events that were not looked at
}
