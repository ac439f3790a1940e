package checker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

func call(e checker.Event, succeeded bool) checker.Call {
	return checker.Call{
		Subscriber: subscriber, ID: e.ID, Aggregate: e.Aggregate, Version: e.Version, Type: e.Type, Payload: e.Payload, Succeeded: succeeded,
	}
}

// runWithCalls is a run of a subscriber with external effects. The first call for version 2 of aggregate 1 hung. So versions 2 and 3 of aggregate 1
// had letters, and version 2 was called for again. The call for version 1 of aggregate 2 was repeated late.
func runWithCalls() *testRun {
	r := soundRun()
	r.external = []string{subscriber}
	r.letters = []checker.Letter{letter(3, ""), letter(6, "")}
	r.effects[2], r.effects[3] = r.effects[3], r.effects[2]
	for _, c := range []struct {
		at        int
		succeeded bool
	}{
		{0, false},
		{0, true},
		{1, false},
		{1, true},
		{2, false},
		{3, false},
		{3, true},
		{2, false},
		{2, true},
		{1, false},
		{1, true},
		{4, false},
		{4, true},
	} {
		r.calls = append(r.calls, call(r.log[c.at], c.succeeded))
	}
	return r
}

// TestARunWithCallsPasses checks that failed calls, repeated calls and calls for events that other subscribers cannot handle are no violation.
func TestARunWithCallsPasses(t *testing.T) {
	r := runWithCalls()
	r.ledger.Poisoned(id(5))
	verdict, err := checker.Verify(r.history())
	require.NoError(t, err)
	require.Empty(t, verdict.Failed(), "%s", verdict)
}

// TestEachViolationOfCallsIsNoticed checks that each broken promise about calls fails exactly the listed checks.
func TestEachViolationOfCallsIsNoticed(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*testRun)
		fails []checker.Check
	}{
		{"an event took effect without a call", func(r *testRun) { r.calls = r.calls[:11] }, []checker.Check{checker.Effects}},
		{"no call for an event that took effect succeeded", func(r *testRun) { r.calls = r.calls[:12] }, []checker.Check{checker.Effects}},
		{"an event was called for and took no effect", func(r *testRun) { r.effects = r.effects[:4] }, []checker.Check{checker.Effects}},
		{
			"a call before the one before it succeeded",
			func(r *testRun) { r.calls[8], r.calls[11] = r.calls[11], r.calls[8] },
			[]checker.Check{checker.Sequence},
		},
		{
			"a call before the one before it was called for",
			func(r *testRun) { r.calls = append(r.calls[11:13:13], r.calls[:11]...) },
			[]checker.Check{checker.Versions, checker.Sequence},
		},
		{"another key", func(r *testRun) { r.calls[9].ID = id(77) }, []checker.Check{checker.Ghosts}},
		{"the key of another event", func(r *testRun) { r.calls[9].ID = r.log[0].ID }, []checker.Check{checker.Ghosts}},
		{"another content", func(r *testRun) { r.calls[9].Payload = []byte("{}") }, []checker.Check{checker.Ghosts}},
		{"another type", func(r *testRun) { r.calls[9].Type = "other" }, []checker.Check{checker.Ghosts}},
		{"another subscriber", func(r *testRun) { r.calls[9].Subscriber = "nobody" }, []checker.Check{checker.Ghosts}},
		{
			"an event that can be called for was discarded",
			func(r *testRun) { r.letters[1].State, r.effects = "discarded", r.effects[:4] },
			[]checker.Check{checker.Effects},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := runWithCalls()
			c.spoil(r)
			verdict, err := checker.Verify(r.history())
			require.NoError(t, err)
			require.ElementsMatch(t, c.fails, verdict.Failed(), "%s", verdict)
		})
	}
}

// TestUnknownTypesHaveLetters checks that an event may have a letter if some copies of its subscriber do not know the type. Otherwise the
// letter is a violation.
func TestUnknownTypesHaveLetters(t *testing.T) {
	r := soundRun()
	r.letters = []checker.Letter{letter(3, ""), letter(6, "")}
	verdict, err := checker.Verify(r.history())
	require.NoError(t, err)
	require.Equal(t, []checker.Check{checker.Effects}, verdict.Failed(), "%s", verdict)
	r.ledger.UnknownType("others", "thing.happened.v1")
	verdict, err = checker.Verify(r.history())
	require.NoError(t, err)
	require.Equal(t, []checker.Check{checker.Effects}, verdict.Failed(), "%s", verdict)
	r.ledger.UnknownType(subscriber, "thing.happened.v1")
	verdict, err = checker.Verify(r.history())
	require.NoError(t, err)
	require.Empty(t, verdict.Failed(), "%s", verdict)
}
