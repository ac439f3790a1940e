package interleavings_test

import (
	"context"
	"errors"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// operation is one call of the program that writes, with its arguments: what one side of an interleaving does.
type operation struct {
	name string
	// methods are those of the ports that the operation is a scenario of: "relay.Parking.Reconcile".
	methods []string
	do      func(ctx context.Context, s *side) (string, error)
	in      *state // where it begins; nil: normal

	// turn says that success counts one write of the relay.
	turn bool
	// relay says that a whole relay runs, or something in its place. What it leaves is judged by what relays make of it
	// afterwards, and not by comparison: a take-over leaves another cursor each time.
	relay bool
	// untrue says that it tells of a stream that is not the state's. No whole relay runs beside it: each settles the true one.
	untrue bool
	// before says that it is one of a former program. Two of those are no pair.
	before bool
	// careless says that it forgets, by its age alone, what may come again, and passes over what is locked: no outcome is wrong.
	careless bool
	// regrows says that it reports a stream that has lost its end, which has other events afterwards.
	regrows bool
	// skips says that it lets lanes pass over events on purpose.
	skips bool
	// circles says why it may wait for another one that waits for it. Whoever Postgres ends then tries again.
	circles string
	// prelude says that the operation itself closes its gate, at the first step that matters.
	prelude bool

	// refuses are answers that the operation may give though no serial order would, and why that is right. It must have
	// changed nothing then.
	refuses map[string]string
	// guesses are answers that may be given though it is another one in the serial order whose outcome it is, and why that is
	// right.
	guesses map[string]string
}

func refusing(o *operation, answers map[string]string) *operation {
	o.refuses = answers
	return o
}

func guessing(o *operation, answers map[string]string) *operation {
	o.guesses = answers
	return o
}

func (o *operation) state() state {
	if o.in != nil {
		return *o.in
	}
	return normal
}

// answer is what a call returned.
type answer struct {
	text string
	err  error
}

func (o *operation) answer(ctx context.Context, s *side) answer {
	text, err := o.do(ctx, s)
	return answer{text, err}
}

// code is the error's, or ok.
func (a answer) code() string {
	var known *fault.Error
	switch {
	case a.err == nil:
		return "ok"
	case errors.As(a.err, &known):
		return known.Code
	}
	return a.err.Error()
}

// String is the whole answer, to compare.
func (a answer) String() string {
	if a.text == "" || a.err != nil {
		return a.code()
	}
	return a.code() + " " + a.text
}

// slow reports that the machine was so slow that a call gave up. That is no outcome to judge.
func (a answer) slow() bool {
	return errors.Is(a.err, postgres.ErrUnavailable) || errors.Is(a.err, postgres.ErrBusy)
}

// operations are all of them. A pair is any two of one state, and each with itself.
var allOperations = slices.Concat(orderOperations, relayOperations, laneOperations, letterOperations, operatorOperations, formerOperations, wholeRelays)

func named(name string) *operation {
	for _, o := range slices.Concat(allOperations, plantedOperations) {
		if o.name == name {
			return o
		}
	}
	panic("there is no operation " + name)
}
