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
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

const (
	ttl       = 3 * time.Second
	retention = 30 * time.Second
	healable  = 10 * time.Second // largest age of a message that the stream may lose; much less than the retention

	poison = `{"this is": "larger than the broker takes"}`
	limit  = 10
)

// step is one action on the harness. A, B and C choose its object and size.
type step struct {
	Do      string
	A, B, C int
}

// schedule is the list of actions in one run. A run has either losses of the stream or foreign messages. If a stream that lost messages
// uses their sequences again, the relay is safe only if nobody else writes into the stream (docs/engine.md, limits).
type schedule struct {
	Foreign     bool
	Remakes     bool // the stream may be deleted
	RedrivesAll bool // in the end the broker accepts every event, and all parked events are redriven
	Steps       []step
}

var actions = []string{
	"write", "write", "write", "write", "open", "commit", "rollback", "pass", "pass", "pass", "start", "start", "start",
	"crash", "stop", "stall", "disturb", "clock", "fault", "fault", "fault", "fault", "fault", "fault", "fault", "fault",
	"fault", "poison", "poison", "widen", "redrive", "redrive", "redrive", "discard", "former", "narrow", "misdirect", "remake",
	"adopt", "adopt", "mislead",
}

var methods = []string{
	"After", "Verify", "Load", "Save", "Save", "Open", "At", "At", "Look", "Publish", "Publish", "Acquire", "Renew", "Resign", "Announce", "Probe",
	"Reconcile", "Reconcile", "SetAside", "Due", "Refuse", "Refuse", "Refuse", "Refuse", "Refuse", "Redrive", "Redrive", "Redrive",
	"PublishControl", "PublishControl",
	"SetAside", "Due", "Purge", "Purge", "Purge", "Purge", "Purge", "Purge", "Purge", "Purge",
}

var schedules = schedulesOf(actions)

func schedulesOf(deeds []string) *rapid.Generator[schedule] {
	return rapid.Custom(func(t *rapid.T) schedule {
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				Do: deeds[uniform(t, "do")%len(deeds)],
				A:  uniform(t, "a"), B: uniform(t, "b"), C: uniform(t, "c"),
			}
		}), 20, 100).Draw(t, "steps")
		return schedule{
			Foreign: rapid.Bool().Draw(t, "foreign"), Remakes: uniform(t, "remakes")%4 == 0 || slices.Contains(deeds, "slow"),
			RedrivesAll: rapid.Bool().Draw(t, "redrives all"), Steps: steps,
		}
	})
}

// uniform draws a number below 1000. It undoes rapid's preference for small numbers, with which most actions would be rare.
func uniform(t *rapid.T, label string) int {
	return int(rapid.Uint32().Draw(t, label) * 2654435769 >> 12 % 1000)
}

// harness is a database and a broker in memory, and the instances between them.
type harness struct {
	log          *memory.Log
	reader       relay.Log // the log as relays read it
	lease        *memory.Lease
	presence     *memory.LivenessBroker
	stream       *memory.Stream
	publisher    relay.Publisher
	cursors      *memory.CursorStore
	parking      *memory.Parking
	halts        *memory.Halts
	streamRepair relay.StreamRepair            // the stream as operators repair it
	relayRepair  func() operations.RelayRepair // the database as operators repair it
	elsewhere    *memory.Stream                // the stream of another broker
	delivered    map[string]bool               // events of a stream that was deleted later
	alive        []*instance                   // the instances that run
	leaseless    bool                          // every instance believes that it leads
	keepsLease   bool                          // a halted relay does not resign
	breakPorts   func(*relaying.Ports)         // breaks the ports of each instance; nil: no port is broken
	logger       *slog.Logger
	running      sync.WaitGroup

	versions  map[string]int64
	open      []transaction
	events    int
	started   int
	discarded map[string]bool // events that operators have discarded

	mu         sync.Mutex
	hits       map[string]int // how often each action and each fault has happened
	complaints []string       // errors that must not happen
}

// transaction is an open transaction, which locks its aggregate.
type transaction struct {
	writer    *memory.Writer
	aggregate string
	before    int64
}

func newHarness() *harness {
	h := &harness{
		log: memory.NewLog(), lease: memory.NewLease(ttl), presence: memory.NewPresence(), stream: memory.NewStream(),
		logger: slog.New(slog.DiscardHandler), versions: make(map[string]int64), hits: make(map[string]int), discarded: make(map[string]bool),
	}
	h.cursors = memory.NewCursorStore(h.lease, h.log)
	h.parking, h.halts = memory.NewParking(h.cursors), memory.NewHalts()
	h.publisher, h.reader, h.streamRepair = h.stream, h.log, h.stream
	h.relayRepair = func() operations.RelayRepair { return h.cursors }
	h.elsewhere, h.delivered = memory.NewOtherStream(), make(map[string]bool)
	h.stream.LimitPayload(limit)
	return h
}

// hit counts an action or a fault.
func (h *harness) hit(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hits[what]++
}

func (h *harness) times(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hits[what]
}

// instances returns the instances that run.
func (h *harness) instances() []*instance {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.alive)
}

func (h *harness) join(i *instance) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alive = append(h.alive, i)
}

func (h *harness) leave(i *instance) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alive = slices.DeleteFunc(h.alive, func(other *instance) bool { return other == i })
}

// complain records an error that must not happen.
func (h *harness) complain(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.complaints = append(h.complaints, fmt.Sprintf(format, args...))
}

// begin opens a transaction that appends count events to an aggregate. It returns false if another transaction has locked the aggregate.
func (h *harness) begin(choice, count int) (transaction, bool) {
	return h.beginWith(choice, count, `{}`)
}

func (h *harness) beginWith(choice, count int, payload string) (transaction, bool) {
	aggregate := fmt.Sprintf("thing-%d", choice%5)
	if slices.ContainsFunc(h.open, func(t transaction) bool { return t.aggregate == aggregate }) {
		return transaction{}, false
	}
	t := transaction{writer: h.log.Begin(), aggregate: aggregate, before: h.versions[aggregate]}
	for range count {
		h.versions[aggregate]++
		h.events++
		message := outbox.Message{
			ID: fmt.Sprintf("event-%d", h.events), Type: "test.v1", Subject: "things.happened",
			Key: outbox.Key{Type: "thing", ID: aggregate}, Version: h.versions[aggregate], Payload: []byte(payload),
		}
		if err := t.writer.Append(h.context(), message); err != nil {
			h.complain("append: %v", err)
		}
	}
	return t, true
}

func (h *harness) end(t transaction, commit bool) {
	if !commit {
		t.writer.Rollback()
		h.versions[t.aggregate] = t.before
		return
	}
	if err := t.writer.Commit(); err != nil {
		h.complain("commit: %v", err)
	}
}

func (h *harness) wakeSome(choice int) {
	for i, instance := range h.instances() {
		if choice>>i&1 == 0 { // some notifications are lost
			instance.notifier.Notify()
		}
	}
}

// runSchedule carries out the schedule on a new harness, lets the relay recover, and checks the result. It returns the checks that
// failed, each with its reason, and how often each action and each fault has happened. change prepares the harness.
func runSchedule(t *testing.T, p schedule, change func(*harness)) (failed map[string]string, hits map[string]int) {
	h := newHarness()
	if change != nil {
		change(h)
	}
	synctest.Test(t, func(*testing.T) {
		h.do(step{Do: "start"}, p)
		h.do(step{Do: "start"}, p)
		for _, s := range p.Steps {
			h.do(s, p)
		}
		for _, t := range h.open {
			h.end(t, true)
		}
		for _, instance := range h.alive {
			instance.clearFaults()
		}
		last := h.start("last")
		time.Sleep(30 * time.Second)
		h.adoptUntilHealthy()
		if p.RedrivesAll {
			h.stream.LimitPayload(1 << 20)
			h.redrive(1)
		}
		time.Sleep(75 * time.Second)
		status := last.relay.Status()
		for _, instance := range append(h.alive, last) {
			if instance.relay.Status().Heals > 0 {
				h.hit("healed")
			}
			instance.cancel()
		}
		h.running.Wait()
		failed = h.check(status.Halt, p.RedrivesAll)
	})
	return failed, maps.Clone(h.hits)
}
