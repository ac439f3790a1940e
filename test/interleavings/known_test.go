package interleavings_test

import (
	"fmt"
	"slices"
	"testing"
)

// knownFailure is a check that a pair is known to fail, and what is to be done about it. The test fails when it stops failing.
type knownFailure struct{ check, reason string }

var knownFailures = map[string][]knownFailure{}

// totals is the sum of the results.
type totals struct {
	disjoint, run, blocked, deadlocks, known int
	of                                       int64
}

func (s totals) String() string {
	return fmt.Sprintf("%d interleavings (of about %d), %d with a step that waited for a lock, %d deadlocks, %d known failures seen",
		s.run, s.of, s.blocked, s.deadlocks, s.known)
}

// summarize reports what failed and is not known, and what is known and did not fail.
func summarize(t *testing.T, every []*pair, results []result) (total totals) {
	t.Helper()
	for i, r := range results {
		p := every[i]
		if r.err != nil {
			t.Errorf("%v", r.err)
		}
		if p.disjoint {
			total.disjoint++
		}
		total.run += r.run
		total.of += r.of
		total.blocked += r.blocked
		total.deadlocks += r.deadlocks
		for check, failed := range r.failed {
			if slices.ContainsFunc(knownFailures[p.String()], func(k knownFailure) bool { return k.check == check }) {
				total.known++
				continue
			}
			t.Errorf("%s violates %q: %s\nin this order:\n%s", p, check, failed.detail, failed.history)
		}
		for _, k := range knownFailures[p.String()] {
			if _, found := r.failed[k.check]; !found && r.err == nil {
				t.Errorf("%s does not violate %q any more (%s): take it off the list of known failures", p, k.check, k.reason)
			}
		}
		if *all && !r.whole && !p.disjoint {
			t.Logf("%s has at most %d interleavings; %d of them were run", p, r.of, r.run)
		}
	}
	return total
}
