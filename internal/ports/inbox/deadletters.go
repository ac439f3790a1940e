package inbox

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

var (
	// ErrNoLetter reports that the subscriber has no dead letter of that id.
	ErrNoLetter = fault.New(fault.NotFound, "no_such_dead_letter", "there is no such dead letter")
	// ErrNotDead reports that the letter is in a state in which it cannot be retried.
	ErrNotDead = fault.New(fault.Conflict, "not_retryable", "the dead letter cannot be retried")
)

// LetterState is what happens to a letter next.
type LetterState string

// The states of a letter.
const (
	Retrying  LetterState = "retrying"  // the subscriber tries it again
	Dead      LetterState = "dead"      // it failed too often, or no retry can help; an operator has to decide
	Discarded LetterState = "discarded" // an operator gave it up; it never takes effect
	// Waiting is the state of a letter that is not dead while an earlier letter of its aggregate is pending. It is derived from the other
	// letters. Earlier versions of this program also store it: such a row counts as Retrying.
	Waiting LetterState = "waiting"
	// Failing is a state that only earlier versions of this program write: the event failed, and the stream delivers it again. No letter waits
	// for it. When the lane reads the event again, it removes the letter, or replaces the letter if the event fails or has to wait.
	Failing LetterState = "failing"
)

// Letter is a dead letter: an event that a subscriber could not apply, or an event that waits behind an earlier event of its aggregate. A
// letter is pending while it is Retrying, Dead or Waiting. The letter of an unreadable message has no aggregate, so nothing waits behind
// it.
type Letter struct {
	outbox.Entry
	State         LetterState
	Error         string    // of the last failure; empty: it never failed
	Attempts      int       // failures, since an operator's last retry if there was one
	Behind        int       // letters of its aggregate that wait for it; only operations.DeadLetterAdmin sets it
	FirstFailedAt time.Time // when it failed first, or began to wait
	DeadAt        time.Time // zero: it never was dead
	NoHandler     bool      // it is Dead until a program with a handler of its type tries it
}

// Readable reports whether the message is an event.
func (l Letter) Readable() bool { return l.Position > 0 }

// Failure is one failure of an event.
type Failure struct {
	Cause     error
	Permanent bool          // no retry can help
	Outage    bool          // the event is not the reason, so the failure does not count
	Limit     int           // the event is dead after so many failures
	Wait      time.Duration // until the event is tried again
}

// Redelivery says which letters are tried again, and how.
type Redelivery struct {
	Limit int // letters in one transaction
	// Savepoints gives each letter a savepoint of its own. If a letter fails, those before it stay applied, and its failure is counted. Without
	// savepoints, which is faster, a failure undoes the whole transaction.
	Savepoints bool
	Types      []string // types that the caller has a handler for: letters that wait for such a handler are tried too
}

// Redelivered is what a redelivery did.
type Redelivered struct {
	Applied []outbox.Entry
	Failed  *Letter // the letter that failed, in its state after the failure; nil: none failed
	Emitted int     // events that handlers appended to the log
}

// DeadLetters tries letters again. It is safe for concurrent use.
type DeadLetters interface {
	// Redeliver handles letters of one aggregate in one transaction, in order, from the first one up to the first that is Dead. The same
	// transaction removes each letter that was handled. Redeliver chooses an aggregate whose first pending letter is Retrying and due, and on
	// which no other transaction works. If there are several such aggregates, Redeliver chooses the one that has been due for the longest
	// time. If there is none, found is false.
	//
	// A letter with NoHandler counts as Retrying and due if r.Types has its type. No letter is due while the subscriber is paused or forgotten,
	// while an operator's change waits, or if the subscriber has a handler of another name.
	//
	// Redeliver fails with the same errors as UnitOfWork.Apply. The index in an *EventError counts the letters of the aggregate. With
	// savepoints, policy decides about the letter that fails, and the letters behind it stay.
	Redeliver(ctx context.Context, subscriber string, r Redelivery, handler Handler, policy FailurePolicy) (done Redelivered, found bool, err error)
}
