package interleavings_test

import (
	"math/rand/v2"
	"slices"
)

// step is the next action of a side. Between two steps nothing happens that the other side could notice.
type step struct {
	what   string
	kind   stepKind
	tables []string // the tables that the step names; for a commit, all tables of its transaction
}

type stepKind int

const (
	unknown stepKind = iota
	read             // it sees what is committed, and locks nothing
	write            // it locks rows, and others see its changes only after the commit
	commit           // a commit or rollback: others see the result, and can take the locks
	visible          // a call to the stream: others see its effect at once
)

// independent reports whether the order of two steps of different sides makes no difference.
func independent(a, b step) bool {
	if a.kind == unknown || b.kind == unknown {
		return false
	}
	common := slices.ContainsFunc(a.tables, func(table string) bool { return slices.Contains(b.tables, table) })
	switch {
	case !common, a.kind == commit && b.kind == commit:
		return true
	case a.kind == read:
		return b.kind == read || b.kind == write
	case b.kind == read:
		return a.kind == write
	}
	return false
}

// serialChooser always lets the same side continue as long as it can: that gives the serial orders.
type serialChooser int

func (f serialChooser) choose(options []int, _ [2]step) int {
	for _, option := range options {
		if option == int(f) {
			return option
		}
	}
	return options[0]
}

func (serialChooser) again() {}

// randomChooser picks sides so that each merge of steps is about as likely, given how many steps each side takes alone.
type randomChooser struct {
	rng  *rand.Rand
	left [2]int
}

func (r *randomChooser) choose(options []int, _ [2]step) int {
	next := options[0]
	if len(options) > 1 {
		a, b := max(r.left[0], 1), max(r.left[1], 1)
		next = 0
		if r.rng.IntN(a+b) >= a {
			next = 1
		}
	}
	r.left[next]--
	return next
}

func (*randomChooser) again() {} // a repeated run may choose otherwise

// explorer runs every schedule. Each schedule repeats the one before up to the last choice with an untried option, and takes that option.
//
// If reduced, explorer runs only one of the schedules that differ only in the order of independent steps. It uses sleep sets, as Godefroid
// describes them. If a choice takes its second option, the step of the first option sleeps, because schedules that begin with it were run
// before. A sleeping step wakes when a step runs that is not independent of it. If only sleeping steps can continue, the schedule is redundant.
type explorer struct {
	reduced bool

	path      []int // what was taken at each choice: the first or the second option
	depth     int
	asleep    [2]bool
	redundant bool
}

func (e *explorer) choose(options []int, next [2]step) int {
	awake := slices.DeleteFunc(slices.Clone(options), func(side int) bool { return e.asleep[side] })
	if len(awake) == 0 {
		e.redundant = true
	}
	if e.redundant {
		return options[0]
	}
	taken := 0
	if len(awake) > 1 {
		if e.depth == len(e.path) {
			e.path = append(e.path, 0)
		}
		taken = e.path[e.depth]
		e.depth++
	}
	went := awake[taken]
	other := 1 - went
	sleepy := e.asleep[other] || taken == 1
	e.asleep = [2]bool{}
	e.asleep[other] = e.reduced && sleepy && independent(next[0], next[1])
	return went
}

// next prepares the next schedule, and reports whether there is one.
func (e *explorer) next() bool {
	e.path = e.path[:e.depth]
	for len(e.path) > 0 && e.path[len(e.path)-1] == 1 {
		e.path = e.path[:len(e.path)-1]
	}
	e.again()
	if len(e.path) == 0 {
		return false
	}
	e.path[len(e.path)-1] = 1
	return true
}

func (e *explorer) again() { e.depth, e.asleep, e.redundant = 0, [2]bool{}, false }

// sequence returns the side that made each step, one letter a step.
func (hist *history) sequence() string {
	var sides []byte
	for _, step := range hist.steps {
		sides = append(sides, step[0])
	}
	return string(sides)
}
