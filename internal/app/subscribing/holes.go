package subscribing

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	// fillCount and fillBytes bound what is taken from the log at once.
	fillCount = largestBatch
	fillBytes = readBytes
	// lossPoll is how often a lane that stands before lost messages looks whether the log has them again. Each look searches the inbox.
	lossPoll = 5 * time.Second
)

var (
	// errLoss reports messages that nobody knows. An operator decides whether the subscriber goes on without them.
	errLoss = errors.New("messages are lost")
	// errEndUnknown reports that nothing after a hole says where the log goes on.
	errEndUnknown = fault.New(fault.Unavailable, "hole_open", "messages were removed, and the relay has not said yet which events these were")
)

// progressAt returns how far the lanes that stand where a read begins have dealt with the log; 0: not known. Lanes that fill a hole there have
// come to different parts of the log, so it is the lowest.
func progressAt(from uint64, going map[int]*lane, standing map[uint64][]*lane) outbox.Position {
	lowest := everything
	for _, l := range standing[from] {
		lowest = min(lowest, l.through.Progress)
	}
	for _, l := range going {
		if l.through.Sequence == from {
			lowest = min(lowest, l.through.Progress)
		}
	}
	if lowest == everything {
		return 0
	}
	return lowest
}

// findHoles finds the lanes for which messages are missing before the i-th message of a read, and takes them from going.
//
// A lane at a message that was removed has no proof that the stream is the one it knows: it may have lost its end and have grown again.
// So the next message has to continue the lane's progress, else the log is asked. Messages of others, and copies, continue nothing.
func (s *Subscriber) findHoles(going map[int]*lane, from uint64, messages []inbox.Message, places []inbox.StreamPosition, i int) (progress bool) {
	next, previous := messages[i].Sequence, from
	if i > 0 {
		previous = messages[i-1].Sequence
	}
	if i > 0 && next == previous+1 && !anyUnproven(going) {
		return false
	}
	var after *inbox.Following
	for number, l := range going {
		if l.through.Sequence >= next {
			continue
		}
		if i > 0 && previous > l.through.Sequence {
			progress = l.advance(places[i-1]) || progress
		}
		first := l.through.Sequence + 1
		if first == next && (!l.unproven() || l.continuedBy(messages[i])) {
			continue
		}
		if after == nil {
			found := inbox.Follow(messages[i:])
			after = &found
		}
		l.meet(first, next-1, *after, after.Broken || !few(messages[i:]))
		delete(going, number)
	}
	return progress
}

func anyUnproven(going map[int]*lane) bool {
	for _, l := range going {
		if l.unproven() {
			return true
		}
	}
	return false
}

// unproven reports whether the lane stands at a message that was removed, and has not asked the log what follows. A lane that does not know
// how far it has dealt with the log has nothing to ask.
func (l *lane) unproven() bool {
	return l.through.StoredAt.IsZero() && !l.cleared && l.through.Progress > 0
}

// continuedBy reports whether a message continues the lane's progress.
func (l *lane) continuedBy(next inbox.Message) bool {
	return next.Progress == l.through.Progress || next.Progress == l.through.Progress+1
}

// meet notes a hole after the lane's place. If what follows says no more than the lane's progress, the next hole is looked at from that
// progress on; or the relay was sent back, and everything after that comes again. enough says that what lies behind the messages that
// follow tells more, or that they are so many that not all can be copies of old messages.
func (l *lane) meet(first, last uint64, after inbox.Following, enough bool) {
	if enough {
		after.Before = max(after.Before, l.through.Progress+1)
	}
	l.hole = &inbox.Hole{
		Lane: l.checkpoint.Lane, Lanes: l.checkpoint.Lanes, Stream: l.checkpoint.Stream,
		First: first, Last: last, After: l.through.Progress, Read: after.Last, Before: after.Before, Present: after.Present,
	}
	ring(l.wake)
}

// emptied notes that everything after the lane's place was removed.
func (l *lane) emptied(state inbox.StreamState) {
	last := state.First - 1
	if l.hole == nil && !l.lost && l.checkpoint.Stream == state.Created && l.through.StoredAt.IsZero() &&
		state.Last == last && l.through.Sequence < last {
		l.meet(l.through.Sequence+1, last, inbox.Following{Last: last}, false)
	}
}

// fill takes the events of a hole from the log, as the next ones of the lane, and lets the lane go on after the hole. It fails with
// errLoss if the log does not have all of them and the subscriber is not to go on without.
func (s *Subscriber) fill(ctx context.Context, l *lane) error {
	s.mu.Lock()
	h := *l.hole // only the worker, which is here, changes it
	s.mu.Unlock()
	lost, err := s.ports.Log.Lost(ctx, s.id, h, inbox.ReadLimit{Count: fillCount, Bytes: fillBytes})
	if err != nil {
		return err
	}
	if lost.Open {
		s.mu.Lock()
		defer s.mu.Unlock()
		l.hole = nil // it is met again
		ring(s.hungry)
		return errEndUnknown
	}
	if lost.Unknown > 0 || lost.Elsewhere {
		if same, err := s.sameStream(ctx, l); err != nil || !same {
			return err
		}
	}
	if lost.Unknown > 0 && !s.opts.Continue {
		s.mu.Lock()
		defer s.mu.Unlock()
		l.unknown = lost.Unknown
		return s.loss(h, lost)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.unknown = 0
	if lost.Unknown > 0 {
		l.missed = h.Missed(lost.Unknown)
	}
	for i := range lost.Events {
		place := l.through
		place.Progress = max(h.After, lost.Events[i].Position)
		message := inbox.Message{StreamPosition: place, Event: &lost.Events[i]}
		message.Event, _, _ = s.wants(message)
		l.add(message, true)
	}
	if lost.More {
		l.through.Progress, l.hole.After = lost.Through, lost.Through
		return nil
	}
	l.through, l.hole, l.cleared = inbox.StreamPosition{Sequence: h.Last, Progress: lost.Through}, nil, true
	ring(s.hungry)
	return nil
}

// loss says what is lost, and what an operator can do.
func (s *Subscriber) loss(h inbox.Hole, lost inbox.Lost) error {
	what := fmt.Sprintf("sequences %d to %d", h.First, h.Last)
	if h.First > h.Last {
		what = fmt.Sprintf("before sequence %d", h.Last+1)
	}
	return fmt.Errorf("%w: the stream removed messages (%s) before lane %d had read them, and up to %d of these nobody knows, because %s; "+
		"to go on without them, start once with SUBSCRIBER_ON_LOSS=continue, or run: %s",
		errLoss, what, h.Lane, lost.Unknown, lost.Why, s.opts.Skip(s.id, h.Last))
}

// Lost returns how many removed messages, which nobody knows, keep lanes of this copy waiting; 0: none. Lanes at the same hole count it
// once. It is safe for concurrent use.
func (s *Subscriber) Lost() (messages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		messages = max(messages, l.unknown)
	}
	return messages
}

// sameStream reports whether the stream is the one that the lane knows. If it is not, the lane has to find its place again.
func (s *Subscriber) sameStream(ctx context.Context, l *lane) (bool, error) {
	state, err := s.ports.Stream.State(ctx)
	if err != nil || state.Created == l.checkpoint.Stream {
		return err == nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.lose()
	return false, nil
}

// everything is the position up to which a new subscriber has dealt with the log: it does not miss what the stream has lost before.
const everything = outbox.Position(math.MaxInt64)

// beginning returns the place before the first message of the stream, for a lane that has dealt with the log up to a position.
func (s *Subscriber) beginning(ctx context.Context, state inbox.StreamState, dealt outbox.Position) (inbox.StreamPosition, error) {
	first := max(state.First, 1)
	messages, err := s.ports.Stream.Read(ctx, first, inbox.ReadLimit{Count: readCount, Bytes: readBytes})
	if err != nil {
		return inbox.StreamPosition{}, err
	}
	place := inbox.StreamPosition{Sequence: first - 1}
	known, progress := false, outbox.Position(0)
	switch {
	case len(messages) > 0:
		place.Sequence = messages[0].Sequence - 1
		progress, known = inbox.Follow(messages).Dealt()
	case state.Last >= first:
		return inbox.StreamPosition{}, errNotShown
	}
	if !known && place.Sequence > 0 {
		reached, err := s.ports.Log.Reached(ctx, state.Created, 0, place.Sequence)
		if err != nil {
			return inbox.StreamPosition{}, err
		}
		known, progress = reached.Known, reached.Position
	}
	switch {
	case known:
		place.Progress = min(dealt, progress)
	case dealt < everything:
		place.Progress = dealt
	}
	return place, nil
}

var errNotShown = fault.New(fault.Unavailable, "not_shown", "the server that answers does not know the stream's messages yet")
