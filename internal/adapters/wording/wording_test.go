package wording_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestHaltMeaning checks that every reason for a halt is explained, and that a reason of a later version is no error.
func TestHaltMeaning(t *testing.T) {
	for _, reason := range relay.HaltReasons() {
		require.NotEmpty(t, wording.HaltMeaning(reason), reason)
	}
	require.Empty(t, wording.HaltMeaning("of the future"))
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 7 * time.Second: "7s", 3*time.Minute + 12*time.Second: "3m12s", 5*time.Hour + 12*time.Minute: "5h12m",
		76 * time.Hour: "3d4h",
	} {
		require.Equal(t, want, wording.Age(d))
	}
	require.Equal(t, "unknown", wording.Since(time.Now(), time.Time{}))
	require.Equal(t, "1 event", wording.Counted(1, "event"))
	require.Equal(t, "2 events", wording.Counted(int64(2), "event"))
}

// TestDescribeRelay checks that every state has a headline and, except the good one, says what to do.
func TestDescribeRelay(t *testing.T) {
	now := time.Unix(1000, 0)
	leader := &operations.Leader{Holder: "a"}
	for state, status := range map[wording.RelayState]operations.RelayStatus{
		wording.Halted:     {Now: now, Halt: &operations.RecordedHalt{Halt: relay.Halt{Reason: relay.HaltTailGone, Detail: "gone"}, Since: now}},
		wording.SetBack:    {Now: now, SequenceCheck: operations.SequenceCheck{Misplaced: 1}},
		wording.Leaderless: {Now: now},
		wording.Waiting: {
			Now: now, Leader: leader, Unpublished: 1, OldestTransaction: &operations.OpenTransaction{Session: 7, Since: now.Add(-time.Minute)},
		},
		wording.Stuck:    {Now: now, Leader: leader, Unpublished: 1, Oldest: now.Add(-time.Minute), SavedAt: now.Add(-time.Minute)},
		wording.Relaying: {Now: now, Leader: leader},
	} {
		require.Equal(t, state, wording.StateOf(status))
		notice := wording.DescribeRelay(status)
		require.NotEmpty(t, notice.Headline)
		require.Equal(t, state == wording.Relaying, len(notice.Lines) == 0, state)
	}
}
