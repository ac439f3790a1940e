package interleavings_test

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// pair is two operations that run at the same time.
type pair struct {
	operations [2]*operation
	serial     []string  // the outcomes of the two serial orders
	drained    []string  // the same, after a copy of the subscriber has continued; filled only when needed
	alone      [2]string // the outcome of each operation alone; set only if the other one may refuse
	merges     int64     // how many interleavings there are if no step waits for a lock
	disjoint   bool      // the two use no table, and no stream, in common
}

// String names the pair as the list of known failures does.
func (p *pair) String() string { return p.operations[0].name + " | " + p.operations[1].name }

func (p *pair) formerSweep() bool { return p.operations[0].formerSweep || p.operations[1].formerSweep }

func (p *pair) relay() bool { return p.operations[0].relay || p.operations[1].relay }

// profile describes an operation that runs alone.
type profile struct {
	steps  int
	tables map[string]bool
	code   string
}

// profiles runs each operation alone.
func profiles(ctx context.Context, h *harness, all []*operation) (map[*operation]profile, error) {
	found := make(map[*operation]profile)
	for _, o := range all {
		h.sides[0].tables = make(map[string]bool)
		hist, err := h.interleave(ctx, o.state(), [2]*operation{o, nil}, serialChooser(0))
		if err != nil {
			return nil, fmt.Errorf("%s alone: %w", o.name, err)
		}
		found[o] = profile{len(hist.steps), h.sides[0].tables, hist.answers[0].code()}
	}
	return found, nil
}

// pairs returns each two operations that begin in the same state, and each operation with itself.
func pairs(all []*operation, known map[*operation]profile) (found []*pair) {
	for i, a := range all {
		for _, b := range all[i:] {
			apart := a.otherStream && b.relay || b.otherStream && a.relay || a.former && b.former
			if a.state().name == b.state().name && !apart {
				found = append(found, newPair(a, b, known))
			}
		}
	}
	return found
}

func newPair(a, b *operation, known map[*operation]profile) *pair {
	p := &pair{operations: [2]*operation{a, b}, disjoint: true}
	m, n := int64(known[a].steps), int64(known[b].steps)
	p.merges = new(big.Int).Binomial(m+n, n).Int64()
	for table := range known[a].tables {
		p.disjoint = p.disjoint && !known[b].tables[table]
	}
	return p
}

// prepare runs the serial orders and keeps their outcomes.
func (p *pair) prepare(ctx context.Context, h *harness) error {
	if p.relay() {
		return nil
	}
	for i := range 2 {
		hist, outcome, err := p.run(ctx, h, p.operations, serialChooser(i))
		if err != nil {
			return err
		}
		p.serial = append(p.serial, answered(hist.answers, outcome))
	}
	for i, o := range p.operations {
		if o.refuses == nil {
			continue
		}
		if err := p.runAlone(ctx, h, i); err != nil {
			return err
		}
	}
	return nil
}

// runAlone runs the operation of the other side alone and keeps its outcome. This outcome is the same in each pair.
func (p *pair) runAlone(ctx context.Context, h *harness, side int) error {
	others := p.operations
	others[side] = nil
	if outcome, known := h.alone[others]; known {
		p.alone[1-side] = outcome
		return nil
	}
	hist, err := h.interleave(ctx, p.operations[0].state(), others, serialChooser(1-side))
	if err != nil {
		return err
	}
	rows, err := h.rows(ctx)
	p.alone[1-side] = answered(hist.answers, h.outcome(rows))
	h.alone[others] = p.alone[1-side]
	return err
}

// drain lets a copy of the subscriber continue after each serial order, and keeps the outcomes.
func (p *pair) drain(ctx context.Context, h *harness) error {
	for i := 0; len(p.drained) < 2; i++ {
		hist, err := h.interleave(ctx, p.operations[0].state(), p.operations, serialChooser(i))
		if err != nil {
			return err
		}
		if err := h.drain(ctx); err != nil {
			return err
		}
		rows, err := h.rows(ctx)
		if err != nil {
			return err
		}
		p.drained = append(p.drained, answered(heldAsApplied(hist.answers), h.outcome(rows)))
	}
	return nil
}

func (p *pair) run(ctx context.Context, h *harness, both [2]*operation, choose chooser) (*history, string, error) {
	hist, err := h.interleave(ctx, p.operations[0].state(), both, choose)
	if err != nil {
		return nil, "", err
	}
	rows, err := h.rows(ctx)
	return hist, h.outcome(rows), err
}

// isSerial reports whether an outcome is that of a serial order. If one side refused, it must be that of the other side alone.
func (p *pair) isSerial(answers [2]answer, outcome string) bool {
	here := answered(answers, outcome)
	for i, o := range p.operations {
		if o.refuses[answers[i].String()] != "" && without(i, here) == without(i, p.alone[1-i]) {
			return true
		}
	}
	return p.isOf(p.serial, answers, outcome)
}

// isOf reports whether an outcome is one of the serial ones, where answers may differ if an operation guesses.
func (p *pair) isOf(serial []string, answers [2]answer, outcome string) bool {
	here := answered(answers, outcome)
	return slices.ContainsFunc(serial, func(expected string) bool {
		compared := here
		for i, o := range p.operations {
			if o.guesses[answers[i].String()] != "" {
				compared, expected = without(i, compared), without(i, expected)
			}
		}
		return compared == expected
	})
}

func answered(answers [2]answer, outcome string) string {
	return fmt.Sprintf("A: %s\nB: %s\n%s", answers[0], answers[1], outcome)
}

// without removes the answer of one side.
func without(i int, text string) string {
	lines := strings.SplitN(text, "\n", 3)
	lines[i] = ""
	return strings.Join(lines, "\n")
}
