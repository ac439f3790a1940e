package subscribing_test

import (
	"cmp"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The checks of a run. Each check has the name of the promise that it checks.
const (
	checkOnce      = "each effect once"
	checkOrder     = "in order"
	checkLost      = "nothing lost"
	checkPoison    = "poison holds only its aggregate"
	checkEnd       = "every lane comes to the end of the stream"
	checkPaused    = "nothing while it is paused"
	checkForgotten = "nothing after it is forgotten"
	checkCalls     = "first calls in order, and one that succeeded for each effect"
)

// TestModel checks that each event takes effect once and in order within its aggregate, whatever happens: after the faults have ended,
// every event that was not discarded has taken effect. It runs a subscriber in fake time, many times, with random faults and changes:
//   - up to three copies on 1, 3 or 7 lanes, which start, stop, are killed, and freeze, and whose programs know all types of events or not;
//   - transactions that stall in each of their steps, outages of the database, and commits without an answer;
//   - events that fail for ever, for a while, or by accident, and external calls that hang;
//   - a stream that loses its end, is created again, lags, and has holes, duplicates, foreign messages and redriven events;
//   - operators who retry, discard, pause, rewind, skip, change the lanes, and forget a subscriber;
//   - a log and a stream that lose their beginning, and an inbox that is swept.
func TestModel(t *testing.T) {
	seen := make(map[string]int)
	for seed := range uint64(runs) {
		for what, count := range mustRun(t, seed) {
			seen[what] += count
		}
	}
	t.Log(seen)
	for _, fault := range faults {
		if underRace {
			break // there are too few runs for every fault to occur
		}
		require.Positive(t, seen[fault], "%s never occurred", fault)
	}
}

func mustRun(t *testing.T, seed uint64) map[string]int {
	t.Helper()
	problem, h := run(t, seed, mutant{})
	if problem != "" {
		t.Fatalf("run %d: %s\n%s", seed, problem, describeTrace(h.trace))
	}
	return h.seen
}

// run runs a subscriber once. It returns the result of the check that failed, and what happened.
func run(t *testing.T, seed uint64, broken mutant) (problem string, h *harness) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h = newHarness(t, seed, broken)
		for range 70 {
			h.step()
			pass(h.untilNext())
		}
		h.endFaults()
		if problem = h.violation; problem == "" {
			problem = h.checkHistory()
		}
		if problem == "" {
			problem = h.checkCallOrder()
		}
		if problem == "" {
			problem = h.checkHeldBack()
		}
		if problem == "" {
			h.healPoison()
			problem = cmp.Or(h.checkEffects(), h.checkCallOrder())
		}
		h.end()
	})
	return problem, h
}

// untilNext returns the time until the next change.
func (h *harness) untilNext() time.Duration {
	most := 1500
	if h.long {
		most = 15_000
	}
	return time.Duration(h.below(most)) * time.Millisecond
}

// pass lets fake time go by, until everything that is due has happened.
func pass(by time.Duration) {
	time.Sleep(by)
	synctest.Wait()
}

// checkHeldBack checks, while the poisoned events still fail, that they hold up only the later events of their aggregates.
func (h *harness) checkHeldBack() string {
	held, effects := make(map[string]bool), make(map[string]bool)
	for _, entry := range h.inbox.History(subscriber) {
		effects[entry.ID] = true
	}
	for _, entry := range h.log {
		if h.poison[entry.Position] && !h.discarded[entry.ID] {
			held[entry.Key.ID] = true
		}
		switch applied := effects[entry.ID]; {
		case h.discarded[entry.ID]:
		case held[entry.Key.ID] && applied:
			return fmt.Sprintf(checkPoison+": position %d of %s was applied after a poisoned event", entry.Position, entry.Key)
		case !held[entry.Key.ID] && !applied:
			check := checkPoison
			if _, err := h.inbox.Letter(h.t.Context(), subscriber, entry.ID); err != nil {
				check = checkLost
			}
			return fmt.Sprintf(check+": position %d of %s was not applied; %s", entry.Position, entry.Key, h.where(entry.ID))
		}
	}
	return ""
}

// checkHistory checks the effects in the order of their commits.
func (h *harness) checkHistory() string {
	effects, last := make(map[string]bool), make(map[string]int64)
	for _, entry := range h.inbox.History(subscriber) {
		if effects[entry.ID] {
			return fmt.Sprintf(checkOnce+": position %d took effect twice", entry.Position)
		}
		aggregate := h.aggregate(entry)
		if entry.Version <= last[aggregate.ID] {
			return fmt.Sprintf(checkOrder+": version %d of %s took effect after %d", entry.Version, aggregate, last[aggregate.ID])
		}
		effects[entry.ID], last[aggregate.ID] = true, entry.Version
	}
	return ""
}

// checkEffects compares the effects with the log.
func (h *harness) checkEffects() string {
	if problem := h.checkHistory(); problem != "" {
		return problem
	}
	effects := make(map[string]bool)
	for _, entry := range h.inbox.History(subscriber) {
		effects[entry.ID] = true
	}
	for _, entry := range h.log {
		if !effects[entry.ID] && !h.discarded[entry.ID] {
			return fmt.Sprintf(checkLost+": position %d of %s; %s", entry.Position, entry.Key, h.where(entry.ID))
		}
		if effects[entry.ID] && h.discarded[entry.ID] {
			return fmt.Sprintf(checkOnce+": position %d took effect though it was discarded", entry.Position)
		}
	}
	if counted := h.inbox.Total(subscriber, customer, "USD"); counted.Orders != int64(len(effects)) {
		return fmt.Sprintf(checkOnce+": %d effects were counted, not %d", counted.Orders, len(effects))
	}
	return h.checkNothingLeft()
}

// checkNothingLeft checks that nothing is left to do.
func (h *harness) checkNothingLeft() string {
	letters, err := h.inbox.Letters(h.t.Context(), subscriber, 1000)
	require.NoError(h.t, err)
	for _, letter := range letters {
		return fmt.Sprintf(checkEnd+": position %d is still %s", letter.Position, letter.State)
	}
	view, err := h.inbox.Heartbeat(h.t.Context(), subscriber, "judge")
	require.NoError(h.t, err)
	messages := h.messages()
	end := messages[len(messages)-1]
	for _, lane := range view.Lanes {
		if lane.Sequence != end.Sequence || !lane.StoredAt.Equal(end.StoredAt) {
			return fmt.Sprintf(checkEnd+": lane %d stands at %d and not at %d", lane.Lane, lane.Sequence, end.Sequence)
		}
	}
	return ""
}
