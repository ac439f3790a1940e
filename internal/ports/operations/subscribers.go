package operations

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// The errors of operating a subscriber.
var (
	// ErrMoveTarget reports that the stream does not have the place that a MoveTarget names.
	ErrMoveTarget = fault.New(fault.Invalid, "invalid_place", "the stream does not have this position")
	// ErrNothingToMove reports that no lane would move: forwards, no lane is behind the place; backwards, no lane is after it.
	ErrNothingToMove = fault.New(fault.Conflict, "nothing_to_move", "the move would change no lane")
	// ErrStreamWentBack reports that the stream does not show the message at which a lane stands. A running copy moves the lane back.
	ErrStreamWentBack = fault.New(fault.Conflict, "stream_went_back", "the stream does not have the message at which a lane stands")
	// ErrLaneCount reports that a number of lanes is too small or too large.
	ErrLaneCount = fault.New(fault.Invalid, "invalid_lanes", "the number of lanes is out of range")
)

// MoveTarget is a place in the stream as a person names it. The moved lanes read on after this place. At most one field is set. The zero
// MoveTarget is the place before the first message.
type MoveTarget struct {
	Sequence uint64          // the message at this sequence
	Position outbox.Position // the last message whose progress in the log is at most this position
	Before   time.Time       // the last message that was stored before this time
	End      bool            // the last message of the stream
}

// MovePreview is what a move of a subscriber would do. Running copies go on meanwhile, so the move may do something else.
type MovePreview struct {
	Subscriber string
	inbox.Move
	Lanes   int    // how many lanes would move
	Lowest  uint64 // sequence of the slowest lane
	Highest uint64 // sequence of the fastest lane
	// Events is how many events lie between To and the lane that is the farthest from To. If the subscriber has several lanes,
	// Events may be too high: it also counts events that their own lane has passed already (forwards) or has not reached yet (backwards).
	Events int64
}

// SubscriberStatus is the state of a subscriber: what its database says, and how far it is behind the stream.
type SubscriberStatus struct {
	inbox.Overview
	Lag *Lag // nil: not known
	// MessagesBehind has a number for each lane: how many sequences the stream has after the lane's position. MessagesBehind that the subscriber does not
	// want count too. Nil: not known.
	MessagesBehind []uint64
}

// SubscriberSummary is the state of a subscriber as the relay's status shows it. A summary comes from the database alone, without a request
// to the broker.
type SubscriberSummary struct {
	inbox.Overview
	// MessagesBehind is how many messages the stream had after the slowest lane's place, at the time when the relay saved its cursor. Nil: the
	// subscriber has no lanes.
	MessagesBehind *uint64
	Stalled        time.Duration // result of Overview.Stalled
}

// SubscriberList is all subscribers.
type SubscriberList struct {
	All         []SubscriberStatus
	StreamError error // why the state of the stream is not known; nil: it is known
}

// SubscriberAdmin lets people operate subscribers.
type SubscriberAdmin interface {
	// Subscribers returns all subscribers, in order of their names.
	Subscribers(ctx context.Context) (SubscriberList, error)
	// Summaries returns all subscribers, in order of their names, with two SQL statements. end is the sequence of the stream's last message,
	// as the relay's cursor has it.
	Summaries(ctx context.Context, end uint64) ([]SubscriberSummary, error)
	// Pause, Resume and Ignore do the same as the methods of inbox.Operator with these names.
	Pause(ctx context.Context, subscriber string) error
	Resume(ctx context.Context, subscriber string) error
	Ignore(ctx context.Context, subscriber, eventType string) (discarded int, err error)
	// Plan finds the target in the stream, and returns what a move would do. A move forwards moves the lanes behind the target; a move
	// backwards moves the lanes after the target. If no lane would move, Plan fails with ErrNothingToMove.
	Plan(ctx context.Context, subscriber string, target MoveTarget, forwards bool) (MovePreview, error)
	// Move carries out plan, and returns what the move did.
	Move(ctx context.Context, plan MovePreview) (MovePreview, error)
	// SetLanes gives a subscriber another number of lanes. It returns the sequence after which the new lanes begin, and
	// the number of lanes before.
	SetLanes(ctx context.Context, subscriber string, lanes int) (at uint64, before int, err error)
	// Forget leaves a tombstone in place of the subscriber, and erases the subscriber's rows. It returns how many rows it erased. If ctx
	// ends before all rows are erased, another call goes on.
	Forget(ctx context.Context, subscriber string) (erased int, err error)
	// RemoveTombstone erases the rows that Forget has left, and removes the tombstone.
	RemoveTombstone(ctx context.Context, subscriber string) error
}
