package relaytest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// HaltsHarness is a store of halt reports.
type HaltsHarness interface {
	InstanceHalts(instance string) relay.InstanceHalts
	Reported(t *testing.T) []operations.InstanceHalt // as operators see them
	Age(t *testing.T, by time.Duration)              // makes every report older
}

// TestInstanceHalts runs the contract of relay.InstanceHalts. Each call of open returns a store without reports.
func TestInstanceHalts(t *testing.T, open func(t *testing.T) HaltsHarness) {
	missing := relay.NewHalt(relay.HaltStreamMissing, "it held everything up to %d", 7)
	replaced := relay.NewHalt(relay.HaltStreamReplaced, "created at 1")
	names := func(t *testing.T, h HaltsHarness) (names []string) {
		for _, report := range h.Reported(t) {
			names = append(names, report.Instance)
		}
		return names
	}
	record := func(t *testing.T, h HaltsHarness, instance string, halt *relay.Halt) {
		t.Helper()
		require.NoError(t, h.InstanceHalts(instance).Record(t.Context(), halt))
	}

	t.Run("each instance reports for itself", func(t *testing.T) {
		h := open(t)
		require.Empty(t, h.Reported(t))
		record(t, h, "b", missing)
		record(t, h, "a", replaced)
		reported := h.Reported(t)
		require.Len(t, reported, 2)
		require.Equal(t, "a", reported[0].Instance)
		require.Equal(t, *replaced, reported[0].Halt)
		require.Equal(t, *missing, reported[1].Halt)
		require.WithinDuration(t, time.Now(), reported[1].Since, time.Minute)
		record(t, h, "b", nil)
		record(t, h, "never halted", nil)
		require.Equal(t, []string{"a"}, names(t, h))
	})
	t.Run("a halt keeps its time while the reason is the same", func(t *testing.T) {
		h := open(t)
		record(t, h, "a", missing)
		h.Age(t, 30*time.Second)
		since := h.Reported(t)[0].Since
		other := relay.NewHalt(missing.Reason, "another detail")
		record(t, h, "a", other)
		require.Equal(t, *other, h.Reported(t)[0].Halt)
		require.True(t, h.Reported(t)[0].Since.Equal(since))
		record(t, h, "a", replaced)
		require.True(t, h.Reported(t)[0].Since.After(since))
	})
	t.Run("a report that is not repeated expires", func(t *testing.T) {
		h := open(t)
		record(t, h, "dead", missing)
		record(t, h, "alive", missing)
		h.Age(t, relay.HaltReportExpires-10*time.Second)
		require.Len(t, h.Reported(t), 2)
		record(t, h, "alive", missing)
		h.Age(t, 11*time.Second)
		require.Equal(t, []string{"alive"}, names(t, h))
		record(t, h, "alive", missing)
		record(t, h, "dead", missing)
		require.Len(t, h.Reported(t), 2)
	})
}
