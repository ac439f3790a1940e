package inbox

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrNoSubscriber reports that there is no subscriber of that name.
var ErrNoSubscriber = fault.New(fault.NotFound, "no_such_subscriber", "there is no such subscriber")

// Overview is a subscriber as operators see it.
type Overview struct {
	Subscriber string
	Standing
	Lanes  []Checkpoint
	Copies []string
	Filled int64 // events that came from the log, because the stream had lost them
	Missed int64 // messages that the stream lost, and that nobody knows
	Dead   int
	// Waiting counts the letters that are retried, or wait.
	Waiting int
	Applied time.Time // when the newest of its events was applied; zero: never
}

// Operator is for people who decide about a subscriber. Each verb takes effect at once, also beside running copies: it waits for the
// transactions under way, and none that began before it commits after it. Each fails with ErrNoSubscriber if there is no such one.
type Operator interface {
	// Overviews returns all subscribers, in order of their names; those that are forgotten too.
	Overviews(ctx context.Context) ([]Overview, error)
	// Pause stops everything: when it returns, nothing more is applied, until Resume. Both may be called again.
	Pause(ctx context.Context, subscriber string) error
	Resume(ctx context.Context, subscriber string) error
	// Move sends every lane to a place in the stream, backwards or forwards. Lanes that are at another stream come to this one. What
	// was applied stays applied. It returns the lowest and the highest sequence at which lanes were.
	Move(ctx context.Context, subscriber, stream string, to Place) (lowest, highest uint64, err error)
	// SetLanes gives the subscriber so many lanes, which all begin at the place of the slowest one. It fails with a fault.Conflict if
	// the lanes are at different streams.
	SetLanes(ctx context.Context, subscriber string, lanes int) error
	// Ignore ends that the subscriber wants a type. Letters that wait for a handler of it are discarded, and counted.
	Ignore(ctx context.Context, subscriber, eventType string) (discarded int, err error)
	// Forget removes what is known of a subscriber, other than its effects, and leaves a tombstone. Remember removes the tombstone.
	Forget(ctx context.Context, subscriber string) error
	Remember(ctx context.Context, subscriber string) error
}
