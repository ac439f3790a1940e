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
	// fillCount and fillBytes bound one read of a hole from the log.
	fillCount = largestBatch
	fillBytes = readBytes
	// lossPoll is how often a lane that stopped before lost messages asks the log for them again. Each time the whole inbox is searched.
	lossPoll = 5 * time.Second
)

var (
	// errLoss reports that messages were removed and that their events are unknown. An operator decides whether the subscriber goes on
	// without these messages.
	errLoss = errors.New("messages are lost")
	// errEndUnknown reports that it is not known yet at which position of the log a hole ends.
	errEndUnknown = fault.New(fault.Unavailable, "hole_open",
		"messages were removed, and the relay's cursor does not show yet which events they carried")
)

// findHoles finds the lanes for which messages are missing before the i-th message of a read, and removes them from ready. It returns
// whether any lane advanced.
//
// If the message at a lane's position was removed, the lane cannot compare it with the stream. The stream may have lost its end and grown
// again. So the next message has to continue the lane's progress. If it does not, the lane has a hole, and the log is asked. Foreign
// messages and duplicates of old messages do not continue the progress.
func (s *Subscriber) findHoles(
	ready map[int]*lane, from uint64, messages []inbox.Message, positions []readPosition, i int,
) (progress bool) {
	next, previous := messages[i].Sequence, from
	if i > 0 {
		previous = messages[i-1].Sequence
	}
	if i > 0 && next == previous+1 {
		return false // no lane stands at a removed message between the two
	}
	var after *inbox.MessageRun
	for number, l := range ready {
		if l.readTo.Sequence >= next {
			continue
		}
		if i > 0 && previous > l.readTo.Sequence {
			progress = l.advance(l.at(positions[i-1])) || progress
		}
		first := l.readTo.Sequence + 1
		if first == next && (!l.atRemoved() || l.continuedBy(messages[i])) {
			continue
		}
		if after == nil {
			found := inbox.FirstRun(messages[i:])
			after = &found
		}
		l.noteHole(first, next-1, *after, after.HoleAfter || !smallRead(messages[i:]))
		l.behindHole = messages[i].StreamPosition
		delete(ready, number)
	}
	return progress
}

// atRemoved reports whether the message at the lane's position was removed and the lane knows its progress. Without a progress the lane
// cannot ask the log about what follows, so it takes any message.
func (l *lane) atRemoved() bool { return l.readTo.StoredAt.IsZero() && l.readTo.Progress > 0 }

// continuedBy reports whether a message follows the removed message at which the lane stands: the message continues the lane's progress, or
// it is the message behind the hole about which the lane has asked the log.
func (l *lane) continuedBy(next inbox.Message) bool {
	if l.holeChecked && next.Sequence == l.behindHole.Sequence && next.StoredAt.Equal(l.behindHole.StoredAt) {
		return true
	}
	return next.Progress == l.readTo.Progress || next.Progress == l.readTo.Progress+1
}

// lanesAtRemoved returns the lanes that stand at a message which was removed, by its sequence.
func lanesAtRemoved(ready map[int]*lane) map[uint64][]*lane {
	removed := make(map[uint64][]*lane)
	for _, l := range ready {
		if l.readTo.StoredAt.IsZero() && l.readTo.Sequence > 0 {
			removed[l.readTo.Sequence] = append(removed[l.readTo.Sequence], l)
		}
	}
	return removed
}

// noteHole records a hole after the lane's position. after is the run of messages behind the hole.
//
// enough reports that another hole follows the run, or that the run is so long that not all of its messages can be duplicates of old ones.
// If enough is true and no message shows a later end, the hole ends at the lane's progress, so it contains no position of the log. If
// another hole follows, the lane looks for the events there. Otherwise an operator has moved the relay back, and the relay publishes
// everything again.
func (l *lane) noteHole(first, last uint64, after inbox.MessageRun, enough bool) {
	if enough {
		after.EndsBefore = max(after.EndsBefore, l.readTo.Progress+1)
	}
	l.hole = &inbox.Hole{
		Lane: l.checkpoint.Lane, Lanes: l.checkpoint.Lanes, Stream: l.checkpoint.Stream,
		First: first, Last: last, After: l.readTo.Progress, LastRead: after.Last, EndsBefore: after.EndsBefore, PositionsAfter: after.PositionsAfter,
	}
	signal(l.wake)
}

// noteEmptied records a hole if everything after the lane's position was removed.
func (l *lane) noteEmptied(state inbox.StreamState) {
	last := state.First - 1
	if l.hole == nil && !l.mismatch && l.checkpoint.Stream == state.Created && l.readTo.StoredAt.IsZero() &&
		state.Last == last && l.readTo.Sequence < last {
		l.noteHole(l.readTo.Sequence+1, last, inbox.MessageRun{Last: last}, false)
		l.behindHole = inbox.StreamPosition{}
	}
}

// fillHole reads the events of a hole from the log, appends them to the lane's queue, and lets the lane go on after the hole. It fails with
// errLoss if the log does not have all of them and Options.Continue is not set.
func (s *Subscriber) fillHole(ctx context.Context, l *lane) error {
	s.mu.Lock()
	h := *l.hole // only this worker changes it
	s.mu.Unlock()
	lost, err := s.ports.Log.ReadHole(ctx, s.id, h, inbox.ReadLimit{Count: fillCount, Bytes: fillBytes})
	if err != nil {
		return err
	}
	if lost.EndUnknown {
		s.mu.Lock()
		defer s.mu.Unlock()
		l.hole = nil // the next read finds it again
		signal(s.roomFreed)
		return errEndUnknown
	}
	if lost.LostMessages > 0 || lost.OtherStream {
		if same, err := s.sameStream(ctx, l); err != nil || !same {
			return err
		}
	}
	if lost.LostMessages > 0 && !s.opts.Continue {
		s.mu.Lock()
		defer s.mu.Unlock()
		l.unknownMessages = lost.LostMessages
		return s.lossError(h, lost)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.unknownMessages = 0
	if lost.LostMessages > 0 {
		l.missed = missedIn(h, lost.LostMessages)
	}
	for i := range lost.Events {
		position := l.readTo
		position.Progress = max(h.After, lost.Events[i].Position)
		message := inbox.Message{StreamPosition: position, Event: &lost.Events[i]}
		message.Event, _, _ = s.wants(message)
		l.add(message, true)
	}
	if lost.More {
		l.readTo.Progress, l.hole.After = lost.CompleteTo, lost.CompleteTo
		return nil
	}
	l.readTo, l.hole, l.holeChecked = inbox.StreamPosition{Sequence: h.Last, Progress: lost.CompleteTo}, nil, true
	signal(s.roomFreed)
	return nil
}

// lossError returns an error that says which messages are lost, and what an operator can do.
func (s *Subscriber) lossError(h inbox.Hole, lost inbox.HoleContents) error {
	what := fmt.Sprintf("sequences %d to %d", h.First, h.Last)
	if h.First > h.Last {
		what = fmt.Sprintf("before sequence %d", h.Last+1)
	}
	return fmt.Errorf(
		"%w: the stream removed messages (%s) before lane %d had read them; the events of up to %d of them are unknown, because %s; %s",
		errLoss, what, h.Lane, lost.LostMessages, lost.Why, s.opts.LossAdvice(s.id, h.Last))
}

// missedIn returns the lost messages of a hole, given their number. The log loses its earliest events first. So the lost messages are the
// first of the messages that are not filled yet.
func missedIn(h inbox.Hole, unknown int) inbox.MissedMessages {
	if h.First > h.Last {
		return inbox.MissedMessages{First: h.Last + 1 - min(uint64(unknown), h.Last), Count: unknown}
	}
	left := max(0, int64(h.EndsBefore-h.After)-1)
	for _, position := range h.PositionsAfter {
		if h.After < position && position < h.EndsBefore {
			left--
		}
	}
	first := h.First
	if size := int64(h.Last + 1 - h.First); h.After > 0 && max(left, int64(unknown)) < size {
		first = h.Last + 1 - uint64(max(left, int64(unknown)))
	}
	return inbox.MissedMessages{First: first, Count: unknown}
}

// Lost returns how many lost messages keep lanes of this copy waiting; 0: none. A hole counts once, however many lanes stand before it.
// Lost is safe for concurrent use.
func (s *Subscriber) Lost() (messages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		messages = max(messages, l.unknownMessages)
	}
	return messages
}

// sameStream reports whether the stream is the one that the lane knows. If it is not, the lane has to be reconciled.
func (s *Subscriber) sameStream(ctx context.Context, l *lane) (bool, error) {
	state, err := s.ports.Stream.State(ctx)
	if err != nil || state.Created == l.checkpoint.Stream {
		return err == nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.markMismatch()
	return false, nil
}

// maxProgress is above the progress of every lane. startOfStream gets maxProgress for a new subscriber: events that the stream lost before
// the subscriber began do not count as lost.
const maxProgress = outbox.Position(math.MaxInt64)

// startOfStream returns the position before the first message of the stream. The position's progress is at most highest: the progress that
// the lane has, or maxProgress for a new lane.
func (s *Subscriber) startOfStream(ctx context.Context, state inbox.StreamState, highest outbox.Position) (inbox.StreamPosition, error) {
	first := max(state.First, 1)
	messages, err := s.ports.Stream.Read(ctx, first, inbox.ReadLimit{Count: readCount, Bytes: readBytes})
	if err != nil {
		return inbox.StreamPosition{}, err
	}
	position := inbox.StreamPosition{Sequence: first - 1}
	known, progress := false, outbox.Position(0)
	switch {
	case len(messages) > 0:
		position.Sequence = messages[0].Sequence - 1
		progress, known = inbox.FirstRun(messages).ProgressBefore()
	case state.Last >= first:
		return inbox.StreamPosition{}, errReplicaBehind
	}
	if !known && position.Sequence > 0 {
		reached, err := s.ports.Log.CursorBetween(ctx, state.Created, 0, position.Sequence)
		if err != nil {
			return inbox.StreamPosition{}, err
		}
		known, progress = reached.Known, reached.Position
	}
	switch {
	case known:
		position.Progress = min(highest, progress)
	case highest < maxProgress:
		position.Progress = highest
	}
	return position, nil
}

var errReplicaBehind = fault.New(fault.Unavailable, "not_shown", "the server that answers does not know the stream's messages yet")
