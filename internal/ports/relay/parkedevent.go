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
	Redrive   ParkedState = "redrive"   // an operator asked to publish it; the leader will publish it
	Redriven  ParkedState = "redriven"  // it was published after all, so it comes after later events in the stream
	Discarded ParkedState = "discarded" // an operator gave it up; it is never published
)

// Waits reports whether the later events of the aggregate wait for an event in this state.
func (s ParkedState) Waits() bool { return s == Parked || s == Redrive }

// ParkedEvent is an event in the parking lot.
type ParkedEvent struct {
	outbox.Progress
	Key       outbox.Key
	Type      string
	Reason    string
	State     ParkedState
	Sequence  uint64 // sequence of the message with which the relay redrove the event
	ParkedAt  time.Time
	ChangedAt time.Time // when State changed last
}
