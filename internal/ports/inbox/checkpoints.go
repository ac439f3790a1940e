package inbox

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// ErrLaneMoved reports that the lane has another checkpoint than the caller expects, or that another transaction works on the lane. The
// caller reads the checkpoints again.
var ErrLaneMoved = fault.New(fault.Conflict, "lane_moved", "another copy of the subscriber works on the lane")

var (
	// ErrOtherHandler reports that the subscriber has a handler of another name than the caller's.
	ErrOtherHandler = fault.New(fault.Conflict, "other_handler", "the subscriber has another handler")
	// ErrForgotten reports that an operator forgot the subscriber.
	ErrForgotten = fault.New(fault.Conflict, "subscriber_forgotten", "the subscriber was forgotten")
)

// Checkpoint is how far a subscriber has come in one lane. Every event of the lane up to StreamPosition was applied or is a dead letter.
type Checkpoint struct {
	Lane   int    // from 0 on
	Lanes  int    // number of lanes of the subscriber
	Stream string // identity of the stream that StreamPosition is in
	// StreamPosition is the position of a message of any lane, not only of this lane. While the lane fills a hole, StreamPosition.Progress is
	// later than the progress of this message.
	StreamPosition
	Revision int64         // rises with every change of the checkpoint
	Idle     time.Duration // time from the last change to the read of the checkpoint, by the database's clock
}

// View is a subscriber as its copies see it.
type View struct {
	Subscription
	Lanes          []Checkpoint // in order of the lane; empty: the subscriber has not begun
	Copies         []string     // names of the copies with a heartbeat in the last CopyTimeout, sorted
	SilentCopies   []string     // those of Copies without a heartbeat in the last CopySilentAfter, sorted
	FilledEvents   int64        // events that were read from the log because the stream had lost them
	MissedMessages int64        // lost messages that a lane passed, and whose events are unknown
	// OperatorWaits reports that an operator's change waits until the open batches have ended. The copy releases its lanes, and calls
	// Heartbeat again soon.
	OperatorWaits bool
	HasLetters    bool // the subscriber has letters that are not discarded
}

// Subscription is what a subscriber wants, and what operators decided about it. Each change gives every lane a new revision. So a batch
// that was prepared before a change cannot commit after the change.
type Subscription struct {
	Handler   string    // name of its handler; empty: not known, because an earlier version of this program began the subscriber
	Types     []string  // types of the events that it wants, sorted
	Paused    bool      // no event and no dead letter is handled
	Forgotten time.Time // when an operator forgot the subscriber; zero: it is not forgotten
}

const (
	// CopyTimeout is how long a copy counts as present after its last heartbeat.
	CopyTimeout = 3 * time.Second
	// CopySilentAfter is how long after its last heartbeat a copy counts as silent: it may have died.
	CopySilentAfter = 600 * time.Millisecond
)

// Checkpoints keeps the checkpoints of subscribers. It is safe for concurrent use.
type Checkpoints interface {
	// CreateLanes creates the subscriber's lanes, each with a checkpoint at a position of a stream. If the subscriber has lanes already,
	// CreateLanes changes nothing, not even their number. Of concurrent calls, one creates all lanes. If a subscriber of this name was
	// forgotten, the revisions of the new lanes are higher than all revisions of the former subscriber. So no copy of the former subscriber
	// takes the new lanes for its own.
	CreateLanes(ctx context.Context, subscriber string, lanes int, stream string, at StreamPosition) error
	// Subscribe adds event types to those that the subscriber wants, and records the name of its handler if none is known. It waits until
	// the open batches have ended, and changes nothing if there is nothing to add. Events of a new type that lie before a lane's checkpoint
	// stay unhandled. Subscribe fails with ErrOtherHandler if the subscriber has a handler of another name, and with ErrForgotten if it is
	// forgotten.
	Subscribe(ctx context.Context, subscriber, handler string, types []string) error
	// Heartbeat announces a copy of the subscriber, and returns the subscriber's state. Heartbeats are hints by which copies share the lanes: no
	// promise depends on them.
	Heartbeat(ctx context.Context, subscriber, instance string) (View, error)
	// RemoveCopy withdraws a copy's announcement, so that the other copies take its lanes at once.
	RemoveCopy(ctx context.Context, subscriber, instance string) error
	// Marks returns the marks of a lane, the newest first.
	Marks(ctx context.Context, subscriber string, lane int) ([]StreamPosition, error)
	// Rewind moves a checkpoint to an earlier position, or into another stream, and removes the marks after that position. It returns the new
	// checkpoint. If any field of the stored checkpoint differs from the argument from, or if another transaction works on the lane, Rewind
	// fails with ErrLaneMoved.
	Rewind(ctx context.Context, subscriber string, from Checkpoint, stream string, to StreamPosition) (Checkpoint, error)
}
