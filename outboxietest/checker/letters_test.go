package checker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

func letter(n int, state string) checker.Letter {
	return checker.Letter{Subscriber: subscriber, ID: id(n).String(), State: state}
}

// runWithPoison is a run in which version 2 of aggregate 1 cannot be handled. Version 3 waits behind it. Aggregate 2 failed for a while.
func runWithPoison() *testRun {
	r := soundRun()
	r.ledger.Poisoned(id(3))
	r.ledger.FailsForAWhile(id(2))
	r.letters = []checker.Letter{letter(3, "dead"), letter(6, "waiting"), letter(2, ""), letter(5, "")}
	r.effects = []checker.Effect{r.effects[0], r.effects[1], r.effects[3]}
	return r
}

// runWithDecisions is runWithPoison after an operator discarded version 2 of aggregate 1.
func runWithDecisions() *testRun {
	r := runWithPoison()
	r.letters[0].State, r.letters[1].State = "discarded", ""
	r.effects = append(r.effects, effect(r.log[4]))
	return r
}

// TestARunWithLettersPasses checks that dead letters with a reason are no violation.
func TestARunWithLettersPasses(t *testing.T) {
	for name, r := range map[string]*testRun{"dead": runWithPoison(), "discarded": runWithDecisions()} {
		verdict, err := checker.Verify(r.history())
		require.NoError(t, err)
		require.Empty(t, verdict.Failed(), "%s:\n%s", name, verdict)
	}
}

// letterViolations has runs that each break one promise about dead letters. fails has the checks that must notice the broken promise.
var letterViolations = []struct {
	name  string
	run   func() *testRun
	spoil func(*testRun)
	fails []checker.Check
}{
	{
		"poison took effect", runWithPoison,
		func(r *testRun) { r.effects = append(r.effects, effect(r.log[2])) },
		[]checker.Check{checker.Effects},
	},
	{
		"poison is forgotten", runWithPoison,
		func(r *testRun) { r.letters = r.letters[1:] },
		[]checker.Check{checker.Effects},
	},
	{
		"poison holds nothing", runWithPoison,
		func(r *testRun) { r.effects = append(r.effects, effect(r.log[4])); r.letters[1].State = "" },
		[]checker.Check{checker.Versions},
	},
	{
		"what waits behind poison is forgotten", runWithPoison,
		func(r *testRun) { r.letters[1].State = "" },
		[]checker.Check{checker.Effects},
	},
	{
		"a healthy event had a letter", runWithPoison,
		func(r *testRun) { r.letters = append(r.letters, letter(1, "")) },
		[]checker.Check{checker.Effects},
	},
	{
		"an event was applied and has a letter", runWithPoison,
		func(r *testRun) { r.letters[3].State = "waiting" },
		[]checker.Check{checker.Effects},
	},
	{
		"a letter is applied before the one before it", runWithPoison,
		func(r *testRun) { r.effects[1], r.effects[2] = r.effects[2], r.effects[1] },
		[]checker.Check{checker.Versions, checker.Sequence},
	},
	{
		"an event that was discarded took effect", runWithDecisions,
		func(r *testRun) { r.effects = append(r.effects, effect(r.log[2])) },
		[]checker.Check{checker.Effects, checker.Sequence},
	},
	{
		"an event that can be handled was discarded", runWithDecisions,
		func(r *testRun) { r.letters[1].State = "discarded"; r.effects = r.effects[:3] },
		[]checker.Check{checker.Effects},
	},
	{
		"what waited for the decision took no effect", runWithDecisions,
		func(r *testRun) { r.effects = r.effects[:3] },
		[]checker.Check{checker.Effects},
	},
	{
		"a letter of no event", runWithPoison,
		func(r *testRun) { r.letters = append(r.letters, letter(99, "dead")) },
		[]checker.Check{checker.Ghosts},
	},
	{
		"a letter of a message that is no event", runWithPoison,
		func(r *testRun) {
			r.letters = append(r.letters, checker.Letter{Subscriber: subscriber, ID: "unreadable-7"})
		},
		[]checker.Check{checker.Ghosts},
	},
}

// TestEachViolationOfLettersIsNoticed checks that each broken promise about dead letters fails exactly the listed checks.
func TestEachViolationOfLettersIsNoticed(t *testing.T) {
	for _, c := range letterViolations {
		t.Run(c.name, func(t *testing.T) {
			r := c.run()
			c.spoil(r)
			verdict, err := checker.Verify(r.history())
			require.NoError(t, err)
			require.ElementsMatch(t, c.fails, verdict.Failed(), "%s", verdict)
		})
	}
}
