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
	// ErrMoveTarget reports that the stream has no such place.
	ErrMoveTarget = fault.New(fault.Invalid, "invalid_place", "not a place in the stream")
	// ErrNothingToMove reports that every lane is on the other side of the place already.
	ErrNothingToMove = fault.New(fault.Conflict, "nothing_to_move", "no lane is to be moved")
	// ErrStreamWentBack reports that the stream does not show a lane where it stands. A running copy brings the lane back.
	ErrStreamWentBack = fault.New(fault.Conflict, "stream_went_back", "the stream does not show a lane where it stands")
	// ErrLaneCount reports that a subscriber cannot have so many lanes.
	ErrLaneCount = fault.New(fault.Invalid, "invalid_lanes", "a subscriber cannot have so many lanes")
)

// MoveTarget is a place in the stream as a person names it: the last message that is not to be read again. At most one field is set.
// The zero MoveTarget is before the first message.
type MoveTarget struct {
	Sequence uint64
	Position outbox.Position // the last message at which the log was dealt with up to there, at most
	Before   time.Time       // the last message that was stored before
	End      bool            // the last message
}

// MovePreview is what a move of a subscriber would do. Running copies go on meanwhile, so the move itself may differ.
type MovePreview struct {
	Subscriber string
	inbox.Move
	Lanes   int    // that would move
	Lowest  uint64 // sequence of the slowest lane
	Highest uint64 // sequence of the fastest lane
	// Events is how many events lie between To and the lane that is the farthest from it. If the subscriber has several lanes, some of
	// these events may lie on the other side of their lane's place.
	Events int64
}

// SubscriberStatus is a subscriber as it stands in its database and in the stream.
type SubscriberStatus struct {
	inbox.Overview
	Lag *Lag // nil: not known
	// Messages are, for each lane, how many sequences the stream has after the lane's place, those of unwanted events included; nil: not
	// known.
	Messages []uint64
}

// SubscriberSummary is a subscriber as the status of the relay shows it. It needs no question to the stream.
type SubscriberSummary struct {
	inbox.Overview
	// Behind is how many messages the stream had after the slowest lane's place when the relay saved its cursor; nil: the subscriber has
	// no lanes.
	Behind  *uint64
	Stalled time.Duration // of Overview.Stalled
}

// SubscriberList is all subscribers.
type SubscriberList struct {
	All         []SubscriberStatus
	StreamError error // why nothing is known of the stream; nil: it is known
}

// SubscriberAdmin lets people operate subscribers.
type SubscriberAdmin interface {
	// Subscribers returns all subscribers, in order of their names.
	Subscribers(ctx context.Context) (SubscriberList, error)
	// Summaries returns all subscribers, in order of their names, and costs two statements. end is the stream's last message, as the
	// relay has saved it.
	Summaries(ctx context.Context, end uint64) ([]SubscriberSummary, error)
	// Pause, Resume and Ignore do what those of inbox.Operator do.
	Pause(ctx context.Context, subscriber string) error
	Resume(ctx context.Context, subscriber string) error
	Ignore(ctx context.Context, subscriber, eventType string) (discarded int, err error)
	// Plan finds the target, and returns what a move would do: of the lanes behind the target if forwards, else of those after it. If it
	// would do nothing, Plan fails with ErrNothingToMove.
	Plan(ctx context.Context, subscriber string, target MoveTarget, forwards bool) (MovePreview, error)
	// Move carries out a plan, and returns what it did.
	Move(ctx context.Context, plan MovePreview) (MovePreview, error)
	// SetLanes gives a subscriber another number of lanes. It returns the sequence at which they begin, and how many there were.
	SetLanes(ctx context.Context, subscriber string, lanes int) (at uint64, before int, err error)
	// Forget leaves a tombstone, and erases the subscriber's rows until ctx ends; it returns how many. If it ends early, another call
	// goes on.
	Forget(ctx context.Context, subscriber string) (erased int, err error)
	// RemoveTombstone erases the rows that are left, and removes the tombstone.
	RemoveTombstone(ctx context.Context, subscriber string) error
}
