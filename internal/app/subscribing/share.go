package subscribing

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// shareLanes decides with each heartbeat on which lanes this copy works, until ctx ends. Two copies on one lane are a waste and never an
// error, because only one of them can move the checkpoint. shareLanes fails if the subscriber was forgotten, even if it has begun again
// with another handler.
func (s *Subscriber) shareLanes(ctx context.Context, work *sync.WaitGroup) error {
	for ctx.Err() == nil {
		view, err := s.ports.Checkpoints.Heartbeat(ctx, s.id, s.instance)
		switch {
		case err != nil:
		case len(view.Lanes) == 0, !view.Forgotten.IsZero():
			return inbox.ErrForgotten.With("subscriber %s was forgotten while this copy ran", s.id)
		case view.Handler != "" && view.Handler != s.handler.Name():
			return inbox.ErrOtherHandler.With("subscriber %s was forgotten while this copy ran with the handler %s, and has begun again with the handler %s",
				s.id, s.handler.Name(), view.Handler)
		}
		var state inbox.StreamState
		if err == nil {
			if state, err = s.ports.Stream.State(ctx); err != nil && ctx.Err() == nil {
				s.leave(ctx) // so that the other copies take the lanes of a copy that cannot read
			}
		}
		if err != nil {
			s.troubles.begin(ctx, s.logger, troubleLook, "cannot read the subscriber's checkpoints or the stream's state, trying until it works", err)
		} else {
			s.troubles.end(ctx, s.logger, troubleLook)
			s.followDecisions(ctx, view)
			s.assignLanes(ctx, view, state, work)
		}
		sleep(ctx, heartbeatPause)
		if !view.OperatorWaits {
			await(ctx, s.heartbeatInterval(view)-heartbeatPause, s.heartbeatNow)
		}
	}
	return nil
}

// heartbeatInterval returns the time until the next heartbeat, after a heartbeat that returned view.
func (s *Subscriber) heartbeatInterval(view inbox.View) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(view.Copies) != 1 || s.suspended {
		return heartbeatEvery
	}
	for _, checkpoint := range view.Lanes {
		if l := s.lanes[checkpoint.Lane]; l == nil || !l.rests() || checkpoint.Idle < loneHeartbeatEvery {
			return heartbeatEvery
		}
	}
	return loneHeartbeatEvery
}

var errPaused = errors.New("an operator paused the subscriber")

// followDecisions does what operators decided.
func (s *Subscriber) followDecisions(ctx context.Context, view inbox.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.suspended = view.Paused || view.OperatorWaits
	s.letterViews = max(s.letterViews-1, 0)
	if view.HasLetters {
		s.letterViews = 1
	}
	if view.Paused {
		s.troubles.begin(ctx, s.logger, troublePaused, "paused", errPaused)
	} else {
		s.troubles.end(ctx, s.logger, troublePaused)
	}
	if lanes := len(view.Lanes); lanes != s.laneCount {
		s.logger.InfoContext(ctx, "the subscriber has another number of lanes", "lanes", lanes, "before", s.laneCount)
		s.laneCount = lanes
		clear(s.newest)
		s.releaseLanes()
	} else if s.suspended {
		s.releaseLanes()
	}
	s.wanted = make(map[string]bool, len(view.Types))
	for _, eventType := range view.Types {
		s.wanted[eventType] = slices.Contains(s.handler.Types(), eventType)
	}
}

// releaseLanes releases all lanes. A worker still tries the batch that it has taken.
func (s *Subscriber) releaseLanes() {
	for number, l := range s.lanes {
		l.released = true
		signal(l.wake)
		delete(s.lanes, number)
	}
}

// isSuspended reports whether the subscriber is paused, or an operator's change waits.
func (s *Subscriber) isSuspended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.suspended
}

// assignLanes starts work on some lanes, and releases others. The caller reads view first and state afterwards.
func (s *Subscriber) assignLanes(ctx context.Context, view inbox.View, state inbox.StreamState, work *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.suspended {
		return
	}
	owners := ownersOf(s.instance, view.Copies, len(view.Lanes))
	for _, l := range s.lanes {
		l.noteEmptied(state)
	}
	for _, checkpoint := range view.Lanes {
		held, owner := s.lanes[checkpoint.Lane], owners[checkpoint.Lane]
		mine, silent := owner == s.instance, slices.Contains(view.SilentCopies, owner)
		if held != nil {
			held.noteRevision(checkpoint.Revision)
		}
		switch {
		case held == nil && (mine && !justMovedByOther(checkpoint, view.Copies) || !mine && s.stalled(checkpoint, state, silent)):
			l := s.newLane(checkpoint, !mine)
			s.lanes[checkpoint.Lane] = l
			work.Go(func() { s.workOn(ctx, l) })
			signal(s.roomFreed)
		case held == nil:
		case mine:
			held.takenOver = false
			if checkpoint.Stream != state.Created || state.Last < max(checkpoint.Sequence, held.readTo.Sequence) {
				held.markMismatch()
			}
		case !held.takenOver || !silent && !s.stalled(checkpoint, state, silent):
			held.released = true
			signal(held.wake)
		}
	}
}

// justMovedByOther reports whether another copy probably still works on a lane that this copy does not hold. The other copy will release
// the lane. Until then, whatever this copy reads for the lane is useless. A copy that is alone takes every lane at once.
func justMovedByOther(checkpoint inbox.Checkpoint, copies []string) bool {
	return len(copies) > 1 && checkpoint.Idle < recentMove
}

// stalled reports whether a lane of another copy has not moved for a while although there may be events for it. silent reports that the
// other copy has probably died.
func (s *Subscriber) stalled(checkpoint inbox.Checkpoint, state inbox.StreamState, silent bool) bool {
	switch {
	case checkpoint.Idle < takeOverSilentAfter, !silent && checkpoint.Idle < takeOverAfter, s.behind && checkpoint.Idle < takeOverBehindAfter:
		return false
	}
	if len(s.lanes) == 0 { // this copy reads nothing, so newest is not known
		return checkpoint.Sequence < state.Last
	}
	return checkpoint.Sequence < min(s.newest[checkpoint.Lane], state.Last)
}

// ownersOf returns the copy that each lane belongs to. No copy has more than its share of the lanes, rounded up. Of the copies that have
// fewer lanes, a lane belongs to the one with the highest hash of copy and lane (rendezvous hashing). So few lanes change their owner when
// a copy comes or goes.
func ownersOf(instance string, copies []string, lanes int) []string {
	if !slices.Contains(copies, instance) {
		copies = slices.Sorted(slices.Values(append(slices.Clone(copies), instance)))
	}
	most := (lanes + len(copies) - 1) / len(copies)
	has := make(map[string]int)
	owners := make([]string, lanes)
	for lane := range lanes {
		var room []string
		for _, name := range copies {
			if has[name] < most {
				room = append(room, name)
			}
		}
		owners[lane] = slices.MaxFunc(room, func(a, b string) int { return cmp.Compare(weight(a, lane), weight(b, lane)) })
		has[owners[lane]]++
	}
	return owners
}

// weight returns the hash of a copy and a lane.
func weight(instance string, lane int) uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(instance + "/" + strconv.Itoa(lane))) // never fails
	return hash.Sum64()
}
