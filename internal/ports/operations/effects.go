package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// EffectReader reads what subscribers in this database did with events.
type EffectReader interface {
	// Effects returns, for each of these events and each subscriber that has begun, what the subscriber did with the event. They are sorted by
	// the subscribers' names. The records of old events may have been removed; then an event counts as not reached.
	Effects(ctx context.Context, eventIDs []string) ([]Effect, error)
}

// Effect is what a subscriber did with an event.
type Effect struct {
	Subscriber string
	EventID    string
	AppliedAt  time.Time         // zero: it has not taken effect
	Sequence   uint64            // of the stream; 0: not known
	Letter     inbox.LetterState // the state of the event's dead letter; empty: there is none
	Error      string            // why it failed
	Wanted     bool              // the subscriber wants the event's type
}
