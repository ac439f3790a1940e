package interleavings_test

import (
	"fmt"
	"slices"
	"testing"
)

// knownFailure says which check a pair is known to fail, and which others may fail with it. The test fails when a pair on the list
// stops failing: then its line goes.
type knownFailure struct {
	check  string
	with   []string
	reason string
}

// knownFailures are by pair. None is known.
var knownFailures = map[string]knownFailure{}

// report tells what failed and is not known, and what is known and did not fail.
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
	for i, r := range results {
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
	return fmt.Sprintf("%d pairs (%d of them with no table in common), %d interleavings (of at most %d orders of steps), "+
		"in %d of which a step waited for a lock, %d deadlocks, %d known failures seen", len(every), disjoint, run, merges, blocked, deadlocks, known)
}
