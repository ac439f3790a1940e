package inbox

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// What stands in the way of an event, or of an operator.
var (
	// ErrHeld : an earlier event of the same aggregate was set aside and not applied yet, so this one has to wait behind it.
	ErrHeld = fault.New(fault.Conflict, "held_back", "an earlier event of the same aggregate was set aside")
	// ErrNoLetter : the subscriber has no dead letter of that id.
	ErrNoLetter = fault.New(fault.NotFound, "no_such_dead_letter", "there is no such dead letter")
	// ErrNotDead : the letter is in a state in which it cannot be retried.
	ErrNotDead = fault.New(fault.Conflict, "not_retryable", "the dead letter cannot be retried")
)

// State is what is being done about a letter.
type State string

// The states of a letter.
const (
	Failing   State = "failing"   // it failed and is tried again from the stream, in which everything waits for it
	Dead      State = "dead"      // it failed too often, or cannot be read; somebody has to decide
	Waiting   State = "waiting"   // it stands behind an earlier event of its aggregate
	Retrying  State = "retrying"  // it is tried again from here: somebody asked for it, or its turn has come
	Discarded State = "discarded" // it was given up and never takes effect
	// Applied is no state of a letter but an answer: the event took effect, so there is no letter.
	Applied State = "applied"
)

// Letter is an event that a subscriber could not apply, or one that waits behind such an event. A message that cannot be
// read has an ID, a subject, headers and a payload, and no aggregate: nothing waits behind it.
type Letter struct {
	outbox.Entry
	State         State
	Error         string    // of the last failure
	Attempts      int       // failures since it came, or since its last retry
	Behind        int       // events that wait behind it; only in what a LetterDesk answers
	FirstFailedAt time.Time // or was set aside
	DeadAt        time.Time // zero when it never was dead
}

// Readable reports whether the message is an event.
func (l Letter) Readable() bool { return l.Position > 0 }

// Failure is one failure of an event.
type Failure struct {
	Cause error
	Limit int           // the event is dead when it has failed so often
	Wait  time.Duration // until Due hands a Retrying letter out again
}

// Failed is the letter after a failure. held says that an earlier event of its aggregate has a letter that was not ended.
func (l Letter) Failed(failure Failure, held bool) Letter {
	if l.State != Failing && l.State != Retrying {
		return l
	}
	l.Attempts++
	l.Error = failure.Cause.Error()
	switch {
	case l.State == Failing && held:
		l.State = Waiting
	case l.Attempts >= failure.Limit:
		l.State = Dead
	}
	return l
}

// Aside is the letter of an event that is to wait behind an earlier one, if it still is held.
func (l Letter) Aside(held bool) Letter {
	switch {
	case l.State != Failing:
	case held:
		l.State = Waiting
	default:
		l.State = Retrying
	}
	return l
}

// Rejected is the letter of a message that cannot be read.
func (l Letter) Rejected(cause error) Letter {
	if l.State == Failing {
		l.State, l.Error, l.Attempts = Dead, cause.Error(), 1
	}
	return l
}

// DeadLetters takes events out of a subscriber's way. Whether an event was applied or set aside is decided once: what was
// set aside counts as dealt with for UnitOfWork.Once until it is Retrying, and what was applied cannot be set aside any
// more. Letters outlive the copy of the subscriber that made them.
type DeadLetters interface {
	// Fail counts a failure, over all copies of the subscriber and their restarts, and says what has become of the event:
	// Failing, Dead, Retrying (it was before), Waiting if it turned out that it has to wait for an earlier one anyway, or
	// whatever else somebody did about it meanwhile.
	Fail(ctx context.Context, subscriber string, entry outbox.Entry, failure Failure) (Letter, error)
	// SetAside makes an event that is held (ErrHeld) wait behind the one that holds it; or makes it Retrying if nothing
	// does any more. It may be repeated.
	SetAside(ctx context.Context, subscriber string, entry outbox.Entry) (Letter, error)
	// Reject keeps a message that cannot be read, under its id. It may be repeated.
	Reject(ctx context.Context, subscriber string, message outbox.Message, cause error) error
	// Due hands out a letter that is Retrying, the longest overdue first, and to nobody else for the length of lease.
	// found is false when there is none. UnitOfWork.Once applies it, and ends it together with the effect: the letter is
	// gone, and the one that waits behind it is Retrying.
	Due(ctx context.Context, subscriber string, lease time.Duration) (letter Letter, found bool, err error)
}

// LetterDesk is for whoever looks after dead letters.
type LetterDesk interface {
	// Letters lists what is Dead, Failing or Retrying, by position, at most limit of them. What waits is counted in Behind.
	Letters(ctx context.Context, subscriber string, limit int) ([]Letter, error)
	// Letter returns one letter in any state, or ErrNoLetter.
	Letter(ctx context.Context, subscriber, id string) (Letter, error)
	// Retry makes a Dead letter Retrying, with all its attempts anew. It answers ErrNoLetter, or an ErrNotDead that says
	// why not: what waits is retried when its turn comes, and what cannot be read never.
	Retry(ctx context.Context, subscriber, id string) error
	// RetryAll makes all readable Dead letters Retrying, and counts them.
	RetryAll(ctx context.Context, subscriber string) (int, error)
	// Discard gives an event up: it never takes effect, however often it comes again, and what waits behind it is Retrying.
	// It answers ErrNoLetter, also for one that was discarded or applied before.
	Discard(ctx context.Context, subscriber, id string) error
	// CountDead counts what is Dead.
	CountDead(ctx context.Context, subscriber string) (int, error)
	// Subscribers names everybody who has ever taken an event in, and whose traces have not been swept since.
	Subscribers(ctx context.Context) ([]string, error)
}

// Sweeper forgets.
type Sweeper interface {
	// Sweep forgets which events subscriber has applied or discarded more than age ago, at most limit of each, and
	// counts them. An event that comes again after that takes effect again.
	Sweep(ctx context.Context, subscriber string, age time.Duration, limit int) (int, error)
}
