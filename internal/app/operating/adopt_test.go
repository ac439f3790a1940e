package operating_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestVersionOfAnAdoption checks that the version of a plan changes with everything that a person confirms, and that it stays while orders go
// on to be written.
func TestVersionOfAnAdoption(t *testing.T) {
	plan := operating.Adoption{
		Halt: relay.Halt{Reason: relay.HaltTailGone, Detail: "2 events are misplaced"}, After: outbox.Progress{Position: 7, EventID: "a"}, Events: 3,
		Orphans:  []operating.Orphan{{Progress: outbox.Progress{Position: 8, EventID: "b"}, Sequence: 9}},
		Sequence: operations.SequenceCheck{Misplaced: 2, NextPosition: 5, HighestPosition: 20},
	}
	seen := map[string]string{plan.Version(): "the plan itself"}
	for name, change := range map[string]func(p *operating.Adoption){
		"reason":        func(p *operating.Adoption) { p.Halt.Reason = relay.HaltTailCopied },
		"position":      func(p *operating.Adoption) { p.After.Position = 6 },
		"event":         func(p *operating.Adoption) { p.After.EventID = "b" },
		"why":           func(p *operating.Adoption) { p.Why = "it was asked for" },
		"create":        func(p *operating.Adoption) { p.CreateStream = true },
		"other stream":  func(p *operating.Adoption) { p.OtherStream = true },
		"sequences":     func(p *operating.Adoption) { p.FirstSequence = 5 },
		"repeats":       func(p *operating.Adoption) { p.Repeats = true },
		"accepted":      func(p *operating.Adoption) { p.AcceptRepeats = true },
		"incomplete":    func(p *operating.Adoption) { p.Incomplete = true },
		"unfit":         func(p *operating.Adoption) { p.StreamUnfit = true },
		"no orphan":     func(p *operating.Adoption) { p.Orphans = nil },
		"other orphan":  func(p *operating.Adoption) { p.Orphans = []operating.Orphan{{Sequence: 9}} },
		"in order":      func(p *operating.Adoption) { p.Sequence.NextPosition = 21 },
		"not misplaced": func(p *operating.Adoption) { p.Sequence.Misplaced = 0 },
	} {
		other := plan
		change(&other)
		require.Empty(t, seen[other.Version()], name)
		seen[other.Version()] = name
	}
	later := plan
	later.Events, later.Sequence.Misplaced, later.Sequence.NextPosition, later.Halt.Detail = 30, 12, 15, "12 events are misplaced"
	require.Equal(t, plan.Version(), later.Version())
}
