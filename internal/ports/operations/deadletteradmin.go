package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// DeadLetterCursor is a place in a walk through the dead letters; see DeadLetterAdmin.Undecided. Only the adapter that made the cursor
// knows the meaning of its fields.
type DeadLetterCursor struct {
	Until, DueAt time.Time
	ID           string
}

// DeadLetterAdmin lets people decide about dead letters. Each method takes effect at once, also while copies of the subscriber run.
type DeadLetterAdmin interface {
	// Letters lists the letters that are Dead, Failing or Retrying, by position, at most limit. It leaves out Waiting letters,
	// and counts them in Behind. The listed letters have no payload and no headers, because these may be large: see Letter.
	Letters(ctx context.Context, subscriber string, limit int) ([]inbox.Letter, error)
	// Letter returns one letter in any state, with its payload and its headers, or fails with inbox.ErrNoLetter.
	Letter(ctx context.Context, subscriber, id string) (inbox.Letter, error)
	// Retry changes a Dead letter to Retrying. The letter is due at once, and its attempts count from zero again. Retry fails with
	// inbox.ErrNoLetter, or with inbox.ErrNotDead. The detail of ErrNotDead says why: for example, a waiting letter is tried when its turn
	// comes, and an unreadable letter is never tried.
	Retry(ctx context.Context, subscriber, id string) error
	// Discard gives an event up. The event never takes effect, even if it is delivered again, and the letter behind it is next. Discard
	// fails with inbox.ErrNoLetter, also if the event was discarded or applied before.
	Discard(ctx context.Context, subscriber, id string) error
	// EachUndecided calls visit once for each Dead letter, in any order, until visit returns false. It reads the letters in one snapshot.
	// Visit must be quick, and must not call the adapter. If EachUndecided fails, it may have visited some letters.
	EachUndecided(ctx context.Context, subscriber string, visit func(UndecidedEvent) bool) error
	// Undecided returns at most limit Dead letters after a cursor, and the cursor of the last one. It does not count EventsBehind.
	// The adapter chooses the order. A walk begins with the zero cursor, and ends when Undecided returns nothing. A walk finds each letter
	// once that is Dead during the whole walk. It finds no letter that became Dead after the walk began.
	Undecided(ctx context.Context, subscriber string, after DeadLetterCursor, limit int) ([]UndecidedEvent, DeadLetterCursor, error)
	// RetryChosen retries the letters with these ids that are Dead and readable and that choice includes, all of them or none. It returns
	// how many letters it retried. It does not change the other letters.
	RetryChosen(ctx context.Context, subscriber string, ids []string, choice Choice) (int, error)
	// DiscardChosen discards the letters with these ids that are Dead and that choice includes, all of them or none. It returns how many
	// letters it discarded. It does not change the other letters.
	DiscardChosen(ctx context.Context, subscriber string, ids []string, choice Choice) (int, error)
	// CountDead counts the Dead letters.
	CountDead(ctx context.Context, subscriber string) (int, error)
	// Subscribers returns the name of every subscriber that has begun or has dealt with an event, and was not forgotten since.
	Subscribers(ctx context.Context) ([]string, error)
}
