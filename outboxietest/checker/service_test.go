package checker_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

const ownCheck checker.Check = "things of which the service keeps account"

// service is a Service that records the events and effects that it gets. It returns an error for the events in refused.
type service struct {
	events  []checker.Event
	applied []checker.Effect
	refused []checker.ID
	wrong   []string // the violations that it reports
	err     error
}

func (s *service) Event(event checker.Event) error {
	s.events = append(s.events, event)
	if slices.Contains(s.refused, event.ID) {
		return errors.New("what is this")
	}
	return nil
}

func (s *service) Applied(effect checker.Effect) { s.applied = append(s.applied, effect) }

func (s *service) Judge(report checker.Report) error {
	report.Checked(ownCheck, len(s.events), "things")
	for _, wrong := range s.wrong {
		report.Found(ownCheck, "%s", wrong)
	}
	return s.err
}

// TestAServiceSeesTheLogAndItsEffects checks that a service is shown each event of the log in sequence, and each effect once, in the order in
// which the subscriber applied the events. Its findings come last in the verdict, under its own name.
func TestAServiceSeesTheLogAndItsEffects(t *testing.T) {
	r, s := soundRun(), &service{wrong: []string{"nothing is left", "something is left"}}
	r.service = s
	r.effects[1], r.effects[2] = r.effects[2], r.effects[1]
	once := slices.Clone(r.effects)
	r.effects = append(r.effects, r.effects[0], effect(event(7, 2, 3)))
	verdict, err := checker.Verify(r.history())
	require.NoError(t, err)
	require.Equal(t, r.log, s.events)
	require.Equal(t, once, s.applied)
	require.Equal(t, checker.Result{Check: ownCheck, Of: 5, Things: "things", Count: 2, Findings: s.wrong}, verdict[len(verdict)-1])
	require.Equal(t, verdict[len(verdict)-1], verdict.Result(ownCheck))
	require.Equal(t, []checker.Check{checker.Effects, checker.Ghosts, ownCheck}, verdict.Failed(), "%s", verdict)
	require.Contains(t, verdict.String(), string(ownCheck)+": 2 of 5 things\n    nothing is left\n    something is left")
	require.Zero(t, verdict.Result("a check that nobody made"))
}

// TestAServiceNamesEventsThatItNeverWrites checks that an event of the log that the service refuses is a ghost.
func TestAServiceNamesEventsThatItNeverWrites(t *testing.T) {
	r := soundRun()
	r.service = &service{refused: []checker.ID{id(2)}}
	verdict, err := checker.Verify(r.history())
	require.NoError(t, err)
	require.Equal(t, []checker.Check{checker.Ghosts}, verdict.Failed(), "%s", verdict)
	require.Contains(t, verdict.String(), "log position 2: the service never writes this event of "+aggregate(2)+": what is this")
}

// TestAServiceThatCannotJudgeIsNoVerdict checks that Verify returns an error and no verdict if the service cannot read its results.
func TestAServiceThatCannotJudgeIsNoVerdict(t *testing.T) {
	r, broken := soundRun(), errors.New("broken")
	r.service = &service{err: broken}
	verdict, err := checker.Verify(r.history())
	require.ErrorIs(t, err, broken)
	require.Nil(t, verdict)
}
