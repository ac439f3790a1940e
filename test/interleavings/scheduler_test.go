package interleavings_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
)

// side is one of the two operations of an interleaving. Its operation runs in a goroutine of its own and waits at the gate
// before each step.
type side struct {
	index   int
	harness *harness
	db      *bun.DB // gated
	pid     uint32  // of its only backend
	events  chan event
	let     chan struct{}
	free    atomic.Bool // steps do not wait

	victim atomic.Bool     // of a deadlock, in the present try
	gate   sync.Mutex      // a relay may save its cursor while it reads; one of these steps passes at a time
	mu     sync.Mutex      // guards the following
	tables map[string]bool // the tables that its statements named, and "stream"
	sent   []string        // statements since it was last emptied
}

// event is a side's message to the scheduler: it is at its gate, or its operation has ended.
type event struct {
	side   int
	next   step
	ended  bool
	answer answer
}

// step waits until the scheduler lets the side continue.
func (s *side) step(what string, kind stepKind, tables ...string) {
	if s.free.Load() {
		return
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	s.events <- event{side: s.index, next: step{what, kind, tables}}
	<-s.let
}

var tableNames = regexp.MustCompile(`\b(orders|outbox|leases|outbox_cursor|outbox_parked|inbox|dead_letters|subscribers|subscriber_types|subscriber_lanes|subscriber_marks|subscriber_copies|customer_totals|request_keys|idempotency_keys|stream)\b`)

// touches records a statement, and returns the tables that it names.
func (s *side) touches(statement string) []string {
	named := tableNames.FindAllString(statement, -1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, statement)
	for _, name := range named {
		s.tables[name] = true
	}
	return named
}

type phase int

const (
	running phase = iota // on its way to its next gate
	atGate
	waiting // for a lock that the other side holds
	ended
)

const (
	pollEvery   = time.Millisecond
	stepTimeout = 20 * time.Second
	mostSteps   = 300
	mostTries   = 5 // of an operation that deadlocks, or of a run on a slow machine
)

// history records one interleaving.
type history struct {
	steps     []string
	blocked   int
	deadlocks int
	answers   [2]answer
}

// String shows the history, one step a line.
func (hist *history) String() string { return strings.Join(hist.steps, "\n") }

// chooser picks the side that continues, or the victim of a deadlock.
type chooser interface {
	choose(options []int, next [2]step) int
	again() // begins the run again; an explorer then repeats its choices
}

// interleaving is one run of two operations.
type interleaving struct {
	sides  [2]*side
	phase  [2]phase
	next   [2]step // the next step of each side at its gate
	waits  func(ctx context.Context, who, whom uint32) (bool, error)
	cancel func(ctx context.Context, pid uint32) error
	history
}

// run runs the operations in the order that choose picks. It skips a missing operation.
func (r *interleaving) run(ctx context.Context, both [2]*operation, choose chooser) error {
	r.phase = [2]phase{ended, ended}
	for i, o := range both {
		if o != nil {
			r.start(ctx, i, o)
			if err := r.settle(ctx, i); err != nil {
				return err
			}
		}
	}
	for {
		options, deadlocked := r.options()
		if len(options) == 0 {
			if r.phase != [2]phase{ended, ended} {
				return fmt.Errorf("a side waits for a lock that nobody holds:\n%s", &r.history)
			}
			return nil
		}
		if len(r.steps) > mostSteps {
			return fmt.Errorf("no end after %d steps:\n%s", mostSteps, &r.history)
		}
		next := choose.choose(options, r.next)
		if deadlocked {
			if err := r.end(ctx, next); err != nil {
				return err
			}
		} else {
			r.steps = append(r.steps, r.name(next)+": "+short(r.next[next].what))
			r.phase[next] = running
			r.sides[next].let <- struct{}{}
		}
		if err := r.settle(ctx, next); err != nil {
			return err
		}
	}
}

// start begins an operation. It tries the victim of a deadlock again, as the caller would do.
func (r *interleaving) start(ctx context.Context, i int, o *operation) {
	s := r.sides[i]
	s.free.Store(o.prelude)
	r.phase[i] = running
	go func() {
		var result answer
		for range mostTries {
			s.victim.Store(false)
			result = o.answer(ctx, s)
			if !s.victim.Load() || !errors.Is(result.err, postgres.ErrUnavailable) {
				break
			}
			s.step("try again", unknown)
		}
		s.events <- event{side: i, ended: true, answer: result}
	}()
}

// options returns the sides that can continue; in a deadlock, the possible victims.
func (r *interleaving) options() (options []int, deadlocked bool) {
	for i, p := range r.phase {
		if p == atGate {
			options = append(options, i)
		}
	}
	if len(options) == 0 && r.phase == [2]phase{waiting, waiting} {
		return []int{0, 1}, true
	}
	return options, false
}

// end makes one side the victim of a deadlock.
func (r *interleaving) end(ctx context.Context, victim int) error {
	s := r.sides[victim]
	r.deadlocks++
	r.steps = append(r.steps, r.name(victim)+": is cancelled as the victim of a deadlock")
	s.victim.Store(true)
	r.phase[victim] = running
	return r.cancel(ctx, s.pid)
}

// settle returns when the side that continued is at its next gate, waits for a lock or has ended. If the other side waited for a lock, settle
// also checks the other side again, because the lock may be free now.
func (r *interleaving) settle(ctx context.Context, went int) error {
	if err := r.await(ctx, went); err != nil {
		return err
	}
	if r.phase[went] == waiting {
		r.blocked++
		r.steps = append(r.steps, r.name(went)+": waits for a lock of the other one")
	}
	if other := 1 - went; r.phase[other] == waiting {
		r.phase[other] = running
		return r.await(ctx, other)
	}
	return nil
}

func (r *interleaving) await(ctx context.Context, i int) error {
	pause := pollEvery
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for began := time.Now(); r.phase[i] == running; {
		select {
		case e := <-r.sides[i].events:
			if err := r.note(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			stuck, err := r.waits(ctx, r.sides[i].pid, r.sides[1-i].pid)
			switch {
			case err != nil:
				return err
			case stuck && !r.sides[i].victim.Load(): // a victim is about to end
				r.phase[i] = waiting
			case time.Since(began) > stepTimeout:
				return fmt.Errorf("side %s neither ends nor comes to its next step:\n%s", r.name(i), &r.history)
			}
			pause = min(2*pause, 16*pollEvery)
			timer.Reset(pause)
		}
	}
	return nil
}

func (r *interleaving) note(e event) error {
	if r.phase[e.side] == atGate || r.phase[e.side] == ended {
		return fmt.Errorf("side %s makes two steps at a time: %s and %s", r.name(e.side), r.next[e.side].what, e.next.what)
	}
	if e.ended {
		r.phase[e.side], r.answers[e.side] = ended, e.answer
		return nil
	}
	r.phase[e.side], r.next[e.side] = atGate, e.next
	return nil
}

func (*interleaving) name(i int) string { return string(rune('A' + i)) }

// short returns a statement in one line, cut if it is long.
func short(statement string) string {
	text := strings.Join(strings.Fields(statement), " ")
	if len(text) > 150 {
		text = text[:150] + "…"
	}
	return text
}
