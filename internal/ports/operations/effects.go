package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// EffectReader reads what the subscribers in this database did with events. It is safe for concurrent use.
type EffectReader interface {
	// Effects returns one Effect for each of these events and each subscriber that has lanes. A subscriber without lanes has not begun, or was
	// forgotten. The effects are sorted by subscriber, and then in the order of eventIDs. An id that is not a UUID is left out, and so
	// is an id that was there before in eventIDs. The records of old events may have been removed, so an old event can look as if it were not reached.
	Effects(ctx context.Context, eventIDs []string) ([]Effect, error)
}

// Effect is what a subscriber did with an event.
type Effect struct {
	Subscriber string
	EventID    string
	AppliedAt  time.Time         // when the effect was committed; zero: the event has not taken effect
	Sequence   uint64            // where the subscriber read the event last, in the stream; 0: not known
	Letter     inbox.LetterState // the state of the event's dead letter; empty: there is none
	Error      string            // why the event failed, if there is a letter; empty: it never failed
	Wanted     bool              // the subscriber wants the event's type, or has a record of the event
}
