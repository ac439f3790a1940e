package checker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

func letter(n int, state string) checker.Letter {
	return checker.Letter{Subscriber: subscriber, ID: id(n).String(), State: state}
}

// poisoned is a life in which nobody can handle version 2 of order 1. Version 3 waits behind it. Order 2 failed for a while.
func poisoned() *life {
	l := sane()
	l.ledger.Poisoned(id(3))
	l.ledger.Troubled(id(2))
	l.letters = []checker.Letter{letter(3, "dead"), letter(6, "waiting"), letter(2, ""), letter(5, "")}
	l.effects = []checker.Effect{l.effects[0], l.effects[1], l.effects[3]}
	return l
}

// decided is poisoned after an operator gave version 2 of order 1 up.
func decided() *life {
	l := poisoned()
	l.letters[0].State, l.letters[1].State = "discarded", ""
	l.effects = append(l.effects, effect(l.log[4]))
	return l
}

func TestALifeWithLettersPasses(t *testing.T) {
	for name, l := range map[string]*life{"dead": poisoned(), "discarded": decided()} {
		verdict, err := checker.Verify(l.history())
		require.NoError(t, err)
		require.Empty(t, verdict.Failed(), "%s:\n%s", name, verdict)
	}
}

// TestEachViolationOfLettersIsNoticed breaks one promise at a time.
func TestEachViolationOfLettersIsNoticed(t *testing.T) {
	for _, c := range []struct {
		name  string
		life  func() *life
		spoil func(*life)
		fails []checker.Check
	}{
		{
			"poison took effect", poisoned,
			func(l *life) { l.effects = append(l.effects, effect(l.log[2])) },
			[]checker.Check{checker.Effects},
		},
		{
			"poison is forgotten", poisoned,
			func(l *life) { l.letters = l.letters[1:] },
			[]checker.Check{checker.Effects},
		},
		{
			"poison holds nothing", poisoned,
			func(l *life) { l.effects = append(l.effects, effect(l.log[4])); l.letters[1].State = "" },
			[]checker.Check{checker.Versions},
		},
		{
			"what waits behind poison is forgotten", poisoned,
			func(l *life) { l.letters[1].State = "" },
			[]checker.Check{checker.Effects},
		},
		{
			"a healthy event had a letter", poisoned,
			func(l *life) { l.letters = append(l.letters, letter(1, "")) },
			[]checker.Check{checker.Effects},
		},
		{
			"an event was applied and has a letter", poisoned,
			func(l *life) { l.letters[3].State = "waiting" },
			[]checker.Check{checker.Effects},
		},
		{
			"a letter is applied before the one before it", poisoned,
			func(l *life) { l.effects[1], l.effects[2] = l.effects[2], l.effects[1] },
			[]checker.Check{checker.Versions, checker.Order},
		},
		{
			"an event that was given up took effect", decided,
			func(l *life) { l.effects = append(l.effects, effect(l.log[2])) },
			[]checker.Check{checker.Effects, checker.Order},
		},
		{
			"a healthy event was given up", decided,
			func(l *life) { l.letters[1].State = "discarded"; l.effects = l.effects[:3] },
			[]checker.Check{checker.Effects},
		},
		{
			"what waited for the decision took no effect", decided,
			func(l *life) { l.effects = l.effects[:3] },
			[]checker.Check{checker.Effects},
		},
		{
			"a letter of no event", poisoned,
			func(l *life) { l.letters = append(l.letters, letter(99, "dead")) },
			[]checker.Check{checker.Ghosts},
		},
		{
			"a letter of a message that is no event", poisoned,
			func(l *life) {
				l.letters = append(l.letters, checker.Letter{Subscriber: subscriber, ID: "unreadable-7"})
			},
			[]checker.Check{checker.Ghosts},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := c.life()
			c.spoil(l)
			verdict, err := checker.Verify(l.history())
			require.NoError(t, err)
			require.ElementsMatch(t, c.fails, verdict.Failed(), "%s", verdict)
		})
	}
}
