package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// LetterMark is how far a walk through the dead letters has come. Only the adapter that made it knows what is in it.
type DeadLetterCursor struct {
	Until, DueAt time.Time
	ID           string
}

// DeadLetterAdmin is for people who decide about dead letters. Each method takes effect at once, also beside running copies of the
// subscriber.
type DeadLetterAdmin interface {
	// Letters lists what is Dead, Failing or Retrying, by position, at most limit of them. What waits is counted in Behind.
	Letters(ctx context.Context, subscriber string, limit int) ([]inbox.Letter, error)
	// Letter returns one letter in any state, or inbox.ErrNoLetter.
	Letter(ctx context.Context, subscriber, id string) (inbox.Letter, error)
	// Retry makes a Dead letter Retrying, due at once, with no attempts counted. It fails with inbox.ErrNoLetter, or with an inbox.ErrNotDead
	// that says why: what waits is tried when its turn comes, and what cannot be read never.
	Retry(ctx context.Context, subscriber, id string) error
	// Discard gives an event up: it never takes effect, however often it comes again, and the letter behind it has its turn. It
	// fails with inbox.ErrNoLetter, also for an event that was discarded or applied before.
	Discard(ctx context.Context, subscriber, id string) error
	// Undecided returns at most limit of the Dead letters after a mark, and the mark of the last one, in an order of its own. A walk
	// from the zero LetterMark to the end, where nothing is returned, finds each letter once that is Dead all the time, and none that
	// died after the walk began.
	Undecided(ctx context.Context, subscriber string, after DeadLetterCursor, limit int) ([]UndecidedEvent, DeadLetterCursor, error)
	// RetryChosen does what Retry does with those of the letters that are Dead, readable and of the choice, all at once. It returns
	// how many these are, and leaves the others alone.
	RetryChosen(ctx context.Context, subscriber string, ids []string, choice Choice) (int, error)
	// DiscardChosen does what Discard does with those of the letters that are Dead and of the choice, all at once. It returns how
	// many these are, and leaves the others alone.
	DiscardChosen(ctx context.Context, subscriber string, ids []string, choice Choice) (int, error)
	// CountDead counts what is Dead.
	CountDead(ctx context.Context, subscriber string) (int, error)
	// Subscribers names every subscriber that has begun or has dealt with an event, and has not been forgotten since.
	Subscribers(ctx context.Context) ([]string, error)
}
