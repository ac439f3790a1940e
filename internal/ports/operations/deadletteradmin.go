package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// DeadLetterCursor is a position in the walk through the dead letters. Only the adapter that made it knows what its fields mean.
type DeadLetterCursor struct {
	Until, DueAt time.Time
	ID           string
}

// DeadLetterAdmin lets people decide about dead letters. Each method takes effect at once, also beside running copies of the
// subscriber.
type DeadLetterAdmin interface {
	// Letters lists the letters that are Dead, Failing or Retrying, by position, at most limit. Those that wait are counted in Behind.
	Letters(ctx context.Context, subscriber string, limit int) ([]inbox.Letter, error)
	// Letter returns one letter in any state, or fails with inbox.ErrNoLetter.
	Letter(ctx context.Context, subscriber, id string) (inbox.Letter, error)
	// Retry makes a Dead letter Retrying, due at once, with no attempts counted. It fails with inbox.ErrNoLetter; or with
	// inbox.ErrNotDead, whose detail says why: a waiting letter is tried when its turn comes, an unreadable one never.
	Retry(ctx context.Context, subscriber, id string) error
	// Discard gives an event up: it never takes effect, however often it comes again, and the letter behind it is next. Discard fails
	// with inbox.ErrNoLetter, also if the event was discarded or applied before.
	Discard(ctx context.Context, subscriber, id string) error
	// Undecided returns at most limit Dead letters after a cursor, and the cursor of the last one. The order is the adapter's own. A
	// walk from the zero cursor until nothing is returned finds each letter once that is Dead throughout, and none that died after the
	// walk began.
	Undecided(ctx context.Context, subscriber string, after DeadLetterCursor, limit int) ([]UndecidedEvent, DeadLetterCursor, error)
	// RetryChosen retries those of the letters that are Dead, readable and of the choice, all at once. It returns how many these are,
	// and leaves the others alone.
	RetryChosen(ctx context.Context, subscriber string, ids []string, choice Choice) (int, error)
	// DiscardChosen discards those of the letters that are Dead and of the choice, all at once. It returns how many these are, and
	// leaves the others alone.
	DiscardChosen(ctx context.Context, subscriber string, ids []string, choice Choice) (int, error)
	// CountDead counts the Dead letters.
	CountDead(ctx context.Context, subscriber string) (int, error)
	// Subscribers names every subscriber that has begun or has dealt with an event, and has not been forgotten since.
	Subscribers(ctx context.Context) ([]string, error)
}
