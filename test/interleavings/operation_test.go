package interleavings_test

import (
	"context"
	"errors"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// operation is one side of an interleaving: a call of the program that writes, with its arguments.
type operation struct {
	name string
	// methods are those of the ports that the operation is a scenario of: "relay.Parking.Reconcile".
	methods []string
	do      func(ctx context.Context, s *side) (string, error)
	in      *state // where it begins; nil: normal

	// fenced reports that success counts one write of the relay.
	fenced bool
	// relay reports that a whole relay runs, or something in its place. Its outcome is not compared, because each take-over writes another cursor.
	// Instead, further relays have to finish the work.
	relay bool
	// otherStream reports that it assumes a stream that is not the state's. No whole relay runs beside it, because that uses the state's stream.
	otherStream bool
	// before reports that it belongs to a former program. Two of those are not a pair.
	before bool
	// careless reports that it removes old events that may come again, and skips locked ones, so that no outcome is wrong.
	careless bool
	// regrows reports that its stream has lost its end, and has other events afterwards.
	regrows bool
	// skips reports that it lets lanes skip events on purpose.
	skips bool
	// mayDeadlock is the reason why it may deadlock with another operation. The victim tries again.
	mayDeadlock string
	// prelude reports that the operation itself closes its gate, at the first step that matters.
	prelude bool

	// refuses lists answers that the operation may give although no serial order does, with the reason. It must not have changed anything then.
	refuses map[string]string
	// guesses lists answers that may differ from those of the serial order with the same outcome, with the reason.
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

// slow reports whether a call gave up because the machine is slow. Such an outcome is not compared.
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
