package relay

import (
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ParkedState is where an event in the parking lot stands. While it is Parked or Redrive it waits, and so do all later
// events of its aggregate.
type ParkedState string

// The states of an event in the parking lot.
const (
	Parked    ParkedState = "parked"    // until an operator decides
	Redrive   ParkedState = "redrive"   // an operator decided that it be published after all; the leader is about to
	Redriven  ParkedState = "redriven"  // it was published, later than its place in the log
	Discarded ParkedState = "discarded" // an operator gave it up; it will never be published
)

// Waits reports whether an event of this state holds up its aggregate.
func (s ParkedState) Waits() bool { return s == Parked || s == Redrive }

// ParkedEvent is an event in the parking lot: one that the broker can never take, or one that came after such an event of
// its aggregate.
type ParkedEvent struct {
	outbox.Progress
	Key       outbox.Key
	Type      string
	Reason    string
	State     ParkedState
	Sequence  uint64 // of the message that it was redriven as
	ParkedAt  time.Time
	ChangedAt time.Time // when it got its state
}

// ControlMessage is a message of the engine itself, in the stream like any other: by it a decision is made in the same place, and
// by the same compare-and-swap, as events are published.
type ControlMessage struct {
	outbox.Progress        // the log counts as dealt with up to here
	Parked          string // why the event at Progress was parked in its place; empty: nothing was parked
	// Confirms marks the notice of a leader which only proves where the stream ended: from then on, nothing that was under way
	// can be stored. A notice that neither parks nor confirms is an operator's: the log goes on after Progress, wherever it was.
	Confirms bool
	// Kept is the sequence of the last message of ours before the notice. An event that was redriven above it is not in the
	// stream, whatever is said elsewhere: of a stream that lost messages, others may have taken their places.
	LastOwnSequence uint64
}
