package subscribing_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/inboxtest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

const (
	subscriber  = "billing"
	customer    = order.CustomerID("018f5e4c-0000-7000-8000-000000000001")
	lifeEvents  = 80
	aggregates  = 6
	idleTimeout = time.Second
)

// happenings are what has to happen in some life.
var happenings = []string{
	"started", "stopped", "killed", "frozen", "outage", "failed commit", "lost commit", "stalled step", "stalled handler",
	"stream lost its end", "stream remade", "event parked", "event redriven", "foreign message", "duplicate", "hole",
	"lagging read", "former leader's state", "late answer", "line cut", "accident", "handler's outage", "retried", "retried all",
	"retried a group", "discarded a group", "discarded", "dead", "no handler", "expired message", "forgotten", "late transaction",
	"limit", "filled from the log", "paused", "lanes changed", "rewound", "skipped", "ended for ever",
	"call hung", "call's answer lost", "call repeated",
}

// world is a subscriber and everything that befalls it.
type world struct {
	t      *testing.T
	stream *memory.Stream
	inbox  *memory.Inbox
	broken mutant
	lanes  int
	long   bool // more time goes by, so that the inbox is swept

	external bool // the handler calls something outside

	lateness int // of transactions, in a thousand

	log       []outbox.Entry
	cursor    outbox.Position            // how far the relay has come
	rows      *memory.Log                // the log as the inbox sees it
	cursors   *memory.CursorStore        // of the log
	purged    outbox.Position            // the log has nothing up to here any more
	refused   map[outbox.Position]bool   // events that the broker refuses, so the relay parks them
	parked    map[outbox.Position]bool   // events that wait in the parking lot
	redriven  map[outbox.Position]uint64 // events that were published later, and where
	poison    map[outbox.Position]bool   // events that fail until everything is forgiven
	discarded map[string]bool

	copies   []*process
	started  int
	restless string // what happened although an operator had stopped it
	running  sync.WaitGroup

	mu       sync.Mutex // guards what follows, which the copies use too
	random   *rand.Rand
	peace    bool // nothing goes wrong any more, but what is poisoned
	forgiven bool
	calls    []made
	seen     map[string]int
}

func newWorld(t *testing.T, seed uint64, broken mutant) *world {
	t.Helper()
	w := &world{
		t: t, stream: memory.NewStream(), inbox: memory.NewInbox(), broken: broken,
		refused: make(map[outbox.Position]bool), parked: make(map[outbox.Position]bool), redriven: make(map[outbox.Position]uint64),
		poison: make(map[outbox.Position]bool), discarded: make(map[string]bool), seen: make(map[string]int),
		random: rand.New(rand.NewPCG(seed, 11)), //nolint:gosec // repeatable
	}
	_, err := w.stream.Open(t.Context(), 1)
	require.NoError(t, err)
	require.NoError(t, w.inbox.Subscribe(t.Context(), subscriber, "test", []string{relaytest.EventType, newType}))
	w.lanes = []int{1, 3, 7}[seed%3]
	w.external = seed%5 == 4 || broken.external
	w.inbox.IdleTimeout, w.inbox.MarkEvery, w.inbox.Pause = idleTimeout, 7, w.pause
	if broken.inbox != nil {
		broken.inbox(w.inbox)
	}
	w.rows = memory.NewLog()
	w.cursors = memory.NewCursorStore(memory.NewLease(time.Minute), w.rows)
	w.inbox.Beside(w.rows)
	if w.lateness = 10; seed%4 == 0 || broken.long {
		w.long, w.lateness = true, 60
	}
	w.log = relaytest.NewEntries(0, lifeEvents)
	versions := make(map[string]int64)
	for i := range w.log {
		key := fmt.Sprint("order-", w.dice(aggregates))
		versions[key]++
		w.log[i].Key.ID, w.log[i].Version = key, versions[key]
		if w.dice(8) == 0 {
			w.log[i].Type = newType
		}
		w.refused[w.log[i].Position] = w.dice(20) == 0
		writer := w.rows.Begin()
		require.NoError(t, writer.Append(t.Context(), w.log[i].Message))
		require.NoError(t, writer.Commit())
	}
	w.fill()
	for range 2 {
		w.poison[outbox.Position(1+w.dice(lifeEvents))] = true
	}
	w.start()
	return w
}

func (w *world) dice(sides int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(sides)
}

// befalls reports whether something happens now, with a chance in a thousand.
func (w *world) befalls(what string, chance int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.peace || w.random.IntN(1000) >= chance {
		return false
	}
	w.seen[what]++
	return true
}

func (w *world) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[what]++
}

// step lets one thing happen.
func (w *world) step() {
	switch w.dice(22) {
	case 0, 1:
		if len(w.copies) < 3 {
			w.start()
		}
	case 2:
		w.stop(false)
	case 3:
		w.stop(true)
	case 4:
		w.lose()
	case 5:
		if w.dice(5) == 0 {
			w.remake()
		}
	case 6:
		w.note("outage")
		w.inbox.Disconnect()
		pass(time.Duration(w.dice(2000)) * time.Millisecond)
		w.inbox.Reconnect()
	case 7:
		w.note([]string{"failed commit", "lost commit"}[w.dice(2)])
		if w.dice(2) == 0 {
			w.inbox.FailNextCommit()
		} else {
			w.inbox.LoseNextCommit()
		}
	case 8:
		w.note("foreign message")
		w.stream.AppendForeign()
		w.save()
	case 9:
		w.repeat()
	case 10:
		w.remove()
		w.expire()
	case 11:
		w.redrive(1)
	case 12, 13:
		w.decide()
	case 14:
		w.operate()
	case 15:
		if w.dice(4) == 0 {
			w.bury()
		}
	default:
		w.publish(1 + w.dice(12))
	}
}

// decide is what an operator does about a dead letter.
func (w *world) decide() {
	letters, _ := w.inbox.Letters(w.t.Context(), subscriber, 100)
	letters = slices.DeleteFunc(letters, func(l inbox.Letter) bool { return l.State != inbox.Dead })
	if len(letters) == 0 {
		return
	}
	w.note("dead")
	switch chosen := letters[w.dice(len(letters))]; w.dice(6) {
	case 0:
		w.discard(chosen)
	case 2:
		w.retryGroup(letters, chosen)
	case 3:
		w.discardGroup(letters, chosen)
	case 1:
		if _, err := inboxtest.RetryAll(w.t.Context(), w.inbox, subscriber); err == nil {
			w.note("retried all")
		}
	default:
		if w.inbox.Retry(w.t.Context(), subscriber, chosen.ID) == nil {
			w.note("retried")
		}
	}
}

func idsOfLetters(letters []inbox.Letter) (ids []string) {
	for _, letter := range letters {
		ids = append(ids, letter.ID)
	}
	return ids
}

// retryGroup retries what failed for the reason of one letter.
func (w *world) retryGroup(letters []inbox.Letter, of inbox.Letter) {
	choice := operations.Choice{Group: fault.NewFingerprint(of.Error).ID}
	if n, err := w.inbox.RetryChosen(w.t.Context(), subscriber, idsOfLetters(letters), choice); err == nil && n > 0 {
		w.note("retried a group")
	}
}

// discardGroup discards what failed for the reason of one letter, and has its type.
func (w *world) discardGroup(letters []inbox.Letter, of inbox.Letter) {
	letters = letters[:min(3, len(letters))]
	choice := operations.Choice{Group: fault.NewFingerprint(of.Error).ID, Type: of.Type}
	_, _ = w.inbox.DiscardChosen(w.t.Context(), subscriber, idsOfLetters(letters), choice)
	for _, letter := range letters {
		if found, _ := w.inbox.Letter(w.t.Context(), subscriber, letter.ID); found.State == inbox.Discarded {
			w.note("discarded a group")
			w.discarded[letter.ID] = true
		}
	}
}

func (w *world) discard(letter inbox.Letter) {
	err := w.inbox.Discard(w.t.Context(), subscriber, letter.ID)
	found, _ := w.inbox.Letter(w.t.Context(), subscriber, letter.ID)
	if err == nil || found.State == inbox.Discarded {
		w.note("discarded")
		w.discarded[letter.ID] = true
	}
}

// calm ends everything that goes wrong, but what is poisoned, and lets a new copy catch up.
func (w *world) calm() {
	w.mu.Lock()
	w.peace = true
	w.mu.Unlock()
	w.publish(lifeEvents)
	w.redrive(aggregates)
	_, err := w.stream.PublishControl(w.t.Context(), w.stream.Len(), relay.ControlMessage{Progress: w.log[w.cursor-1].Progress(), Confirms: true})
	require.NoError(w.t, err)
	w.start()
	for range 3 {
		pass(time.Minute)
		_, _ = inboxtest.RetryAll(w.t.Context(), w.inbox, subscriber) // a commit may be due to fail
	}
	pass(2 * time.Minute)
}

// forgive lets every event succeed, and discards what cannot be read.
func (w *world) forgive() {
	w.mu.Lock()
	w.forgiven = true
	w.mu.Unlock()
	for range 3 {
		_, _ = inboxtest.RetryAll(w.t.Context(), w.inbox, subscriber) // a commit may be due to fail
		pass(time.Minute)
	}
	letters, err := w.inbox.Letters(w.t.Context(), subscriber, 1000)
	require.NoError(w.t, err)
	for _, letter := range letters {
		if !letter.Readable() {
			require.NoError(w.t, w.inbox.Discard(w.t.Context(), subscriber, letter.ID))
		}
	}
}

// where says what is known of an event.
func (w *world) where(id string) string {
	letter, err := w.inbox.Letter(w.t.Context(), subscriber, id)
	if err != nil {
		return "it has no letter"
	}
	return fmt.Sprintf("its letter is %s: %s", letter.State, letter.Error)
}

// end stops every copy.
func (w *world) end() {
	for len(w.copies) > 0 {
		w.stop(false)
	}
	w.running.Wait()
}
