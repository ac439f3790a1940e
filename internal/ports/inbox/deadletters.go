package inbox

import (
	"context"
	"errors"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// The errors of Operator.
var (
	// ErrNoLetter reports that the subscriber has no dead letter of that id.
	ErrNoLetter = fault.New(fault.NotFound, "no_such_dead_letter", "there is no such dead letter")
	// ErrNotDead reports that the letter is in a state in which it cannot be retried.
	ErrNotDead = fault.New(fault.Conflict, "not_retryable", "the dead letter cannot be retried")
)

// State is what is being done about a letter.
type State string

// The states of a letter.
const (
	Retrying  State = "retrying"  // the subscriber tries it again by itself
	Dead      State = "dead"      // it failed too often, or can never be handled; an operator has to decide
	Discarded State = "discarded" // an operator gave it up; it never takes effect
	// Waiting is what a letter does that is not dead while an earlier letter of its aggregate is pending. It is derived from the
	// other letters. Rows have it too, for programs of before; such a row counts as Retrying.
	Waiting State = "waiting"
	// Failing is a state that only programs of before give: the event failed, and comes again from the stream. Nothing waits for
	// it. The lane ends such a letter when it meets the event.
	Failing State = "failing"
)

// Letter is an event that a subscriber could not apply, or one that waits behind such an event. The letter of an unreadable message
// has no aggregate: nothing waits behind it. A letter is pending while it is Retrying, Dead or Waiting.
type Letter struct {
	outbox.Entry
	State         State
	Error         string    // of the last failure; empty when it never failed
	Attempts      int       // failures since it came, or since its last retry
	Behind        int       // letters of its aggregate that wait behind it; only in what DeadLetterAdmin returns
	FirstFailedAt time.Time // or when it came to wait
	DeadAt        time.Time // zero when it never was dead
	NoHandler     bool      // it is Dead until a program tries it that has a handler of its type
}

// Readable reports whether the message is an event.
func (l Letter) Readable() bool { return l.Position > 0 }

// Failure is one failure of an event.
type Failure struct {
	Cause     error
	Permanent bool          // no retry can help
	Outage    bool          // it says nothing about the event, and does not count
	Limit     int           // the event is dead when it has failed so often
	Wait      time.Duration // until the event is tried again
}

// Failed returns the letter after a failure: Dead, or Retrying.
func (l Letter) Failed(failure Failure) Letter {
	l.Error = failure.Cause.Error()
	l.NoHandler = errors.Is(failure.Cause, ErrNoHandler)
	l.State = Retrying
	if failure.Outage {
		return l
	}
	l.Attempts++
	if failure.Permanent || l.Attempts >= failure.Limit {
		l.State = Dead
	}
	return l
}

// Redelivery says which letters are tried again, and how.
type Redelivery struct {
	Limit int // letters in one transaction
	// Careful gives each letter a savepoint of its own: what stands before a letter that fails is applied, and the failure is
	// counted. Otherwise a failure undoes the whole transaction. Careful is slower.
	Careful bool
	Types   []string // of which the caller has a handler: letters that wait for one of these are tried too
}

// Redelivered is what a redelivery did.
type Redelivered struct {
	Applied []outbox.Entry
	Failed  *Letter // after its failure; nil: none failed
	Emitted int     // events that handlers appended to the log
}

// DeadLetters tries letters again. It is safe for concurrent use.
type DeadLetters interface {
	// Redeliver chooses the aggregate whose first pending letter is Retrying and has been due for the longest time, among those
	// that nobody else works on, and handles the letters of that aggregate in order, in one transaction: from the first on, as
	// far as they are not Dead. The letters end together with their effects. It returns false if no letter is due. A letter with
	// NoHandler counts as Retrying and due if r.Types has its type. No letter is due while the subscriber is paused or forgotten, while
	// somebody waits to decide about it, and for a handler of another name than the subscriber's.
	//
	// The errors are those of UnitOfWork.Apply, with the place among the aggregate's letters as index. With Careful, the letter
	// that fails is changed as judge says, and those behind it stay.
	Redeliver(ctx context.Context, subscriber string, r Redelivery, handler Handler, judge Judge) (done Redelivered, found bool, err error)
}
