package operations

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// The errors of operating a subscriber.
var (
	// ErrTarget reports that a text names no place in the stream.
	ErrMoveTarget = fault.New(fault.Invalid, "invalid_place", "not a place in the stream")
	// ErrNothingToMove reports that every lane is on the other side of the place already.
	ErrNothingToMove = fault.New(fault.Conflict, "nothing_to_move", "no lane is to be moved")
	// ErrStreamWentBack reports that the stream does not show a lane where it stands. A running copy brings the lane back.
	ErrStreamWentBack = fault.New(fault.Conflict, "stream_went_back", "the stream does not show a lane where it stands")
	// ErrLaneCount reports that a subscriber cannot have so many lanes.
	ErrLaneCount = fault.New(fault.Invalid, "invalid_lanes", "no number of lanes")
)

// Target is a place in the stream as a person names it: the last message that is not to be read again. At most one field is set; none:
// before the first message.
type MoveTarget struct {
	Sequence uint64
	Position outbox.Position // the last message at which the log was dealt with up to there, at most
	Before   time.Time       // the last message that was stored before
	End      bool            // the last message
}

// ParseTarget reads sequence:N, position:N, time:RFC3339, start or end.
func ParseTarget(text string) (MoveTarget, error) {
	kind, value, _ := strings.Cut(text, ":")
	number, invalid := strconv.ParseUint(value, 10, 63)
	switch {
	case text == "start":
		return MoveTarget{}, nil
	case text == "end":
		return MoveTarget{End: true}, nil
	case kind == "sequence" && invalid == nil:
		return MoveTarget{Sequence: number}, nil
	case kind == "position" && invalid == nil:
		return MoveTarget{Position: outbox.Position(number)}, nil //nolint:gosec // 63 bits
	case kind == "time":
		if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
			return MoveTarget{Before: at}, nil
		}
	}
	const reason = "must be sequence:N, position:N, time:2026-11-29T10:00:00Z, start or end"
	return MoveTarget{}, ErrMoveTarget.With("%q is no place in the stream: it %s", text, reason).On("to", reason)
}

// Moving is what a move of a subscriber would do, as far as that can be said before: running copies go on meanwhile.
type MovePreview struct {
	Subscriber string
	inbox.Move
	Lanes  int    // that would move
	Lowest uint64 // sequence of the lane that has come the least far
	// Highest is that of the lane that has come the farthest.
	Highest uint64
	// Events is how many events lie between To and the lane that is the farthest from it. Of a subscriber with several lanes some of
	// them may lie on the other side of their lane's place.
	Events int64
}

// SubscriberStatus is a subscriber as it stands in its database and in the stream.
type SubscriberStatus struct {
	inbox.Overview
	Lag *Lag // nil: not known
	// Messages are, for each lane, how many sequences the stream has after the lane's place; nil: not known. What a lane does not want
	// counts too.
	Messages []uint64
}

// SubscriberState is what a subscriber does, in a word that scripts rely on.
type SubscriberState string

// The states of a subscriber.
const (
	SubscriberWorking   SubscriberState = "working"
	SubscriberNoCopies  SubscriberState = "no_copies" // no copy runs
	SubscriberPaused    SubscriberState = "paused"
	SubscriberNotBegun  SubscriberState = "not_begun"
	SubscriberForgotten SubscriberState = "forgotten"
)

// StateOf tells what a subscriber does.
func StateOf(s inbox.Overview) SubscriberState {
	switch {
	case !s.Forgotten.IsZero():
		return SubscriberForgotten
	case s.Paused:
		return SubscriberPaused
	case len(s.Lanes) == 0:
		return SubscriberNotBegun
	case len(s.Copies) == 0:
		return SubscriberNoCopies
	}
	return SubscriberWorking
}

// SubscriberSummary is a subscriber as the status of the relay shows it. Nobody asks the stream for it.
type SubscriberSummary struct {
	inbox.Overview
	// Behind is how many messages the stream had after the slowest lane's place when the relay saved its cursor; nil: the subscriber has
	// no lanes.
	Behind  *uint64
	Stalled time.Duration // of Overview.Stalled
}

// Summarize returns summaries of subscribers, given the stream's last message as the relay has saved it.
func Summarize(all []inbox.Overview, end uint64) []SubscriberSummary {
	summaries := make([]SubscriberSummary, len(all))
	for n, overview := range all {
		summaries[n].Overview = overview
		if len(overview.Lanes) > 0 {
			lowest := inbox.Lowest(overview.Lanes).Sequence
			behind := end - min(lowest, end)
			summaries[n].Behind, summaries[n].Stalled = &behind, overview.Stalled(behind > 0)
		}
	}
	return summaries
}

// Subscribers is what operators know of subscribers.
type SubscriberList struct {
	All     []SubscriberStatus
	StreamError error // why nothing is known of the stream; nil: it is known
}

// SubscriberAdmin is for people who operate subscribers. Its errors say what to do.
type SubscriberAdmin interface {
	// Subscribers returns all subscribers, in order of their names.
	Subscribers(ctx context.Context) (SubscriberList, error)
	// Summaries returns all subscribers, in order of their names, at the cost of two statements. end is the stream's last message, as the
	// relay has saved it.
	Summaries(ctx context.Context, end uint64) ([]SubscriberSummary, error)
	// Pause, Resume and Ignore do what those of inbox.Operator do.
	Pause(ctx context.Context, subscriber string) error
	Resume(ctx context.Context, subscriber string) error
	Ignore(ctx context.Context, subscriber, eventType string) (discarded int, err error)
	// Plan finds the place that target names, and returns what a move of the lanes behind it, or before it, would do. It fails with
	// ErrNothingToMove if it would do nothing.
	Plan(ctx context.Context, subscriber string, target MoveTarget, forwards bool) (MovePreview, error)
	// Move does what was planned. It returns what it did.
	Move(ctx context.Context, plan MovePreview) (MovePreview, error)
	// SetLanes gives a subscriber another number of lanes. It returns the sequence at which they begin, and how many there were.
	SetLanes(ctx context.Context, subscriber string, lanes int) (at uint64, before int, err error)
	// Forget leaves a tombstone, and erases what it can until ctx ends; it returns how many rows. If it ends early, another call goes on.
	Forget(ctx context.Context, subscriber string) (erased int, err error)
	// Lift erases what is left, and removes the tombstone.
	Lift(ctx context.Context, subscriber string) error
}
