package checker_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/outboxietest/checker"
)

// testRun is a small history, written by hand.
type testRun struct {
	parked   []checker.Parked
	log      []checker.Event
	stream   []checker.Message
	effects  []checker.Effect
	letters  []checker.Letter
	service  checker.Service
	calls    []checker.Call
	external []string
	ledger   *checker.Ledger
	recovery checker.Recovery
}

const subscriber = "emails"

func id(n int) checker.ID { return checker.ID{15: byte(n)} }

func aggregate(n int) string { return "thing/" + (checker.ID{0: byte(n)}).String() }

func event(position int64, thing, version int) checker.Event {
	return checker.Event{
		Position: position, ID: id(int(position)), Aggregate: aggregate(thing), Version: int64(version), Type: "thing.happened.v1",
		Subject: "things.happened", Payload: fmt.Appendf(nil, `{"thing": %d, "version": %d}`, thing, version),
	}
}

func message(sequence uint64, e checker.Event) checker.Message {
	return checker.Message{
		Sequence: sequence, ID: e.ID, Aggregate: e.Aggregate, Version: e.Version, Type: e.Type, Subject: e.Subject,
		Position: e.Position, Payload: e.Payload,
	}
}

func parkedMessage(sequence uint64, e checker.Event) checker.Message {
	return checker.Message{
		Sequence: sequence, ID: id(200 + int(sequence)), Type: "outboxie.event.parked.v1", Subject: "outboxie.THINGS.notices",
		Progress: fmt.Sprintf("%d/%s", e.Position, e.ID),
	}
}

func effect(e checker.Event) checker.Effect {
	return checker.Effect{Subscriber: subscriber, ID: e.ID, Position: e.Position, Aggregate: e.Aggregate, Version: e.Version}
}

// soundRun is a run in which nothing went wrong. Aggregate 1 has three versions, and aggregate 2 has two. Position 4 was rolled back.
func soundRun() *testRun {
	r := &testRun{ledger: checker.NewLedger(), recovery: checker.Recovery{Took: time.Second, Bound: time.Minute}}
	for sequence, e := range []checker.Event{event(1, 1, 1), event(2, 2, 1), event(3, 1, 2), event(5, 2, 2), event(6, 1, 3)} {
		r.log = append(r.log, e)
		r.stream = append(r.stream, message(uint64(sequence+1), e))
		r.effects = append(r.effects, effect(e))
	}
	for n := 1; n <= 2; n++ {
		r.ledger.Acknowledged(aggregate(n), 2)
	}
	r.ledger.RolledBack(id(4))
	r.ledger.Committed(id(1), id(5))
	return r
}

// runWithParked is a run with a parked aggregate. Version 2 of aggregate 1, position 3, was discarded. Version 3 was redriven.
func runWithParked() *testRun {
	r := soundRun()
	r.parked = []checker.Parked{{Position: 3, ID: id(3), State: "discarded"}, {Position: 6, ID: id(6), State: "redriven"}}
	last := message(5, r.log[4])
	last.Progress = fmt.Sprintf("5/%s", id(5))
	r.stream = []checker.Message{message(1, r.log[0]), message(2, r.log[1]), parkedMessage(3, r.log[2]), message(4, r.log[3]), last}
	r.effects = slices.Delete(r.effects, 2, 3)
	return r
}

func sequence[T any](all []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, one := range all {
			if !yield(one, nil) {
				return
			}
		}
	}
}

func (r *testRun) history() checker.History {
	return checker.History{
		Parked: sequence(r.parked), Log: sequence(r.log), Stream: sequence(r.stream), Effects: sequence(r.effects),
		Letters: sequence(r.letters), Calls: sequence(r.calls),
		Subscribers: []string{subscriber}, External: r.external, Ledger: r.ledger, Recovery: r.recovery,
		Service: r.service,
	}
}

// TestASoundRunPasses checks that runs without a violation pass every check.
func TestASoundRunPasses(t *testing.T) {
	for name, r := range map[string]*testRun{
		"plain": soundRun(), "with a parked aggregate": runWithParked(), "still parked": runWithWaiting(), "gone back": runWithRewind(),
	} {
		verdict, err := checker.Verify(r.history())
		require.NoError(t, err)
		require.Empty(t, verdict.Failed(), "%s:\n%s", name, verdict)
		for _, result := range verdict {
			require.NotZero(t, result.Of, "%s checked nothing", result.Check)
		}
	}
}

// runWithWaiting is runWithParked before an operator did anything about it.
func runWithWaiting() *testRun {
	r := runWithParked()
	r.parked[0].State, r.parked[1].State = "parked", "parked"
	r.stream, r.effects = r.stream[:4], r.effects[:3]
	return r
}

// runWithRewind is runWithParked after the stream lost the redriven event. A control message names the end of the stream. The event was
// redriven again behind that message.
func runWithRewind() *testRun {
	r := runWithParked()
	end := parkedMessage(5, r.log[3])
	end.Type = "outboxie.log.adopted.v1"
	r.stream[4].Sequence = 6
	r.stream = slices.Insert(r.stream, 4, end)
	return r
}

// violations has runs that each break one promise. fails has the checks that must notice the broken promise.
var violations = []struct {
	name  string
	run   func() *testRun
	spoil func(*testRun)
	fails []checker.Check
}{
	{"the last event is not in the stream", soundRun, func(r *testRun) { r.stream = r.stream[:4] }, []checker.Check{checker.Loss}},
	{
		"an event in the middle is not in the stream", soundRun,
		func(r *testRun) { r.stream = slices.Delete(r.stream, 2, 3) },
		[]checker.Check{checker.Loss, checker.Versions},
	},
	{
		"Postgres lost an acknowledged change", soundRun,
		func(r *testRun) { r.ledger.Acknowledged(aggregate(2), 3) },
		[]checker.Check{checker.Loss},
	},
	{
		"Postgres lost an acknowledged aggregate", soundRun,
		func(r *testRun) { r.ledger.Acknowledged(aggregate(9), 1) },
		[]checker.Check{checker.Loss},
	},
	{
		"Postgres lost an acknowledged transaction", soundRun,
		func(r *testRun) { r.ledger.Committed(id(9)) },
		[]checker.Check{checker.Loss},
	},
	{
		"a redriven event is not in the stream", runWithParked,
		func(r *testRun) { r.stream = r.stream[:4] },
		[]checker.Check{checker.Loss},
	},
	{
		"an event is stored again at once", soundRun,
		func(r *testRun) { r.stream = slices.Insert(r.stream, 2, r.stream[1]) },
		[]checker.Check{checker.Duplicates, checker.Sequence},
	},
	{
		"a redriven event is stored again", runWithParked,
		func(r *testRun) { r.stream = append(r.stream, r.stream[4]) },
		[]checker.Check{checker.Duplicates},
	},
	{
		"an event took effect twice", soundRun,
		func(r *testRun) { r.effects = append(r.effects, r.effects[4]) },
		[]checker.Check{checker.Effects},
	},
	{
		"an event took no effect", soundRun,
		func(r *testRun) { r.effects = r.effects[:4] },
		[]checker.Check{checker.Effects},
	},
	{
		"the log has a gap", soundRun, func(r *testRun) {
			r.log[4].Version, r.stream[4].Version, r.effects[4].Version = 4, 4, 4
		}, []checker.Check{checker.Versions},
	},
	{
		"an effect overtakes", soundRun,
		func(r *testRun) { r.effects[2], r.effects[4] = r.effects[4], r.effects[2] },
		[]checker.Check{checker.Versions, checker.Sequence},
	},
	{
		"an event overtakes", soundRun,
		func(r *testRun) { r.stream[3], r.stream[4] = r.stream[4], r.stream[3] },
		[]checker.Check{checker.Sequence},
	},
	{
		"the later version of an aggregate comes first", soundRun,
		func(r *testRun) { r.stream[2], r.stream[4] = r.stream[4], r.stream[2] },
		[]checker.Check{checker.Versions, checker.Sequence},
	},
	{
		"an event that never was parked comes late", soundRun, func(r *testRun) {
			r.stream[3], r.stream[4] = r.stream[4], r.stream[3]
			r.stream[4].Progress = fmt.Sprintf("6/%s", id(6))
		}, []checker.Check{checker.Sequence},
	},
	{
		"a version behind a parked one is let through", runWithWaiting, func(r *testRun) {
			r.stream = append(r.stream, message(5, r.log[4]))
		}, []checker.Check{checker.Versions, checker.Ghosts},
	},
	{
		"an event of a transaction that was rolled back", soundRun,
		func(r *testRun) { r.ledger.RolledBack(id(5)) },
		[]checker.Check{checker.Ghosts},
	},
	{
		"an event that is not in the log", soundRun, func(r *testRun) {
			r.stream = append(r.stream, message(6, event(7, 2, 3)))
		}, []checker.Check{checker.Ghosts},
	},
	{
		"somebody else's message", soundRun, func(r *testRun) {
			r.stream = append(r.stream, checker.Message{Sequence: 6, Subject: "things.happened"})
		}, []checker.Check{checker.Ghosts},
	},
	{"another body", soundRun, func(r *testRun) { r.stream[3].Payload = []byte("{}") }, []checker.Check{checker.Ghosts}},
	{"another aggregate", soundRun, func(r *testRun) { r.stream[3].Aggregate = aggregate(1) }, []checker.Check{checker.Ghosts}},
	{
		"the effect of an event that is not in the log", soundRun, func(r *testRun) {
			r.effects = append(r.effects, effect(event(7, 2, 3)))
		}, []checker.Check{checker.Ghosts},
	},
	{
		"the effect of an event that waits", runWithWaiting,
		func(r *testRun) { r.effects = append(r.effects, effect(r.log[4])) },
		[]checker.Check{checker.Ghosts},
	},
	{
		"a control message that falls back", runWithRewind,
		func(r *testRun) { r.stream[4].Progress = fmt.Sprintf("2/%s", id(2)) },
		[]checker.Check{checker.Sequence},
	},
	{
		"a control message about an event that was not parked", soundRun, func(r *testRun) {
			r.stream = append(r.stream[:4:4], parkedMessage(5, r.log[4]), r.stream[4])
		}, []checker.Check{checker.Ghosts, checker.Sequence},
	},
	{
		"somebody is behind", soundRun,
		func(r *testRun) { r.recovery.Behind = []string{"emails"} },
		[]checker.Check{checker.CaughtUp},
	},
	{
		"it took too long", soundRun,
		func(r *testRun) { r.recovery.Took = 2 * time.Minute },
		[]checker.Check{checker.CaughtUp},
	},
}

// TestEachViolationIsNoticed checks that each broken promise fails exactly the listed checks.
func TestEachViolationIsNoticed(t *testing.T) {
	for _, c := range violations {
		t.Run(c.name, func(t *testing.T) {
			r := c.run()
			c.spoil(r)
			verdict, err := checker.Verify(r.history())
			require.NoError(t, err)
			require.ElementsMatch(t, c.fails, verdict.Failed(), "%s", verdict)
			for _, result := range verdict {
				if result.Count > 0 {
					require.NotEmpty(t, result.Findings, "a report says what is wrong")
				}
			}
		})
	}
}

// TestManyViolationsAreCountedAndSomeShown checks that all violations are counted, and that only the first ones are described.
func TestManyViolationsAreCountedAndSomeShown(t *testing.T) {
	r := soundRun()
	for n := range 50 {
		r.ledger.Committed(id(100 + n))
	}
	verdict, err := checker.Verify(r.history())
	require.NoError(t, err)
	require.Contains(t, verdict.String(), "C1 loss:")
	require.Contains(t, verdict.String(), " 50 of ")
	require.Contains(t, verdict.String(), "and 30 more")
}

// TestWhatCannotBeReadIsNoVerdict checks that Verify returns an error and no verdict if the history cannot be read.
func TestWhatCannotBeReadIsNoVerdict(t *testing.T) {
	h := soundRun().history()
	broken := errors.New("broken")
	h.Stream = func(yield func(checker.Message, error) bool) { yield(checker.Message{}, broken) }
	verdict, err := checker.Verify(h)
	require.ErrorIs(t, err, broken)
	require.Nil(t, verdict)
}

// TestIDs checks that a UUID is read and written in its usual form, and other texts are refused.
func TestIDs(t *testing.T) {
	const text = "01a208ab-3be5-77ba-a411-d0614a94e989"
	read, err := checker.ParseID(text)
	require.NoError(t, err)
	require.Equal(t, text, read.String())
	for _, wrong := range []string{"", "x", text[1:], strings.ReplaceAll(text, "a", "x"), text + "00"} {
		_, err := checker.ParseID(wrong)
		require.Error(t, err, wrong)
	}
}
