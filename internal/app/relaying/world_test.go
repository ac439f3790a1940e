package relaying_test

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

const (
	ttl       = 3 * time.Second
	retention = 30 * time.Second
	healable  = 10 * time.Second // what the stream may lose: well within the retention

	poison = `{"this is": "larger than the broker takes"}`
	limit  = 10
)

// step is one thing that happens in the world; a, b and c choose what to.
type step struct {
	Do      string
	A, B, C int
}

// plan is a life of the world. Regress and foreign messages do not occur in one life: sequences that are reused after a
// regress protect only a stream that nobody else writes into (docs/engine.md, limits).
type plan struct {
	Foreign  bool
	Remakes  bool // the stream may be deleted; in other lives there is more of everything else
	Forgives bool // in the end the broker takes every event, and what is parked is redriven
	Steps    []step
}

var deeds = []string{
	"write", "write", "write", "write", "open", "commit", "rollback", "pass", "pass", "pass", "start", "start", "start",
	"crash", "stop", "stall", "misfortune", "clock", "mishap", "mishap", "mishap", "mishap", "mishap", "mishap", "mishap", "mishap",
	"mishap", "poison", "poison", "widen", "redrive", "redrive", "redrive", "discard", "former", "narrow", "misdirect", "remake",
	"adopt", "adopt", "mislead",
}

var methods = []string{
	"After", "Verify", "Load", "Save", "Save", "Open", "At", "At", "Look", "Publish", "Publish", "Acquire", "Renew", "Resign", "Announce", "Probe",
	"Settle", "Settle", "SetAside", "Due", "Refuse", "Refuse", "Refuse", "Refuse", "Refuse", "Redrive", "Redrive", "Redrive", "Notify", "Notify",
	"SetAside", "Due", "Purge", "Purge", "Purge", "Purge", "Purge", "Purge", "Purge", "Purge",
}

var plans = plansOf(deeds)

func plansOf(deeds []string) *rapid.Generator[plan] {
	return rapid.Custom(func(t *rapid.T) plan {
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				Do: deeds[even(t, "do")%len(deeds)],
				A:  even(t, "a"), B: even(t, "b"), C: even(t, "c"),
			}
		}), 20, 100).Draw(t, "steps")
		return plan{
			Foreign: rapid.Bool().Draw(t, "foreign"), Remakes: even(t, "remakes")%4 == 0 || slices.Contains(deeds, "slow"),
			Forgives: rapid.Bool().Draw(t, "forgives"), Steps: steps,
		}
	})
}

// even draws a number below 1000 without rapid's preference for small ones, which would starve most kinds of step.
func even(t *rapid.T, label string) int {
	return int(rapid.Uint32().Draw(t, label) * 2654435769 >> 12 % 1000)
}

// world is a database, a broker and the instances between them.
type world struct {
	log        *memory.Log
	reader     relay.Log // log as relays read it
	lease      *memory.Lease
	presence   *memory.Presence
	stream     *memory.Stream
	publisher  relay.Publisher
	cursors    *memory.CursorStore
	parking    *memory.Parking
	halts      *memory.Halts
	repair     relay.StreamRepair            // the stream as operators repair it
	bench      func() operations.RelayRepair // where they do
	elsewhere  *memory.Stream                // of another broker
	former     map[string]bool               // events that were in a stream that was deleted
	alive      []*instance
	leaseless  bool
	keepsLease bool // a halted relay does not give the lease back
	logger     *slog.Logger
	running    sync.WaitGroup

	versions map[string]int64
	open     []transaction
	events   int
	started  int
	given    map[string]bool // up by operators

	mu         sync.Mutex
	hits       map[string]int
	complaints []string
}

// transaction is an open one; it holds the lock on its aggregate.
type transaction struct {
	writer    *memory.Writer
	aggregate string
	before    int64
}

func newWorld() *world {
	w := &world{
		log: memory.NewLog(), lease: memory.NewLease(ttl), presence: memory.NewPresence(), stream: memory.NewStream(),
		logger: slog.New(slog.DiscardHandler), versions: make(map[string]int64), hits: make(map[string]int), given: make(map[string]bool),
	}
	w.cursors = memory.NewCursorStore(w.lease, w.log)
	w.parking, w.halts = memory.NewParking(w.cursors), memory.NewHalts()
	w.publisher, w.reader, w.repair = w.stream, w.log, w.stream
	w.bench = func() operations.RelayRepair { return w.cursors }
	w.elsewhere, w.former = memory.NewOtherStream(), make(map[string]bool)
	w.stream.LimitPayload(limit)
	return w
}

func (w *world) hit(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hits[what]++
}

func (w *world) times(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hits[what]
}

// everyone is the instances that were started and not ended.
func (w *world) everyone() []*instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.alive)
}

func (w *world) join(i *instance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive = append(w.alive, i)
}

func (w *world) leave(i *instance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive = slices.DeleteFunc(w.alive, func(other *instance) bool { return other == i })
}

func (w *world) report(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.complaints = append(w.complaints, fmt.Sprintf(format, args...))
}

// begin opens a transaction that appends count events to an aggregate which no other one has locked.
func (w *world) begin(choice, count int) (transaction, bool) { return w.beginWith(choice, count, `{}`) }

func (w *world) beginWith(choice, count int, payload string) (transaction, bool) {
	aggregate := fmt.Sprintf("order-%d", choice%5)
	if slices.ContainsFunc(w.open, func(t transaction) bool { return t.aggregate == aggregate }) {
		return transaction{}, false
	}
	t := transaction{writer: w.log.Begin(), aggregate: aggregate, before: w.versions[aggregate]}
	for range count {
		w.versions[aggregate]++
		w.events++
		message := outbox.Message{
			ID: fmt.Sprintf("event-%d", w.events), Type: "test.v1", Subject: "orders.created",
			Key: outbox.Key{Type: "order", ID: aggregate}, Version: w.versions[aggregate], Payload: []byte(payload),
		}
		if err := t.writer.Append(w.context(), message); err != nil {
			w.report("append: %v", err)
		}
	}
	return t, true
}

func (w *world) end(t transaction, commit bool) {
	if !commit {
		t.writer.Rollback()
		w.versions[t.aggregate] = t.before
		return
	}
	if err := t.writer.Commit(); err != nil {
		w.report("commit: %v", err)
	}
}

func (w *world) wakeSome(choice int) {
	for i, instance := range w.everyone() {
		if choice>>i&1 == 0 { // some wake-ups are lost
			instance.bell.Notify()
		}
	}
}

// do carries out one step.
func (w *world) do(s step, p plan) {
	w.hit("do " + s.Do)
	switch s.Do {
	case "write":
		if t, ok := w.begin(s.A, 1+s.B%6); ok {
			w.end(t, s.C%8 != 0)
			w.wakeSome(s.C)
		}
	case "open":
		if t, ok := w.begin(s.A, 1+s.B%3); ok {
			w.open = append(w.open, t)
		}
	case "commit", "rollback":
		if len(w.open) > 0 {
			i := s.A % len(w.open)
			w.end(w.open[i], s.Do == "commit")
			w.open = slices.Delete(w.open, i, i+1)
			w.wakeSome(s.C)
		}
	case "poison":
		if t, ok := w.beginWith(s.A, 1, poison); ok {
			w.end(t, true)
			w.wakeSome(s.C)
		}
	case "widen":
		w.stream.LimitPayload([]int{limit, 1 << 20}[s.A%2])
	case "narrow":
		if len(w.alive) > 0 {
			w.alive[s.A%len(w.alive)].narrow([]int{limit, limit, 0}[s.B%3])
		}
	case "remake":
		if p.Remakes {
			w.remake(s.A)
		}
	case "misdirect":
		w.misdirect()
	case "adopt":
		w.patiently(s)
	case "redrive":
		w.redrive(s.A)
	case "discard":
		w.discard(s.A)
	case "pass":
		time.Sleep(time.Duration(1<<(s.A%13)) * time.Millisecond)
	case "wait":
		time.Sleep(ttl / 2)
	case "start":
		if len(w.alive) < 3 {
			w.started++
			w.join(w.start(fmt.Sprintf("instance-%d", w.started)))
		}
	case "crash", "stop":
		if len(w.alive) > 0 {
			chosen := w.alive[s.A%len(w.alive)]
			if s.Do == "crash" {
				chosen.crash()
			} else {
				chosen.cancel()
			}
			w.leave(chosen)
		}
	case "stall":
		if len(w.alive) > 0 {
			w.alive[s.A%len(w.alive)].stall(time.Duration(s.B*12) * time.Millisecond)
		}
	case "mishap": // to whoever calls next: most methods are the leader's
		for _, each := range w.alive {
			each.plan(methods[s.B%len(methods)], planned{
				mishap: mishap(1 + s.C%int(mishaps-1)), delay: time.Duration(1<<(s.A%13)) * time.Millisecond,
			})
		}
	case "settle late":
		if len(w.alive) > 0 {
			late := []mishap{arriveLate, stallBefore}[s.C%2]
			w.alive[s.A%len(w.alive)].plan("Settle", planned{mishap: late, delay: time.Duration(1<<(s.B%14)) * time.Millisecond})
		}
	case "redrive late":
		if len(w.alive) > 0 {
			chosen := w.alive[s.C%len(w.alive)]
			chosen.plan("Redrive", planned{mishap: stallBefore, delay: ttl + time.Duration(s.B*8)*time.Millisecond})
			w.redrive(s.A)
		}
	case "late", "slow":
		for _, each := range w.alive {
			method := []string{"Publish", "Publish", "Redrive"}[s.C%3]
			each.plan(method, planned{
				mishap: map[string]mishap{"late": stallBefore, "slow": stallAfter}[s.Do], delay: time.Duration(1<<(s.B%15)) * time.Millisecond,
			})
		}
	case "former":
		if len(w.alive) > 0 {
			length := w.stream.Len()
			w.alive[s.A%len(w.alive)].askFormer(length-min(length, uint64(s.B%6)), time.Duration(1<<(s.C%14))*time.Millisecond)
		}
	case "mislead":
		if len(w.alive) > 0 {
			w.alive[s.A%len(w.alive)].mislead(s.B%4 != 0, time.Duration(1<<(s.C%14))*time.Millisecond)
		}
	case "misfortune":
		w.misfortune(s, p.Foreign)
	case "clock":
		w.lease.Advance(time.Duration(s.A*20-10_000) * time.Millisecond)
	}
	synctest.Wait()
}

func (w *world) misfortune(s step, foreign bool) {
	if length := w.stream.Len(); foreign {
		w.hit("foreign message")
		_, _ = w.stream.Open(w.context(), 1)
		w.stream.AppendForeign()
	} else if length > 0 {
		w.hit("stream regressed")
		w.stream.Regress(max(length-min(length, uint64(s.A%6)), w.stream.Before(time.Now().Add(-healable))))
		for _, each := range w.alive {
			each.broker.Disconnect()
			each.broker.Reconnect()
		}
	}
}

// live leads the world through the plan, then lets it heal, and judges it. It returns the names of the checks that
// failed, with what was wrong.
func live(t *testing.T, p plan, change func(*world)) (failed map[string]string, hits map[string]int) {
	w := newWorld()
	if change != nil {
		change(w)
	}
	synctest.Test(t, func(*testing.T) {
		w.do(step{Do: "start"}, p)
		w.do(step{Do: "start"}, p)
		for _, s := range p.Steps {
			w.do(s, p)
		}
		for _, t := range w.open {
			w.end(t, true)
		}
		for _, instance := range w.alive {
			instance.spare()
		}
		last := w.start("last")
		time.Sleep(30 * time.Second)
		w.settleDown()
		if p.Forgives {
			w.stream.LimitPayload(1 << 20)
			w.redrive(1)
		}
		time.Sleep(75 * time.Second)
		status := last.relay.Status()
		for _, instance := range append(w.alive, last) {
			if instance.relay.Status().Heals > 0 {
				w.hit("healed")
			}
			instance.cancel()
		}
		w.running.Wait()
		failed = w.judge(status.Halt, p.Forgives)
	})
	return failed, maps.Clone(w.hits)
}
