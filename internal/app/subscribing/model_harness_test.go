package subscribing_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

const (
	subscriber  = "billing"
	customer    = value.CustomerID("018f5e4c-0000-7000-8000-000000000001")
	runEvents   = 80
	aggregates  = 6
	idleTimeout = time.Second
)

// faults are the faults and changes that have to occur in some run.
var faults = []string{
	"started", "stopped", "killed", "frozen", "outage", "failed commit", "lost commit", "stalled step", "stalled handler",
	"stream lost its end", "stream remade", "event parked", "event redriven", "foreign message", "duplicate", "hole",
	"lagging read", "former leader's state", "late answer", "line cut", "accident", "handler's outage", "retried", "retried all",
	"retried a group", "discarded a group", "discarded", "dead", "no handler", "expired message", "forgotten", "late transaction",
	"limit", "filled from the log", "paused", "lanes changed", "rewound", "skipped", "ended for ever",
	"call hung", "call's answer lost", "call repeated",
}

// harness is a subscriber with its stream, its database and a relay, into which a run injects faults.
type harness struct {
	t      *testing.T
	stream *memory.Stream
	inbox  *memory.Inbox
	broken mutant
	lanes  int
	long   bool // more time goes by, so that the inbox is swept

	external bool // the handler calls something outside

	lateness int // chance in a thousand that a transaction is late

	log       []outbox.Entry
	cursor    outbox.Position            // how far the relay has come
	rows      *memory.Log                // the log as the inbox sees it
	cursors   *memory.CursorStore        // has the relay's cursor
	purged    outbox.Position            // retention has removed the log up to here
	refused   map[outbox.Position]bool   // events that the broker refuses, so the relay parks them
	parked    map[outbox.Position]bool   // events that wait in the parking lot
	redriven  map[outbox.Position]uint64 // sequence of each redriven event
	poison    map[outbox.Position]bool   // events that fail until healPoison
	discarded map[string]bool

	copies    []*process
	started   int
	continues bool   // copies pass lost messages
	violation string // an effect that an operator's decision had forbidden; empty: none
	running   sync.WaitGroup

	mu              sync.Mutex // guards the fields below, which the copies use too
	random          *rand.Rand
	faultsOff       bool // no more faults are injected; poisoned events still fail
	poisonHealed    bool
	calls           []externalCall
	stopsBeforeLoss bool // a lane has stopped before lost messages
	seen            map[string]int
	trace           []string // what happened
}

func newHarness(t *testing.T, seed uint64, broken mutant) *harness {
	t.Helper()
	h := &harness{
		t: t, stream: memory.NewStream(), inbox: memory.NewInbox(), broken: broken,
		refused: make(map[outbox.Position]bool), parked: make(map[outbox.Position]bool), redriven: make(map[outbox.Position]uint64),
		poison: make(map[outbox.Position]bool), discarded: make(map[string]bool), seen: make(map[string]int),
		random: rand.New(rand.NewPCG(seed, 11)), //nolint:gosec // repeatable
	}
	_, err := h.stream.Open(t.Context(), 1)
	require.NoError(t, err)
	require.NoError(t, h.inbox.Subscribe(t.Context(), subscriber, "test", []string{relaytest.EventType, newType}))
	h.lanes = []int{1, 3, 7}[seed%3]
	h.external = seed%5 == 4 || broken.external
	h.inbox.IdleTimeout, h.inbox.MarkEvery, h.inbox.OnStep = idleTimeout, 7, h.pause
	h.rows = memory.NewLog()
	h.cursors = memory.NewCursorStore(memory.NewLease(time.Minute), h.rows)
	h.inbox.UseLog(h.rows)
	if h.lateness = 10; seed%4 == 0 || broken.long {
		h.long, h.lateness = true, 60
	}
	h.log = relaytest.NewEntries(0, runEvents)
	versions := make(map[string]int64)
	for i := range h.log {
		key := fmt.Sprint("thing-", h.below(aggregates))
		versions[key]++
		h.log[i].Key.ID, h.log[i].Version = key, versions[key]
		if h.below(8) == 0 {
			h.log[i].Type = newType
		}
		h.refused[h.log[i].Position] = h.below(20) == 0
		writer := h.rows.Begin()
		require.NoError(t, writer.Append(t.Context(), h.log[i].Message))
		require.NoError(t, writer.Commit())
	}
	h.pointLogAtStream()
	for range 2 {
		h.poison[outbox.Position(1+h.below(runEvents))] = true
	}
	h.start()
	return h
}

func (h *harness) below(sides int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.random.IntN(sides)
}

// injects decides whether a fault occurs now, with a chance in a thousand, and counts it.
func (h *harness) injects(what string, chance int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.faultsOff || h.random.IntN(1000) >= chance {
		return false
	}
	h.seen[what]++
	if !strings.HasPrefix(what, "slow") && what != "deaf" {
		h.record(what)
	}
	return true
}

func (h *harness) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[what]++
	h.record(what)
}

// step makes one random change.
func (h *harness) step() {
	switch h.below(22) {
	case 0, 1:
		if len(h.copies) < 3 {
			h.start()
		}
	case 2:
		h.stop(false)
	case 3:
		h.stop(true)
	case 4:
		h.truncateStream()
	case 5:
		if h.below(5) == 0 {
			h.recreateStream()
		}
	case 6:
		h.note("outage")
		h.inbox.Disconnect()
		pass(time.Duration(h.below(2000)) * time.Millisecond)
		h.inbox.Reconnect()
	case 7:
		h.note([]string{"failed commit", "lost commit"}[h.below(2)])
		if h.below(2) == 0 {
			h.inbox.FailNextCommit()
		} else {
			h.inbox.LoseNextCommit()
		}
	case 8:
		h.note("foreign message")
		h.stream.AppendForeign()
		h.save()
	case 9:
		h.duplicateMessage()
	case 10:
		h.removeMessages()
		h.expire()
	case 11:
		h.redrive(1)
	case 12, 13:
		h.decideLetter()
	case 14:
		h.operate()
	case 15:
		if h.below(4) == 0 {
			h.forgetAnother()
		}
	default:
		h.publish(1 + h.below(12))
	}
}

// decideLetter is an operator who decides about a dead letter.
func (h *harness) decideLetter() {
	letters, _ := h.inbox.Letters(h.t.Context(), subscriber, 100)
	letters = slices.DeleteFunc(letters, func(l inbox.Letter) bool { return l.State != inbox.Dead })
	if len(letters) == 0 {
		return
	}
	h.note("dead")
	switch chosen := letters[h.below(len(letters))]; h.below(6) {
	case 0:
		h.discard(chosen)
	case 2:
		h.retryGroup(letters, chosen)
	case 3:
		h.discardGroup(letters, chosen)
	case 1:
		if _, err := inboxtest.RetryAll(h.t.Context(), h.inbox, subscriber); err == nil {
			h.note("retried all")
		}
	default:
		if h.inbox.Retry(h.t.Context(), subscriber, chosen.ID) == nil {
			h.note("retried")
		}
	}
}

func idsOfLetters(letters []inbox.Letter) (ids []string) {
	for _, letter := range letters {
		ids = append(ids, letter.ID)
	}
	return ids
}

// retryGroup retries all letters that failed for the same reason as one letter.
func (h *harness) retryGroup(letters []inbox.Letter, of inbox.Letter) {
	choice := operations.Choice{Group: fault.NewFingerprint(of.Error).ID}
	if n, err := h.inbox.RetryChosen(h.t.Context(), subscriber, idsOfLetters(letters), choice); err == nil && n > 0 {
		h.note("retried a group")
	}
}

// discardGroup discards letters of the same type that failed for the same reason as one letter.
func (h *harness) discardGroup(letters []inbox.Letter, of inbox.Letter) {
	letters = letters[:min(3, len(letters))]
	choice := operations.Choice{Group: fault.NewFingerprint(of.Error).ID, Type: of.Type}
	_, _ = h.inbox.DiscardChosen(h.t.Context(), subscriber, idsOfLetters(letters), choice)
	for _, letter := range letters {
		if found, _ := h.inbox.Letter(h.t.Context(), subscriber, letter.ID); found.State == inbox.Discarded {
			h.note("discarded a group")
			h.discarded[letter.ID] = true
		}
	}
}

func (h *harness) discard(letter inbox.Letter) {
	err := h.inbox.Discard(h.t.Context(), subscriber, letter.ID)
	found, _ := h.inbox.Letter(h.t.Context(), subscriber, letter.ID)
	if err == nil || found.State == inbox.Discarded {
		h.note("discarded")
		h.discarded[letter.ID] = true
	}
}

// endFaults ends all faults but the poisoned events, and lets a new copy catch up.
func (h *harness) endFaults() {
	h.mu.Lock()
	h.faultsOff = true
	h.mu.Unlock()
	h.tracef("the faults end")
	h.publish(runEvents)
	h.redrive(aggregates)
	_, err := h.stream.PublishControl(h.t.Context(), h.stream.LastSequence(), relay.ControlMessage{Progress: h.log[h.cursor-1].Progress(), Confirms: true})
	require.NoError(h.t, err)
	h.start()
	for range 3 {
		pass(time.Minute)
		_, _ = inboxtest.RetryAll(h.t.Context(), h.inbox, subscriber) // a commit may be due to fail
		h.acceptLoss()
	}
	pass(2 * time.Minute)
}

// healPoison lets every event succeed, and discards the unreadable messages.
func (h *harness) healPoison() {
	h.mu.Lock()
	h.poisonHealed = true
	h.record("the poison is healed")
	h.mu.Unlock()
	for range 3 {
		_, _ = inboxtest.RetryAll(h.t.Context(), h.inbox, subscriber) // a commit may be due to fail
		pass(time.Minute)
	}
	letters, err := h.inbox.Letters(h.t.Context(), subscriber, 1000)
	require.NoError(h.t, err)
	for _, letter := range letters {
		if !letter.Readable() {
			require.NoError(h.t, h.inbox.Discard(h.t.Context(), subscriber, letter.ID))
		}
	}
}

// where describes the letter of an event.
func (h *harness) where(id string) string {
	letter, err := h.inbox.Letter(h.t.Context(), subscriber, id)
	if err != nil {
		return "it has no letter"
	}
	return fmt.Sprintf("its letter is %s: %s", letter.State, letter.Error)
}

// end stops every copy.
func (h *harness) end() {
	h.endCopies()
	h.running.Wait()
}

func (h *harness) endCopies() {
	for len(h.copies) > 0 {
		h.stop(false)
	}
}
