package subscribing

import (
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Bounds of a lane's batches and of what is read ahead for it.
const (
	firstBatch   = 16   // events, until it is known how long the handler takes
	largestBatch = 500  // events
	batchesAhead = 4    // batches that are read ahead, in the mean of the lanes
	mostAhead    = 1000 // events that are read ahead for one lane, unless its batches are larger
)

// lane is a lane that this copy works on. The subscriber's mutex guards it; only its worker changes checkpoint, batch and suspects.
type lane struct {
	checkpoint inbox.Checkpoint
	queue      []queued             // the lane's events after the checkpoint, in order
	bytes      int                  // of the queue
	through    inbox.StreamPosition // every event of the lane up to here that the subscriber wants is in the queue
	passed     int                  // events up to there that it does not want
	full       bool                 // the rest of what was read after through was dropped
	held       int                  // events that were in the queue when the lane became full
	inHand     int                  // events at the head of the queue that the worker has taken
	lost       bool                 // what the stream shows at through is not what was read there
	hole       *inbox.Hole          // messages after through that were removed; nothing is read until the log has filled it
	cleared    bool                 // the message at through was removed, and the log has told what belongs between it and the next one
	missed     inbox.Missed         // messages of holes before through that nobody knows, and that are not counted yet
	unknown    int                  // messages before which the lane stands, because nobody knows them
	covering   bool                 // the lane belongs to another copy, which does not move it
	released   bool                 // the worker ends after the batch in hand
	seen       int64                // the newest revision of the lane that this copy saw in the database
	batch      int                  // how many events a batch is to have
	alone      bool                 // each event has a transaction, and a savepoint, of its own
	wake       chan struct{}        // there are events, or one of the flags changed
}

// queued is an event of a queue.
type queued struct {
	inbox.Message
	passed  int  // events before it that the subscriber does not want
	fromLog bool // the stream has lost it
}

func newLane(checkpoint inbox.Checkpoint, covering bool) *lane {
	return &lane{
		checkpoint: checkpoint, through: checkpoint.StreamPosition, covering: covering, batch: firstBatch, wake: make(chan struct{}, 1),
	}
}

// newLaneAlone returns a lane for an external handler.
func newLaneAlone(checkpoint inbox.Checkpoint, covering bool) *lane {
	l := newLane(checkpoint, covering)
	l.alone, l.batch = true, 1
	return l
}

// restart forgets what was read, to read again from the checkpoint.
func (l *lane) restart(checkpoint inbox.Checkpoint) {
	l.checkpoint, l.through = checkpoint, checkpoint.StreamPosition
	l.queue, l.bytes, l.inHand, l.passed, l.full, l.lost = nil, 0, 0, 0, false, false
	l.hole, l.cleared, l.missed, l.unknown = nil, false, inbox.Missed{}, 0
}

// offer adds the lane's next event to the queue, unless the lane is full.
func (l *lane) offer(message inbox.Message) bool {
	if len(l.queue) >= l.ahead() {
		l.full, l.held = true, len(l.queue)
		return false
	}
	l.add(message, false)
	return true
}

func (l *lane) add(message inbox.Message, fromLog bool) {
	l.queue = append(l.queue, queued{message, l.passed, fromLog})
	l.bytes += sizeOf(message.Event)
}

// cut drops the tail of the queue, down to so many bytes, but neither what the worker has taken nor the first event. The lane is full then.
func (l *lane) cut(bytes int) {
	kept := len(l.queue)
	for ; kept > max(l.inHand, 1) && l.bytes > bytes; kept-- {
		l.bytes -= sizeOf(l.queue[kept-1].Event)
	}
	if kept < len(l.queue) {
		clear(l.queue[kept:])
		l.queue = l.queue[:kept]
		last := l.queue[kept-1]
		l.through, l.passed, l.full, l.held = last.StreamPosition, last.passed, true, kept
		l.hole, l.cleared = nil, false // a hole is met again
	}
}

// see notes the lane's revision in the database. The worker looks whether somebody else has changed the lane.
func (l *lane) see(revision int64) {
	l.seen = revision
	if l.moved() {
		ring(l.wake)
	}
}

// moved reports whether somebody else has changed the lane in the database, as operators do. While a transaction of the worker is under
// way, the change may be the worker's own.
func (l *lane) moved() bool { return l.seen > l.checkpoint.Revision }

// reads reports whether the lane takes what is read after its place.
func (l *lane) reads() bool { return !l.full && !l.lost && !l.released && l.hole == nil }

// starves reports whether the lane soon has nothing to do.
func (l *lane) starves() bool { return len(l.queue) < 2*l.batch }

// advance notes that every event of the lane up to a place is in the queue. It returns whether that is new.
func (l *lane) advance(to inbox.StreamPosition) bool {
	if to.Sequence <= l.through.Sequence {
		return false
	}
	l.through, l.cleared = to, false
	ring(l.wake)
	return true
}

// lose notes that the stream is not as the lane knows it. The worker finds out why.
func (l *lane) lose() {
	l.lost = true
	ring(l.wake)
}

func (l *lane) ahead() int { return max(mostAhead, batchesAhead*l.batch) }

// next returns the next batch, without taking it from the queue.
func (l *lane) next() inbox.Batch {
	batch := inbox.Batch{From: l.checkpoint, To: l.through, Missed: l.missed}
	count := min(l.batch, len(l.queue))
	l.inHand = count
	for _, message := range l.queue[:count] {
		event := *message.Event
		event.Suspect = event.Suspect || l.alone
		batch.Events = append(batch.Events, event)
		if message.fromLog {
			batch.FromLog++
		}
	}
	batch.PassedOver = l.passed
	if count < len(l.queue) {
		batch.To, batch.PassedOver = l.queue[count-1].StreamPosition, l.queue[count-1].passed
	}
	return batch
}

// done takes a batch that was applied from the queue. It returns whether a full lane needs events again: when a quarter is left, or two
// batches. The fewer events are left, the fewer of other lanes are read once more for this one.
func (l *lane) done(batch inbox.Batch, checkpoint inbox.Checkpoint) (room bool) {
	for _, message := range l.queue[:len(batch.Events)] {
		l.bytes -= sizeOf(message.Event)
	}
	l.queue = slices.Delete(l.queue, 0, len(batch.Events))
	l.passed -= batch.PassedOver
	for i := 0; batch.PassedOver > 0 && i < len(l.queue); i++ {
		l.queue[i].passed -= batch.PassedOver
	}
	l.checkpoint, l.inHand, l.missed = checkpoint, 0, inbox.Missed{}
	if l.full && len(l.queue) <= max(l.held/4, 2*l.batch) {
		l.full = false
		return true
	}
	return false
}

// suspect marks an event of the queue: it failed.
func (l *lane) suspect(index int) {
	marked := *l.queue[index].Event
	marked.Suspect = true
	l.queue[index].Event = &marked
}

// adapt chooses the size of the next batch from how long the handler worked for so many new events.
func (l *lane) adapt(fresh int, took, budget time.Duration) {
	if l.alone {
		return
	}
	if fresh == 0 {
		l.batch = min(2*l.batch, largestBatch)
		return
	}
	each := max(took/time.Duration(fresh), 1)
	l.batch = min(max(int(budget/each), 1), 2*l.batch, largestBatch)
}

// narrow halves the batch, since nobody knows which of its events is the reason of a failure.
func (l *lane) narrow(events int) { l.batch = max(events/2, 1) }

// sizeOf returns about how much memory an event takes.
func sizeOf(event *inbox.Event) int {
	const fixed = 512
	size := fixed + len(event.Payload) + len(event.ID) + len(event.Subject) + len(event.Key.ID)
	for name, value := range event.Headers {
		size += len(name) + len(value)
	}
	return size
}
