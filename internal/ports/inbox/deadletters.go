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

// LetterMark is how far a walk through the dead letters has come. Only the adapter that made it knows what is in it.
type LetterMark struct {
	Until, DueAt time.Time
	ID           string
}

// DeadLetterAdmin is for people who decide about dead letters. Each method takes effect at once, also beside running copies of the
// subscriber.
type DeadLetterAdmin interface {
	// Letters lists what is Dead, Failing or Retrying, by position, at most limit of them. What waits is counted in Behind.
	Letters(ctx context.Context, subscriber string, limit int) ([]Letter, error)
	// Letter returns one letter in any state, or ErrNoLetter.
	Letter(ctx context.Context, subscriber, id string) (Letter, error)
	// Retry makes a Dead letter Retrying, due at once, with no attempts counted. It fails with ErrNoLetter, or with an ErrNotDead
	// that says why: what waits is tried when its turn comes, and what cannot be read never.
	Retry(ctx context.Context, subscriber, id string) error
	// Discard gives an event up: it never takes effect, however often it comes again, and the letter behind it has its turn. It
	// fails with ErrNoLetter, also for an event that was discarded or applied before.
	Discard(ctx context.Context, subscriber, id string) error
	// Undecided returns at most limit of the Dead letters after a mark, and the mark of the last one, in an order of its own. A walk
	// from the zero LetterMark to the end, where nothing is returned, finds each letter once that is Dead all the time, and none that
	// died after the walk began.
	Undecided(ctx context.Context, subscriber string, after LetterMark, limit int) ([]outbox.Undecided, LetterMark, error)
	// RetryChosen does what Retry does with those of the letters that are Dead, readable and of the choice, all at once. It returns
	// how many these are, and leaves the others alone.
	RetryChosen(ctx context.Context, subscriber string, ids []string, choice outbox.Choice) (int, error)
	// DiscardChosen does what Discard does with those of the letters that are Dead and of the choice, all at once. It returns how
	// many these are, and leaves the others alone.
	DiscardChosen(ctx context.Context, subscriber string, ids []string, choice outbox.Choice) (int, error)
	// CountDead counts what is Dead.
	CountDead(ctx context.Context, subscriber string) (int, error)
	// Subscribers names every subscriber that has begun or has dealt with an event, and has not been forgotten since.
	Subscribers(ctx context.Context) ([]string, error)
}
