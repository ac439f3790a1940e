package subscribing

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// laneView is what a copy sees of the only lane.
type laneView struct {
	mine   bool          // the lane belongs to this copy
	silent bool          // the lane's copy has not announced itself for a while
	behind bool          // this copy does not keep up with its own lanes
	idle   time.Duration // since the lane moved
	alone  bool          // there is no other copy
	empty  bool          // there are no events for the lane
}

// holdsAfter returns whether a copy holds the lane after a heartbeat. holds says whether it held the lane before.
func (g laneView) holdsAfter(t *testing.T, holds bool) bool {
	t.Helper()
	copies := []string{"a", "b"}
	owner := ownersOf("a", copies, 1)[0]
	instance := owner
	if !g.mine {
		instance = copies[1-slices.Index(copies, owner)]
	}
	s := New("billing", instance, Ports{}, Options{}, slog.New(slog.DiscardHandler))
	s.handler, s.behind = NewHandler("nothing", nil, nil), g.behind
	checkpoint := inbox.Checkpoint{Lanes: 1, Stream: "1", StreamPosition: inbox.StreamPosition{Sequence: 10}, Revision: 7, Idle: g.idle}
	if holds {
		s.lanes[0] = newLane(checkpoint, true)
		s.newest[0] = 20
	}
	view := inbox.View{Lanes: []inbox.Checkpoint{checkpoint}, Copies: copies}
	if g.alone {
		view.Copies = []string{instance}
	}
	if g.silent {
		view.SilentCopies = []string{owner}
	}
	state := inbox.StreamState{Created: "1", First: 1, Last: 20}
	if g.empty {
		state.Last = 10
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	s.assignLanes(ctx, view, state, &work)
	s.mu.Lock()
	l := s.lanes[0]
	held := l != nil && !l.released
	s.mu.Unlock()
	cancel()
	work.Wait()
	return held
}

// TestWhoseLanesACopyTakes checks that a copy takes its own lane unless another copy is at work on it. The copy takes a lane of another
// copy only if there are events and the lane has not moved for a while. This time is short if the other copy is silent, longer if it is
// alive, and longest if this copy does not keep up with its own lanes.
func TestWhoseLanesACopyTakes(t *testing.T) {
	for name, test := range map[string]struct {
		laneView
		takes bool
	}{
		"own, and there is no other copy":         {laneView{mine: true, alone: true}, true},
		"own":                                     {laneView{mine: true, idle: recentMove}, true},
		"own, which another copy moves":           {laneView{mine: true, idle: recentMove - 1}, false},
		"own, without events":                     {laneView{mine: true, idle: recentMove, empty: true}, true},
		"of a living copy":                        {laneView{idle: takeOverAfter - 1}, false},
		"of a living copy, and stuck":             {laneView{idle: takeOverAfter}, true},
		"of a silent copy":                        {laneView{silent: true, idle: takeOverSilentAfter - 1}, false},
		"of a silent copy, and stuck":             {laneView{silent: true, idle: takeOverSilentAfter}, true},
		"of a silent copy, without events":        {laneView{silent: true, idle: time.Hour, empty: true}, false},
		"stuck, and this copy is behind":          {laneView{silent: true, behind: true, idle: takeOverBehindAfter - 1}, false},
		"stuck for long, and this copy is behind": {laneView{silent: true, behind: true, idle: takeOverBehindAfter}, true},
	} {
		require.Equal(t, test.takes, test.holdsAfter(t, false), name)
	}
}

// TestCoveringEnds checks that a copy which has taken the lane of another copy keeps the lane while the other copy is silent. It releases
// the lane when the other copy is back.
func TestCoveringEnds(t *testing.T) {
	require.True(t, laneView{silent: true}.holdsAfter(t, true), "this copy has just moved the lane")
	require.False(t, laneView{}.holdsAfter(t, true), "the lane's copy is there again")
	require.True(t, laneView{idle: takeOverAfter}.holdsAfter(t, true), "it is there, and does nothing")
}
