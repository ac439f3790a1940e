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
	// ErrNotBegun reports that the subscriber has no lanes yet: its first copy creates them.
	ErrNotBegun = fault.New(fault.Conflict, "not_begun", "the subscriber has not begun")
	// ErrOtherStream reports that a lane does not stand in the expected stream. A running copy moves the lane into the present stream.
	ErrOtherStream = fault.New(fault.Conflict, "other_stream", "a lane stands in another stream")
	// ErrNotWanted reports that the subscriber does not want the type.
	ErrNotWanted = fault.New(fault.NotFound, "type_not_wanted", "the subscriber does not want the type")
	// ErrNotForgotten reports that the subscriber has no tombstone.
	ErrNotForgotten = fault.New(fault.Conflict, "not_forgotten", "the subscriber is not forgotten")
	// ErrNotErased reports that rows of a forgotten subscriber are left.
	ErrNotErased = fault.New(fault.Conflict, "not_erased", "rows of the forgotten subscriber are left")
)

// Overview is a subscriber as operators see it.
type Overview struct {
	Subscriber string
	Subscription
	PausedFor      time.Duration // how long it has been paused
	Lanes          []Checkpoint  // in order
	Copies         []string      // names of the copies with a heartbeat in the last CopyTimeout, sorted
	FilledEvents   int64         // events that were read from the log because the stream had lost them
	MissedMessages int64         // messages that the stream lost, and whose events are unknown
	Dead           int           // letters that are dead
	Waiting        int           // letters that are retried, or that wait
	Applied        time.Time     // when its newest event was applied; zero: never
	Rate           float64       // events applied in a second, over the last RateWindow
}

const (
	// RateWindow is the time over which Overview.Rate is measured.
	RateWindow = 10 * time.Second
	// RateEvents is the largest number of events in RateWindow that count: the newest ones.
	RateEvents = 2000
)

// Stalled returns the longest time for which a lane with something to do has not moved. A lane has something to do if another lane is ahead of
// it, or if it is the slowest one and the subscriber is behind the stream. Stalled returns 0 if there is no such lane, or if the subscriber is
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

// LaneCheck compares lanes with the stream. It returns nil if the stream still has the message at each lane's position. Otherwise it
// returns an error that names the difference. If the stream lost its end, a lane may not have noticed the loss yet. Then the lane and the
// stream have different messages at the same sequence. The lanes are locked during the call, so LaneCheck must return soon.
type LaneCheck func(ctx context.Context, lanes []Checkpoint) error

// Operator is for people who decide about a subscriber. Each change takes effect at once, also while copies run. The change waits until the
// open transactions have ended. No transaction that began before the change commits after the change.
//
// If there is no such subscriber, every method except Overviews fails with ErrNoSubscriber. If the subscriber is forgotten, these methods
// fail with ErrForgotten, except Forget, Erase and RemoveTombstone.
type Operator interface {
	// Overviews returns all subscribers, sorted by name, forgotten ones included. Its cost does not depend on the size of the inbox.
	Overviews(ctx context.Context) ([]Overview, error)
	// Pause stops the subscriber: once Pause returns, no event and no dead letter is applied until Resume. Pause and Resume may be
	// repeated.
	Pause(ctx context.Context, subscriber string) error
	Resume(ctx context.Context, subscriber string) error
	// Move sends lanes to another position, if check returns nil. What was applied stays applied. Move removes the marks after the position,
	// and makes the position a mark. So if the stream loses its end, a lane does not go back further than this position. Move returns the
	// lanes as they were before. It fails with ErrNotBegun if there are no lanes, and with ErrOtherStream if a lane is in another stream.
	Move(ctx context.Context, subscriber string, move Move, check LaneCheck) (before []Checkpoint, err error)
	// SetLanes changes the number of lanes, if check returns nil for the present lanes. All new lanes begin at the position that HandledByAll
	// returns for the present lanes, with the marks up to there. SetLanes returns the lanes as they were before. It fails with the same errors
	// as Move: all present lanes must be in one stream.
	SetLanes(ctx context.Context, subscriber string, lanes int, check LaneCheck) (before []Checkpoint, err error)
	// Ignore makes the subscriber pass over a type from now on. It discards the pending letters of that type, and returns their number. If a
	// copy with a handler of the type starts later, the subscriber wants the type again. Ignore fails with ErrNotWanted.
	Ignore(ctx context.Context, subscriber, eventType string) (discarded int, err error)
	// Forget ends a subscriber and leaves a tombstone: its copies end, and no copy can start. Forget removes the lanes at once. The letters
	// and the inbox stay until Erase. Forget may be repeated.
	Forget(ctx context.Context, subscriber string) error
	// Erase removes at most limit letters or inbox rows of a forgotten subscriber, and returns their number; 0: none are left. It does not
	// undo the effects of handled events. Erase fails with ErrNotForgotten.
	Erase(ctx context.Context, subscriber string, limit int) (erased int, err error)
	// RemoveTombstone lets a new subscriber of this name begin. It fails with ErrNotForgotten, and with ErrNotErased while rows are left
	// that the new subscriber would take for its own.
	RemoveTombstone(ctx context.Context, subscriber string) error
}
