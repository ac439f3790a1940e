package interleavings_test

import (
	"fmt"
	"slices"
	"testing"
)

// knownFailure names the check that a pair is known to fail, and others that may fail with it. The test fails when a pair on the list does not
// fail any more: then remove its line.
type knownFailure struct {
	check  string
	with   []string
	reason string
}

// knownFailures lists known failures by pair. There is none.
var knownFailures = map[string]knownFailure{}

// report fails the test for failures that are not known, and for known failures that did not happen.
func (p *pair) report(t *testing.T, r result) {
	t.Helper()
	if r.err != nil {
		t.Errorf("%v", r.err)
		return
	}
	known := knownFailures[p.String()]
	for check, failed := range r.failed {
		if check != known.check && !slices.Contains(known.with, check) {
			t.Errorf("%s violates %q: %s\nin this order:\n%s", p, check, failed.detail, failed.history)
		}
	}
	if p.missing(r) {
		t.Errorf("%s does not violate %q any more (%s): take it off the list of known failures", p, known.check, known.reason)
	}
	if *all && !r.whole && !p.disjoint {
		t.Logf("%s: only %d interleavings were run, of at most %d", p, r.run, p.merges)
	}
}

// sum adds the results up.
func sum(every []*pair, results []result) string {
	var run, blocked, deadlocks, known, disjoint int
	var merges int64
	slowest := 0
	for i, r := range results {
		if r.took > results[slowest].took {
			slowest = i
		}
		run, blocked, deadlocks = run+r.run, blocked+r.blocked, deadlocks+r.deadlocks
		if every[i].disjoint {
			disjoint++
			continue
		}
		merges += every[i].merges
		if _, listed := knownFailures[every[i].String()]; listed && !every[i].missing(r) {
			known++
		}
	}
	text := fmt.Sprintf("%d pairs (%d of them with no table in common), %d interleavings (of at most %d orders of steps), "+
		"in %d of which a step waited for a lock, %d deadlocks, %d known failures seen", len(every), disjoint, run, merges, blocked, deadlocks, known)
	if len(every) > 0 {
		text += fmt.Sprintf(", slowest pair %s (%.1f s)", every[slowest], results[slowest].took.Seconds())
	}
	return text
}
