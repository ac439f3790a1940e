package checker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

func call(e checker.Event, succeeded bool) checker.Call {
	return checker.Call{Subscriber: subscriber, ID: e.ID, Aggregate: e.Aggregate, Version: e.Version, Type: e.Type, Payload: e.Payload, Succeeded: succeeded}
}

// called is a life of a subscriber whose effects are calls. Version 2 of order 1 was called for twice, and hung the first time, so it and
// version 3 had letters. The call for version 1 of order 2 was repeated late.
func called() *life {
	l := sane()
	l.external, l.totals = []string{subscriber}, nil
	l.letters = []checker.Letter{letter(3, ""), letter(6, "")}
	l.effects[2], l.effects[3] = l.effects[3], l.effects[2]
	for _, c := range []struct {
		at        int
		succeeded bool
	}{
		{0, false}, {0, true}, {1, false}, {1, true}, {2, false}, {3, false}, {3, true}, {2, false}, {2, true}, {1, false}, {1, true}, {4, false}, {4, true},
	} {
		l.calls = append(l.calls, call(l.log[c.at], c.succeeded))
	}
	return l
}

// TestALifeWithCallsPasses checks that failed and repeated calls are no violation, and that what nobody could decode is one neither.
func TestALifeWithCallsPasses(t *testing.T) {
	l := called()
	l.ledger.Poisoned(id(5))
	verdict, err := checker.Verify(l.history())
	require.NoError(t, err)
	require.Empty(t, verdict.Failed(), "%s", verdict)
}

// TestEachViolationOfCallsIsNoticed breaks one promise at a time.
func TestEachViolationOfCallsIsNoticed(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*life)
		fails []checker.Check
	}{
		{"an event took effect without a call", func(l *life) { l.calls = l.calls[:11] }, []checker.Check{checker.Effects}},
		{"no call for an event that took effect succeeded", func(l *life) { l.calls = l.calls[:12] }, []checker.Check{checker.Effects}},
		{"an event was called for and took no effect", func(l *life) { l.effects = l.effects[:4] }, []checker.Check{checker.Effects}},
		{
			"a call before the one before it succeeded",
			func(l *life) { l.calls[8], l.calls[11] = l.calls[11], l.calls[8] },
			[]checker.Check{checker.Order},
		},
		{
			"a call before the one before it was called for",
			func(l *life) { l.calls = append(l.calls[11:13:13], l.calls[:11]...) },
			[]checker.Check{checker.Versions, checker.Order},
		},
		{"another key", func(l *life) { l.calls[9].ID = id(77) }, []checker.Check{checker.Ghosts}},
		{"the key of another event", func(l *life) { l.calls[9].ID = l.log[0].ID }, []checker.Check{checker.Ghosts}},
		{"another content", func(l *life) { l.calls[9].Payload = []byte("{}") }, []checker.Check{checker.Ghosts}},
		{"another type", func(l *life) { l.calls[9].Type = "other" }, []checker.Check{checker.Ghosts}},
		{"another subscriber", func(l *life) { l.calls[9].Subscriber = "nobody" }, []checker.Check{checker.Ghosts}},
		{
			"an event that can be called for was given up",
			func(l *life) { l.letters[1].State, l.effects = "discarded", l.effects[:4] },
			[]checker.Check{checker.Effects},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := called()
			c.spoil(l)
			verdict, err := checker.Verify(l.history())
			require.NoError(t, err)
			require.ElementsMatch(t, c.fails, verdict.Failed(), "%s", verdict)
		})
	}
}

// TestUnknownTypesHaveLetters checks that an event of a type that some copies do not know may have a letter, and no other one.
func TestUnknownTypesHaveLetters(t *testing.T) {
	l := sane()
	l.letters = []checker.Letter{letter(3, ""), letter(6, "")}
	verdict, err := checker.Verify(l.history())
	require.NoError(t, err)
	require.Equal(t, []checker.Check{checker.Effects}, verdict.Failed(), "%s", verdict)
	l.ledger.Unknown("others", "outboxie.order.paid.v1")
	verdict, err = checker.Verify(l.history())
	require.NoError(t, err)
	require.Equal(t, []checker.Check{checker.Effects}, verdict.Failed(), "%s", verdict)
	l.ledger.Unknown(subscriber, "outboxie.order.paid.v1")
	verdict, err = checker.Verify(l.history())
	require.NoError(t, err)
	require.Empty(t, verdict.Failed(), "%s", verdict)
}
