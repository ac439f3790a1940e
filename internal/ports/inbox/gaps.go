package inbox

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Hole is a stretch of the stream whose messages were removed before a lane read them.
type Hole struct {
	From  Checkpoint // of the lane: the last place before the hole
	First uint64     // sequence of the first message that was removed
	Last  uint64     // and of the last one
	// Until is the progress of the message after the hole; 0: there is none yet, and the log's cursor says how far the hole goes.
	Until outbox.Position
}

// Lost is what the log says about a hole.
type Lost struct {
	// Events are those of the lane that the subscriber wants and has not dealt with, in order of position, the first of them. They
	// have the sequence of the hole's end.
	Events []Event
	More   bool // there are more than that
	// Complete says that the log still has everything of the stretch. If it does not, Why says what keeps it.
	Complete bool
	Why      string
}

// Log is the log as a subscriber may see it, if it is in the subscriber's database.
type Log interface {
	// Lost looks for what a hole took away, and returns at most limit events. It reads by position, and what is in the parking lot
	// is not lost.
	Lost(ctx context.Context, subscriber string, hole Hole, limit int) (Lost, error)
	// Missed adds to the counts of a subscriber: events that were filled from the log, and messages that nobody knows any more.
	Missed(ctx context.Context, subscriber string, filled, missed int) error
}
