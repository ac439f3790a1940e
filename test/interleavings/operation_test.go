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
	// methods are the methods of ports that the operation covers, for example "relay.Parking.Reconcile".
	methods []string
	do      func(ctx context.Context, s *side) (string, error)
	in      *state // the state in which it begins; nil: normal

	// fenced reports that success raises the cursor's revision by one.
	fenced bool
	// relay reports that the operation is a whole relay, or replaces one. Its outcome is not compared, because each take-over writes another
	// cursor. Instead, further relays have to finish the work.
	relay bool
	// otherStream reports that the operation assumes a stream other than that of its state. No whole relay runs beside it, because whole relays
	// use the state's stream.
	otherStream bool
	// former reports that the operation belongs to a former program. Two operations of former programs are not a pair.
	former bool
	// formerSweep reports that the operation forgets old events that may come again, and skips locked rows. Its outcomes are not compared.
	formerSweep bool
	// overtaken is the reason why the operation may miss a row that another transaction commits meanwhile. Its outcomes in states of a
	// subscriber are not compared.
	overtaken string
	// regrows reports that the stream of the operation has lost its end, and then got other events there.
	regrows bool
	// skips reports that the operation lets lanes skip events on purpose.
	skips bool
	// mayDeadlock is the reason why the operation may deadlock with another one. The victim tries again.
	mayDeadlock string
	// prelude reports that the operation itself closes its gate, at the first step that matters.
	prelude bool

	// refuses lists answers that the operation may give although no serial order does, with the reason. With such an answer the operation must
	// not have changed anything.
	refuses map[string]string
	// guesses lists answers that may differ from those of the serial order with the same outcome, with the reason.
	guesses map[string]string
}

func refusing(o *operation, answers map[string]string) *operation {
	o.refuses = answers
	return o
}

func deadlocking(o *operation, reason string) *operation {
	o.mayDeadlock = reason
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

// code returns "ok", or the code of the error.
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

// String returns the whole answer as text, for comparisons.
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

// allOperations are all operations. Any two operations of one state are a pair, and so is each operation with itself.
var allOperations = slices.Concat(orderOperations, relayOperations, laneOperations, letterOperations, operatorOperations, formerOperations, wholeRelays)

func named(name string) *operation {
	for _, o := range slices.Concat(allOperations, plantedOperations) {
		if o.name == name {
			return o
		}
	}
	panic("there is no operation " + name)
}
