package subscribing

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TestShorterStreamIsNoticed checks that a copy reconciles its lane if the stream ends before a message that the copy has read. Another
// copy has moved the checkpoint to a sequence that the stream still has, so no message that the copy reads shows the change.
func TestShorterStreamIsNoticed(t *testing.T) {
	s := New("billing", "a", Ports{}, Options{}, slog.New(slog.DiscardHandler))
	held := newLane(inbox.Checkpoint{Lanes: 1, Stream: "1", StreamPosition: inbox.StreamPosition{Sequence: 60}, Revision: 40}, false)
	s.lanes[0] = held
	view := inbox.View{
		Lanes:  []inbox.Checkpoint{{Lanes: 1, Stream: "1", StreamPosition: inbox.StreamPosition{Sequence: 43}, Revision: 42}},
		Copies: []string{"a"},
	}
	s.assignLanes(t.Context(), view, inbox.StreamState{Created: "1", First: 1, Last: 60}, &sync.WaitGroup{})
	require.False(t, held.mismatch)
	s.assignLanes(t.Context(), view, inbox.StreamState{Created: "1", First: 1, Last: 44}, &sync.WaitGroup{})
	require.True(t, held.mismatch)
}
