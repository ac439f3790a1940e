package inbox

import (
	"context"
	"hash/fnv"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ErrLaneMoved reports that the lane is not as the caller knows it, or that another transaction is at work on it. Look again.
var ErrLaneMoved = fault.New(fault.Conflict, "lane_moved", "another copy of the subscriber works on the lane")

var (
	// ErrOtherHandler reports that the subscriber has a handler of another name than the caller's.
	ErrOtherHandler = fault.New(fault.Conflict, "other_handler", "the subscriber has another handler")
	// ErrForgotten reports that an operator forgot the subscriber.
	ErrForgotten = fault.New(fault.Conflict, "subscriber_forgotten", "the subscriber was forgotten")
)

// MaxLanes is the largest number of lanes.
const MaxLanes = 1024

// LaneOf returns the lane of an aggregate's events, of so many. The lane of an aggregate never changes: a checkpoint says that every
// event of the lane up to it was dealt with.
func LaneOf(aggregate outbox.Key, lanes int) int {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(aggregate.Type)) // never fails
	_, _ = hash.Write([]byte{0})
	_, _ = hash.Write([]byte(aggregate.ID))
	return int(hash.Sum64() % uint64(lanes))
}

// Marks of a lane: former places, so that a lane whose stream lost its end need not begin with the first message.
const (
	MarkEvery = 10_000 // the sequences of the stream are divided into stretches of so many; each has at most one mark
	MarksKept = 100    // of each lane, the newest
)

// MarkDue reports whether a lane that moves keeps its new place as a mark: the first place of a stretch, if its time is known.
func MarkDue(from, to StreamPosition) bool {
	return to.Sequence/MarkEvery > from.Sequence/MarkEvery && !to.StoredAt.IsZero()
}

// Checkpoint is how far a subscriber has come in one lane: every event of the lane up to Place was applied, or set aside with a
// dead letter.
type Checkpoint struct {
	Lane           int
	Lanes          int    // of the subscriber
	Stream         string // identity of the stream that Place is in
	StreamPosition        // of any message, not only of the lane's. Progress is later than that of the message while a hole is being filled
	Revision       int64  // rises with every change of the checkpoint
	// Idle is how long the checkpoint had not changed when it was read, by the database's clock.
	Idle time.Duration
}

// View is what a copy sees of its subscriber.
type View struct {
	Lanes  []Checkpoint // in order of the lane; empty: the subscriber has not begun
	Copies []string     // that have announced themselves in the last CopyGone, in order
	Silent []string     // of Copies, those that have not announced themselves in the last CopySilent, in order
	Filled int64        // events that came from the log, because the stream had lost them
	Missed int64        // messages that the stream had lost, that a lane passed, and that nobody knows
	Yields bool         // somebody who decides about the subscriber waits for what is under way: let the lanes go, and look again soon
	Standing
}

// Standing is what is decided about a subscriber. Whoever changes it gives each lane a new revision, so a batch that was made before
// the change does not commit after it.
type Standing struct {
	Handler   string    // name of its handler; empty: not known, because a program of before began it
	Types     []string  // of the events that it wants, in order
	Paused    bool      // nothing is handled: no event, and no dead letter
	Forgotten time.Time // when an operator forgot the subscriber; zero: it is not forgotten
}

const (
	// CopyGone is how long a copy counts as being there after it announced itself.
	CopyGone = 3 * time.Second
	// CopySilent is after how long without a word a copy may have died.
	CopySilent = 600 * time.Millisecond
)

// Checkpoints keeps the checkpoints of subscribers. It is safe for concurrent use.
type Checkpoints interface {
	// Begin makes the subscriber's lanes, each with a checkpoint at a place of a stream. It changes nothing when the subscriber
	// has lanes: then the number of lanes is what it was. Of concurrent calls one makes all lanes. If a subscriber of the name was
	// forgotten, the lanes begin at higher revisions than it ever had, so that no copy of it takes them for lanes that it knows.
	Begin(ctx context.Context, subscriber string, lanes int, stream string, at StreamPosition) error
	// Subscribe adds event types to those that the subscriber wants, and names its handler if nobody has. It waits for the batches
	// under way, and changes nothing if there is nothing to add. Events of a new type that lie before a lane's checkpoint are
	// passed over. It fails with ErrOtherHandler if the subscriber has a handler of another name, and with ErrForgotten if the
	// subscriber is forgotten.
	Subscribe(ctx context.Context, subscriber, handler string, types []string) error
	// Look announces a copy of the subscriber, and returns what there is. Announcements are hints: no promise depends on them.
	Look(ctx context.Context, subscriber, instance string) (View, error)
	// Leave takes the announcement of a copy back, so that the others take its lanes at once.
	Leave(ctx context.Context, subscriber, instance string) error
	// Marks returns the marks of a lane, the newest first.
	Marks(ctx context.Context, subscriber string, lane int) ([]StreamPosition, error)
	// Rewind moves a checkpoint to an earlier place, or to a place in another stream, and removes the marks after that place. It
	// fails with ErrLaneMoved if the checkpoint is not exactly as from says, or somebody works on the lane. It returns the
	// checkpoint as it stands then.
	Rewind(ctx context.Context, subscriber string, from Checkpoint, stream string, to StreamPosition) (Checkpoint, error)
}
