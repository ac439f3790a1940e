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
	batchesAhead = 4    // batches that are read ahead for a lane, on average
	minAhead     = 1000 // events that the queue of a lane may have; more if its batches are large
)

// lane is a lane that this copy works on. The subscriber's mutex guards it. Only the lane's worker changes checkpoint and batchSize, and
// marks events as suspect.
type lane struct {
	checkpoint inbox.Checkpoint
	queue      []queued             // the lane's events after the checkpoint, in order
	bytes      int                  // of the queue
	readTo     inbox.StreamPosition // every wanted event of the lane up to here is in the queue
	unwanted   int                  // events up to readTo that the subscriber does not want
	inBatch    int                  // events at the head of the queue that the worker has taken
	batchSize  int                  // events that a batch is to have

	full           bool // events after readTo were read and dropped
	queuedWhenFull int  // length of the queue when the lane became full

	mismatch        bool                 // the stream shows another message at readTo than the one that was read there
	hole            *inbox.Hole          // messages after readTo that were removed; nothing is read until the log has filled the hole
	behindHole      inbox.StreamPosition // the first message behind the hole, as it was read
	holeChecked     bool                 // the message at readTo was removed, and the log has returned the events before behindHole
	missed          inbox.MissedMessages // lost messages before readTo that are not counted yet
	unknownMessages int                  // lost messages that the lane stopped at

	takenOver    bool  // the lane belongs to another copy, and that copy does not move it
	released     bool  // the worker ends after the batch that it has taken
	seenRevision int64 // newest revision of the lane that this copy saw in the database

	singleEvents bool          // each event gets a transaction and a savepoint of its own
	wake         chan struct{} // signals new events, or a change of a flag
}

// queued is an event in the queue of a lane.
type queued struct {
	inbox.Message
	unwantedBefore int  // events before it that the subscriber does not want
	fromLog        bool // the event was read from the log, because the stream has lost it
}

func newLane(checkpoint inbox.Checkpoint, takenOver bool) *lane {
	return &lane{
		checkpoint: checkpoint, readTo: checkpoint.StreamPosition, takenOver: takenOver, batchSize: firstBatch, wake: make(chan struct{}, 1),
	}
}

// newSingleEventLane returns a lane for an external handler.
func newSingleEventLane(checkpoint inbox.Checkpoint, takenOver bool) *lane {
	l := newLane(checkpoint, takenOver)
	l.singleEvents, l.batchSize = true, 1
	return l
}

// restart drops everything that was read, to read again from the checkpoint.
func (l *lane) restart(checkpoint inbox.Checkpoint) {
	l.checkpoint, l.readTo = checkpoint, checkpoint.StreamPosition
	l.queue, l.bytes, l.inBatch, l.unwanted, l.full, l.mismatch = nil, 0, 0, 0, false, false
	l.hole, l.holeChecked, l.missed, l.unknownMessages = nil, false, inbox.MissedMessages{}, 0
}

// offer adds the lane's next event to the queue, unless the lane is full.
func (l *lane) offer(message inbox.Message) bool {
	if len(l.queue) >= l.maxQueue() {
		l.full, l.queuedWhenFull = true, len(l.queue)
		return false
	}
	l.add(message, false)
	return true
}

// add appends an event to the queue.
func (l *lane) add(message inbox.Message, fromLog bool) {
	l.queue = append(l.queue, queued{message, l.unwanted, fromLog})
	l.bytes += sizeOf(message.Event)
}

// trim drops events from the tail of the queue until the queue has at most that many bytes. It keeps the events that the worker has taken,
// and the first event. If it drops an event, the lane is full.
func (l *lane) trim(bytes int) {
	kept := len(l.queue)
	for ; kept > max(l.inBatch, 1) && l.bytes > bytes; kept-- {
		l.bytes -= sizeOf(l.queue[kept-1].Event)
	}
	if kept < len(l.queue) {
		clear(l.queue[kept:])
		l.queue = l.queue[:kept]
		last := l.queue[kept-1]
		l.readTo, l.unwanted, l.full, l.queuedWhenFull = last.StreamPosition, last.unwantedBefore, true, kept
		l.hole, l.holeChecked = nil, false // the next read finds a hole again
	}
}

// noteRevision records the lane's revision in the database, and wakes the worker if somebody else has changed the lane.
func (l *lane) noteRevision(revision int64) {
	l.seenRevision = revision
	if l.changedElsewhere() {
		signal(l.wake)
	}
}

// changedElsewhere reports whether somebody else, such as an operator, has changed the lane in the database. While a transaction of the
// worker is open, the change may be the worker's own.
func (l *lane) changedElsewhere() bool { return l.seenRevision > l.checkpoint.Revision }

// canRead reports whether the lane takes messages after readTo.
func (l *lane) canRead() bool { return !l.full && !l.mismatch && !l.released && l.hole == nil }

// rests reports whether the lane has nothing to do.
func (l *lane) rests() bool { return len(l.queue) == 0 && l.canRead() }

// runsLow reports whether the lane soon has nothing to do.
func (l *lane) runsLow() bool { return len(l.queue) < 2*l.batchSize }

// advance records that every wanted event of the lane up to a position is in the queue. It returns whether readTo has changed.
func (l *lane) advance(to inbox.StreamPosition) bool {
	if to.Sequence <= l.readTo.Sequence {
		return false
	}
	l.readTo, l.holeChecked = to, false
	signal(l.wake)
	return true
}

// markMismatch records that the stream differs from what the lane knows. The worker finds out why.
func (l *lane) markMismatch() {
	l.mismatch = true
	signal(l.wake)
}

// maxQueue returns how many events the queue may have.
func (l *lane) maxQueue() int { return max(minAhead, batchesAhead*l.batchSize) }

// nextBatch returns the next batch. Its events stay in the queue until batchDone.
func (l *lane) nextBatch() inbox.Batch {
	batch := inbox.Batch{From: l.checkpoint, To: l.readTo, Missed: l.missed}
	count := min(l.batchSize, len(l.queue))
	l.inBatch = count
	for _, message := range l.queue[:count] {
		event := *message.Event
		event.Suspect = event.Suspect || l.singleEvents
		batch.Events = append(batch.Events, event)
		if message.fromLog {
			batch.FromLog++
		}
	}
	batch.PassedOver = l.unwanted
	if count < len(l.queue) {
		batch.To, batch.PassedOver = l.queue[count-1].StreamPosition, l.queue[count-1].unwantedBefore
	}
	return batch
}

// batchDone removes an applied batch from the queue. It returns whether a full lane needs events again: at most a quarter of the queue is
// left, or at most two batches. It does not ask for events earlier, because reading for this lane also reads events of other lanes again.
func (l *lane) batchDone(batch inbox.Batch, checkpoint inbox.Checkpoint) (room bool) {
	for _, message := range l.queue[:len(batch.Events)] {
		l.bytes -= sizeOf(message.Event)
	}
	l.queue = slices.Delete(l.queue, 0, len(batch.Events))
	l.unwanted -= batch.PassedOver
	for i := 0; batch.PassedOver > 0 && i < len(l.queue); i++ {
		l.queue[i].unwantedBefore -= batch.PassedOver
	}
	l.checkpoint, l.inBatch, l.missed = checkpoint, 0, inbox.MissedMessages{}
	if l.full && len(l.queue) <= max(l.queuedWhenFull/4, 2*l.batchSize) {
		l.full = false
		return true
	}
	return false
}

// suspect marks an event of the queue that failed.
func (l *lane) suspect(index int) {
	marked := *l.queue[index].Event
	marked.Suspect = true
	l.queue[index].Event = &marked
}

// adaptBatchSize chooses the size of the next batch from the time that the handler took for a number of new events.
func (l *lane) adaptBatchSize(fresh int, took, budget time.Duration) {
	if l.singleEvents {
		return
	}
	if fresh == 0 {
		l.batchSize = min(2*l.batchSize, largestBatch)
		return
	}
	each := max(took/time.Duration(fresh), 1)
	l.batchSize = min(max(int(budget/each), 1), 2*l.batchSize, largestBatch)
}

// halveBatch halves the batch size. The caller calls it if a batch fails and it is not known which event is the reason.
func (l *lane) halveBatch(events int) { l.batchSize = max(events/2, 1) }

// sizeOf estimates how many bytes of memory an event takes.
func sizeOf(event *inbox.Event) int {
	const fixed = 512
	size := fixed + len(event.Payload) + len(event.ID) + len(event.Subject) + len(event.Key.ID)
	for name, value := range event.Headers {
		size += len(name) + len(value)
	}
	return size
}
