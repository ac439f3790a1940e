package inbox

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// The errors of Operator.
var (
	// ErrNoSubscriber reports that there is no subscriber of that name.
	ErrNoSubscriber = fault.New(fault.NotFound, "no_such_subscriber", "there is no such subscriber")
	// ErrNotBegun reports that the subscriber has no lanes yet: they come with its first copy.
	ErrNotBegun = fault.New(fault.Conflict, "not_begun", "the subscriber has not begun")
	// ErrOtherStream reports that a lane stands in another stream than the one that is meant. A running copy brings it there.
	ErrOtherStream = fault.New(fault.Conflict, "other_stream", "a lane stands in another stream")
	// ErrNotWanted reports that the subscriber does not want the type.
	ErrNotWanted = fault.New(fault.NotFound, "type_not_wanted", "the subscriber does not want the type")
	// ErrNotForgotten reports that there is no tombstone.
	ErrNotForgotten = fault.New(fault.Conflict, "not_forgotten", "the subscriber is not forgotten")
	// ErrNotErased reports that rows of a forgotten subscriber are left.
	ErrNotErased = fault.New(fault.Conflict, "not_erased", "rows of the forgotten subscriber are left")
)

// Overview is a subscriber as operators see it.
type Overview struct {
	Subscriber string
	Standing
	PausedFor time.Duration // how long it has been paused
	Lanes     []Checkpoint  // in order
	Copies    []string      // that have announced themselves in the last CopyGone, in order
	Filled    int64         // events that came from the log, because the stream had lost them
	Missed    int64         // messages that the stream lost, and that nobody knows
	Dead      int           // letters
	Waiting   int           // letters that are retried, or wait
	Applied   time.Time     // when the newest of its events was applied; zero: never
	Rate      float64       // events applied in a second, over the last RateOver
}

// Stalled returns the longest time for which a lane with something to do has not moved. A lane has something to do if another lane is ahead
// of it, or if it is the slowest and the subscriber is behind the stream. Stalled returns 0 if there is no such lane, or if the subscriber is
// paused.
func (o Overview) Stalled(behind bool) (longest time.Duration) {
	if o.Paused || len(o.Lanes) == 0 {
		return 0
	}
	highest, lowest := Highest(o.Lanes).Sequence, Lowest(o.Lanes).Sequence
	for _, lane := range o.Lanes {
		if lane.Sequence < highest || behind && lane.Sequence == lowest {
			longest = max(longest, lane.Idle)
		}
	}
	return longest
}

// RateOver is the time over which Overview.Rate is measured. If more than RateEvents were applied, the newest of them count.
const (
	RateOver   = 10 * time.Second
	RateEvents = 2000
)

// Move is where an operator sends lanes.
type Move struct {
	Stream   string // identity of the stream that To is in
	To       StreamPosition
	Forwards bool // the lanes before To go there, and pass over what is between; else those after To go back
}

// Moves returns those of the lanes that the move is for. A lane that stands at the place, with less of the log dealt with, is before it.
func (m Move) Moves(lanes []Checkpoint) (moved []Checkpoint) {
	for _, lane := range lanes {
		if m.Forwards && lane.before(m.To) || !m.Forwards && lane.Sequence > m.To.Sequence {
			moved = append(moved, lane)
		}
	}
	return moved
}

// before reports whether a place is before another one, as far as that is known.
func (p StreamPosition) before(other StreamPosition) bool {
	return p.Sequence < other.Sequence || p.Sequence == other.Sequence && p.Progress < other.Progress
}

// InStream returns why the lanes of a subscriber do not all stand in the stream of that identity: ErrNotBegun if there are none, else
// ErrOtherStream.
func InStream(subscriber, stream string, lanes []Checkpoint) error {
	if len(lanes) == 0 {
		return ErrNotBegun.With("subscriber %s has not begun", subscriber)
	}
	for _, lane := range lanes {
		if lane.Stream != stream {
			return ErrOtherStream.With("lane %d of subscriber %s stands in the stream of %s, not in that of %s",
				lane.Lane, subscriber, lane.Stream, stream)
		}
	}
	return nil
}

// Lowest returns the lane that has come the least far, of several. Lanes that fill a hole stand at the same message, with different parts of
// the log dealt with.
func Lowest(lanes []Checkpoint) Checkpoint {
	lowest := lanes[0]
	for _, lane := range lanes {
		if lane.before(lowest.StreamPosition) {
			lowest = lane
		}
	}
	return lowest
}

// Highest returns the lane that has come the farthest, of several.
func Highest(lanes []Checkpoint) Checkpoint {
	highest := lanes[0]
	for _, lane := range lanes {
		if lane.Sequence > highest.Sequence {
			highest = lane
		}
	}
	return highest
}

// Proof reports whether the stream shows lanes as they are known: nil, or why not. It is called while nobody can move the lanes, so it
// answers soon.
//
// A lane that has not noticed yet that the stream went back stands in a stream that is no more. What it has dealt with is not what
// another lane at the same sequence has dealt with.
type Proof func(ctx context.Context, lanes []Checkpoint) error

// Operator is for people who decide about a subscriber. Each verb takes effect at once, also beside running copies: it waits for the
// transactions under way, and none that began before it commits after it. Each fails with ErrNoSubscriber if there is no such
// subscriber, and all but Forget, Erase and Lift with ErrForgotten if it is forgotten.
type Operator interface {
	// Overviews returns all subscribers, in order of their names; those that are forgotten too. What it costs does not depend on
	// the size of the inbox.
	Overviews(ctx context.Context) ([]Overview, error)
	// Pause stops everything: when it returns, nothing more is applied, until Resume: no event, and no dead letter. Both may be called
	// again.
	Pause(ctx context.Context, subscriber string) error
	Resume(ctx context.Context, subscriber string) error
	// Move sends lanes to another place, if proof has nothing against them. What was applied stays applied. Marks after the place go,
	// and the place becomes a mark, so that a stream that loses its end sends no lane farther back. It returns the lanes as they were.
	// It fails with ErrOtherStream if a lane is in another stream, and with ErrNotBegun if there is none.
	Move(ctx context.Context, subscriber string, move Move, proof Proof) (before []Checkpoint, err error)
	// SetLanes gives the subscriber so many lanes, if proof has nothing against the present ones. All begin at the place of the slowest
	// one, with the marks up to there. It returns the lanes as they were. It fails as Move does; the lanes have to be in one stream.
	SetLanes(ctx context.Context, subscriber string, lanes int, proof Proof) (before []Checkpoint, err error)
	// Ignore makes the subscriber pass over a type from now on. Its pending letters of that type are discarded, and counted. A copy that begins with
	// a handler of the type wants it again. It fails with ErrNotWanted.
	Ignore(ctx context.Context, subscriber, eventType string) (discarded int, err error)
	// Forget ends a subscriber, and leaves a tombstone: its copies end, and none begins. Its lanes go at once; letters and inbox stay
	// until they are erased. It may be called again.
	Forget(ctx context.Context, subscriber string) error
	// Erase removes at most so many letters, or rows of the inbox, of a subscriber that is forgotten. It returns how many; 0: there are
	// none. Effects stay. It fails with ErrNotForgotten.
	Erase(ctx context.Context, subscriber string, limit int) (erased int, err error)
	// Lift removes the tombstone, so that a subscriber of this name may begin as a new one. It fails with ErrNotForgotten, and with
	// ErrNotErased while anything is left that a new subscriber would take for its own.
	Lift(ctx context.Context, subscriber string) error
}
