package subscribing

import (
	"context"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	// poll is how often a reader looks for more when nothing tells it that there is more.
	poll = 500 * time.Millisecond
	// readCount and readBytes bound one read.
	readCount = 1000
	readBytes = 2 << 20
)

// read reads the stream for all lanes of this copy, until ctx ends. It reads where the lane stands that has read the least and has
// room, so a lane that is full, or stuck, holds up no other one.
func (s *Subscriber) read(ctx context.Context) {
	for failures, again := 0, len(lags); ctx.Err() == nil; {
		from, hungry := s.hungriest()
		if !hungry {
			await(ctx, poll, s.hungry)
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
		case progress && !few(messages):
			continue
		case progress: // what was stored came
			again = max(again, 1)
		}
		wait := poll
		if again < len(lags) {
			wait = lags[again]
			again++
		}
		if s.awaitMore(ctx, wait) {
			again = 0
		}
	}
}

// few reports whether a read returned so little that the stream had no more. Such a read is not repeated at once: that would take time from
// the handling of a lone event.
func few(messages []inbox.Message) bool {
	const share = 10
	bytes := 0
	for _, message := range messages {
		if message.Event != nil {
			bytes += sizeOf(message.Event)
		}
	}
	return len(messages) < readCount/share && bytes < readBytes/share
}

// lags are the waits after which the stream is read again when something was stored and a read does not show it: a replica that
// lags may have answered.
var lags = []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 80 * time.Millisecond}

// awaitMore waits until a lane has room, or something was stored, or for a time. It returns whether something was stored.
func (s *Subscriber) awaitMore(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-s.hungry:
	case <-s.ports.Stream.Stored():
		return true
	}
	return false
}

// hungriest returns where the lane stands that has read the least, among those with room. There is none while enough is read ahead for
// all lanes together, so that they stay close to each other and what is read serves all of them. But no lane waits for another one: if
// one has nothing to do, those that have more than their share of the memory drop the rest, and read it again later.
func (s *Subscriber) hungriest() (from uint64, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	starving := false
	for _, l := range s.lanes {
		if !l.reads() {
			continue
		}
		starving = starving || l.starves()
		if !found || l.through.Sequence < from {
			from, found = l.through.Sequence, true
		}
	}
	bytes, batches := s.stock()
	s.behind = starving && s.more
	s.rests = !starving && (bytes >= s.opts.ReadAhead || batches >= batchesAhead)
	if s.rests {
		return 0, false
	}
	if bytes >= s.opts.ReadAhead {
		for _, l := range s.lanes {
			l.cut(s.opts.ReadAhead / len(s.lanes))
		}
	}
	return from, found
}

// stock returns what is read ahead: how many bytes, and how many batches for each lane in the mean.
func (s *Subscriber) stock() (bytes int, batches float64) {
	for _, l := range s.lanes {
		bytes += l.bytes
		batches += float64(len(l.queue)) / float64(l.batch)
	}
	return bytes, batches / float64(max(len(s.lanes), 1))
}

// resume reports whether the reader is to go on after it has read enough: a quarter is done, or a lane soon has nothing to do.
func (s *Subscriber) resume(l *lane) bool {
	if !s.rests {
		return false
	}
	bytes, batches := s.stock()
	return l.starves() || bytes < s.opts.ReadAhead/4*3 && batches < batchesAhead*3/4
}

// distribute gives each lane its events of what was read from a sequence on. It returns whether there was anything new for any lane.
func (s *Subscriber) distribute(from uint64, messages []inbox.Message) (progress bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.more = !few(messages)
	going, standing := s.eligible(from)
	places := inbox.Places(messages, progressAt(from, going, standing))
	for i, message := range messages {
		progress = s.findHoles(going, from, messages, places, i) || progress
		for _, l := range standing[message.Sequence] {
			if l.through.StoredAt.Equal(message.StoredAt) {
				going[l.checkpoint.Lane] = l
				l.full = false
				l.through.Progress = max(l.through.Progress, places[i].Progress)
			} else {
				l.lose()
			}
		}
		delete(standing, message.Sequence)
		event, number, wanted := s.wants(message)
		if l := going[number]; event == nil || l == nil || message.Sequence <= l.through.Sequence {
			// Nobody here takes it.
		} else if !wanted {
			l.passed++
		} else if !l.offer(inbox.Message{StreamPosition: places[i], Event: event}) {
			if i > 0 {
				progress = l.advance(places[i-1]) || progress
			}
			delete(going, number)
		}
		if wanted {
			s.newest[number] = max(s.newest[number], message.Sequence)
		}
	}
	if len(messages) > 0 {
		for _, l := range going {
			progress = l.advance(places[len(messages)-1]) || progress
		}
	}
	for sequence, lanes := range standing {
		if sequence == from || len(messages) > 0 && sequence < messages[len(messages)-1].Sequence {
			for _, l := range lanes {
				l.lose()
			}
		}
	}
	return progress
}

// wants returns the event of a message and its lane, and whether the subscriber wants it. The event is marked if the handler has no
// function for it.
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

// eligible returns the lanes that go on with what was read from a sequence on. A lane that was full may have some room: it need not be
// read for, but takes what is read for others. Going are those that need no proof. Standing are, by
// the sequence at which they stand, those that go on if the stream shows the message there as it was when they read it: a stream
// that lost messages may have others in their place.
func (s *Subscriber) eligible(from uint64) (going map[int]*lane, standing map[uint64][]*lane) {
	going, standing = make(map[int]*lane), make(map[uint64][]*lane)
	for number, l := range s.lanes {
		switch at := l.through; {
		case l.lost || l.released || l.hole != nil || at.Sequence < from:
		case at.StoredAt.IsZero():
			going[number] = l
			l.full = false
		default:
			standing[at.Sequence] = append(standing[at.Sequence], l)
		}
	}
	return going, standing
}

// laneOf returns the lane of an event. What cannot be read has no aggregate, and is the first lane's.
func (s *Subscriber) laneOf(event *inbox.Event) int {
	if event.Unreadable != nil {
		return 0
	}
	return inbox.LaneOf(event.Key, s.count)
}

// withoutHandler returns an event that is marked: this program has no function for its type.
func withoutHandler(event *inbox.Event) *inbox.Event {
	marked := *event
	marked.NoHandler = true
	return &marked
}
