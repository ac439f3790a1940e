package subscribing

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	// pollEvery is how often a reader looks for more messages without a signal.
	pollEvery = 500 * time.Millisecond
	// readCount and readBytes bound one read.
	readCount = 1000
	readBytes = 2 << 20
)

// readStream reads the stream for all lanes of this copy, until ctx ends. It reads from the position of the lane that is the furthest
// behind, among those with room. So a lane that is full or stuck holds up no other lane.
func (s *Subscriber) readStream(ctx context.Context) {
	for failures, again := 0, len(replicaWaits); ctx.Err() == nil; {
		from, hungry := s.nextRead()
		if !hungry {
			await(ctx, pollEvery, s.roomFreed)
			continue
		}
		messages, err := s.ports.Stream.Read(ctx, max(from, 1), inbox.ReadLimit{Count: readCount, Bytes: readBytes})
		if err != nil {
			failures++
			s.troubles.begin(ctx, s.logger, troubleRead, "cannot read the stream, trying until it works", err)
			sleep(ctx, min(s.opts.backoff(failures), longestOutage))
			continue
		}
		if failures > 0 {
			failures = 0
			s.troubles.end(ctx, s.logger, troubleRead)
		}
		switch progress := s.distribute(from, messages); {
		case progress && !smallRead(messages):
			continue
		case progress: // the read has shown the message that was stored
			again = max(again, 1)
		}
		wait := pollEvery
		if again < len(replicaWaits) {
			wait = replicaWaits[again]
			again++
		}
		if s.awaitMore(ctx, wait) {
			again = 0
		}
	}
}

// smallRead reports whether a read returned so little that the stream probably has no more. Such a read is not repeated at once, because
// that would delay the handling of a lone event.
func smallRead(messages []inbox.Message) bool {
	const share = 10
	bytes := 0
	for _, message := range messages {
		if message.Event != nil {
			bytes += sizeOf(message.Event)
		}
	}
	return len(messages) < readCount/share && bytes < readBytes/share
}

// replicaWaits are the waits between reads after a message was stored. A replica that lags may answer a read without that message.
var replicaWaits = []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 80 * time.Millisecond}

// awaitMore waits until a lane has room, until something was stored, or until wait is over. It returns whether something was stored.
func (s *Subscriber) awaitMore(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-s.roomFreed:
	case <-s.ports.Stream.Stored():
		return true
	}
	return false
}

// nextRead returns where to read next: at the position of the lane that is the furthest behind, among those with room. It returns false
// while enough is read ahead for all lanes together. So the lanes stay close to each other, and one read serves all lanes. If a lane runs
// low while the memory is full, each lane that holds more than its share of the memory drops the surplus, and reads these events again
// later.
func (s *Subscriber) nextRead() (from uint64, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	starving := false
	for _, l := range s.lanes {
		if !l.canRead() {
			continue
		}
		starving = starving || l.runsLow()
		if !found || l.readTo.Sequence < from {
			from, found = l.readTo.Sequence, true
		}
	}
	bytes, batches := s.buffered()
	s.behind = starving && s.streamHasMore
	s.readerRests = !starving && (bytes >= s.opts.ReadAhead || batches >= batchesAhead)
	if s.readerRests {
		return 0, false
	}
	if bytes >= s.opts.ReadAhead {
		for _, l := range s.lanes {
			l.trim(s.opts.ReadAhead / len(s.lanes))
		}
	}
	return from, found
}

// buffered returns how much is read ahead: the bytes of all lanes, and the average number of batches of a lane.
func (s *Subscriber) buffered() (bytes int, batches float64) {
	for _, l := range s.lanes {
		bytes += l.bytes
		batches += float64(len(l.queue)) / float64(l.batchSize)
	}
	return bytes, batches / float64(max(len(s.lanes), 1))
}

// readerMayGoOn reports whether a reader that rests should go on: a quarter of the events that were read ahead is handled, or lane l runs
// low.
func (s *Subscriber) readerMayGoOn(l *lane) bool {
	if !s.readerRests {
		return false
	}
	bytes, batches := s.buffered()
	return l.runsLow() || bytes < s.opts.ReadAhead/4*3 && batches < batchesAhead*3/4
}

// distribute gives each lane its events among the messages that were read from a sequence on. It returns whether any lane advanced.
func (s *Subscriber) distribute(from uint64, messages []inbox.Message) (progress bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streamHasMore = !smallRead(messages)
	ready, toCompare := s.eligible(from)
	positions := positionsOf(messages)
	removed := lanesAtRemoved(ready)
	for i, message := range messages {
		for _, l := range removed[message.Sequence] { // the stream lost its end and grew again, was created again, or a replica lags
			l.markMismatch()
			delete(ready, l.checkpoint.Lane)
		}
		progress = s.findHoles(ready, from, messages, positions, i) || progress
		for _, l := range toCompare[message.Sequence] {
			if l.readTo.StoredAt.Equal(message.StoredAt) {
				ready[l.checkpoint.Lane] = l
				l.full = false
				l.readTo.Progress = max(l.readTo.Progress, positions[i].Progress)
			} else {
				l.markMismatch()
			}
		}
		delete(toCompare, message.Sequence)
		event, number, wanted := s.wants(message)
		if l := ready[number]; event == nil || l == nil || message.Sequence <= l.readTo.Sequence {
			// No lane here takes the message.
		} else if !wanted {
			l.unwanted++
		} else if !l.offer(inbox.Message{StreamPosition: l.at(positions[i]), Event: event}) {
			if i > 0 {
				progress = l.advance(l.at(positions[i-1])) || progress
			}
			delete(ready, number)
		}
		if wanted {
			s.newest[number] = max(s.newest[number], message.Sequence)
		}
	}
	if len(messages) > 0 {
		for _, l := range ready {
			progress = l.advance(l.at(positions[len(messages)-1])) || progress
		}
	}
	for sequence, lanes := range toCompare {
		if sequence == from || len(messages) > 0 && sequence < messages[len(messages)-1].Sequence {
			for _, l := range lanes {
				l.markMismatch()
			}
		}
	}
	return progress
}

// readPosition is the position of a message, with the progress that the messages of the same read show.
type readPosition struct {
	inbox.StreamPosition
	control uint64 // sequence of the last control message up to here; 0: the read had none
}

func positionsOf(messages []inbox.Message) []readPosition {
	positions, control := make([]readPosition, len(messages)), uint64(0)
	for i, position := range inbox.Positions(messages, 0) {
		if messages[i].Event == nil && messages[i].Progress > 0 {
			control = messages[i].Sequence
		}
		positions[i] = readPosition{position, control}
	}
	return positions
}

// at returns a position after the lane's position, with the progress that the lane has there. If the stream lost its end, lanes at an earlier
// message can have a higher progress than lanes at a later message. So a lane compares only with its own progress. The lane keeps its
// progress until a message shows a higher one, or a control message shows another one.
func (l *lane) at(position readPosition) inbox.StreamPosition {
	if position.control <= l.readTo.Sequence {
		position.Progress = max(position.Progress, l.readTo.Progress)
	}
	return position.StreamPosition
}

// wants returns the event of a message and its lane, and whether the subscriber wants it. It marks a wanted event that the handler cannot
// handle.
func (s *Subscriber) wants(message inbox.Message) (event *inbox.Event, lane int, wanted bool) {
	if event = message.Event; event == nil {
		return nil, 0, false
	}
	lane = s.laneOf(event)
	if event.Unreadable != nil {
		return event, lane, true
	}
	handled, wanted := s.wanted[event.Type]
	if wanted && !handled {
		event = withoutHandler(event)
	}
	return event, lane, wanted
}

// eligible returns the lanes that may take messages of a read that began at a sequence. The lanes in ready take messages at once. The lanes
// in toCompare are grouped by the sequence at which they stand. They take messages only if the read shows the message that they know at that
// sequence, because a stream that lost its end may have another message there. A lane that was full takes part too, because it may have
// room again.
func (s *Subscriber) eligible(from uint64) (ready map[int]*lane, toCompare map[uint64][]*lane) {
	ready, toCompare = make(map[int]*lane), make(map[uint64][]*lane)
	for number, l := range s.lanes {
		switch at := l.readTo; {
		case l.mismatch || l.released || l.hole != nil || at.Sequence < from:
		case at.StoredAt.IsZero():
			ready[number] = l
			l.full = false
		default:
			toCompare[at.Sequence] = append(toCompare[at.Sequence], l)
		}
	}
	return ready, toCompare
}

// laneOf returns the lane of an event. An unreadable message has no aggregate, and belongs to the first lane.
func (s *Subscriber) laneOf(event *inbox.Event) int {
	if event.Unreadable != nil {
		return 0
	}
	return inbox.LaneOf(event.Key, s.laneCount)
}

// withoutHandler returns a copy of an event that is marked with NoHandler.
func withoutHandler(event *inbox.Event) *inbox.Event {
	marked := *event
	marked.NoHandler = true
	return &marked
}
