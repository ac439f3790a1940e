package relay

import (
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ParkedState is the state of an event in the parking lot.
type ParkedState string

// The states of an event in the parking lot.
const (
	Parked    ParkedState = "parked"    // it waits until an operator decides
	Redrive   ParkedState = "redrive"   // an operator asked for it to be published; the leader will do so
	Redriven  ParkedState = "redriven"  // it was published, after later events
	Discarded ParkedState = "discarded" // an operator gave it up; it is never published
)

// Waits reports whether an event in this state holds up the later events of its aggregate.
func (s ParkedState) Waits() bool { return s == Parked || s == Redrive }

// ParkedEvent is an event in the parking lot.
type ParkedEvent struct {
	outbox.Progress
	Key       outbox.Key
	Type      string
	Reason    string
	State     ParkedState
	Sequence  uint64 // of the message in which it was redriven
	ParkedAt  time.Time
	ChangedAt time.Time // when State changed last
}
