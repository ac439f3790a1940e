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
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
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
	"discarded", "dead",
}

// world is a subscriber and everything that befalls it.
type world struct {
	t      *testing.T
	stream *memory.Stream
	inbox  *memory.Inbox
	broken mutant
	lanes  int

	log       []outbox.Entry
	cursor    outbox.Position            // how far the relay has come
	refused   map[outbox.Position]bool   // events that the broker refuses, so the relay parks them
	parked    map[outbox.Position]bool   // events that wait in the parking lot
	redriven  map[outbox.Position]uint64 // events that were published later, and where
	poison    map[outbox.Position]bool   // events that fail until everything is forgiven
	discarded map[string]bool

	copies  []*process
	started int
	running sync.WaitGroup

	mu       sync.Mutex // guards what follows, which the copies use too
	random   *rand.Rand
	peace    bool // nothing goes wrong any more, but what is poisoned
	forgiven bool
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
	w.lanes = []int{1, 3, 7}[seed%3]
	w.inbox.IdleTimeout, w.inbox.MarkEvery, w.inbox.Pause = idleTimeout, 7, w.pause
	if broken.inbox != nil {
		broken.inbox(w.inbox)
	}
	w.log = outboxtest.NewEntries(0, lifeEvents)
	versions := make(map[string]int64)
	for i := range w.log {
		key := fmt.Sprint("order-", w.dice(aggregates))
		versions[key]++
		w.log[i].Key.ID, w.log[i].Version = key, versions[key]
		w.refused[w.log[i].Position] = w.dice(20) == 0
	}
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
	w.trace("%s len %d", what, w.stream.Len())
}

// step lets one thing happen.
func (w *world) step() {
	switch w.dice(20) {
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
	case 9:
		w.repeat()
	case 10:
		w.remove()
	case 11:
		w.redrive(1)
	case 12, 13:
		w.decide()
	default:
		w.publish(1 + w.dice(12))
	}
}

// takeOver begins where the stream ends, as the relay's own messages say.
func (w *world) takeOver() {
	w.cursor = 0
	for _, message := range w.stream.Messages() {
		w.cursor = max(w.cursor, message.Progress.Position)
	}
}

// publish goes on with the log, as the relay does. What the broker refuses is parked, and what follows it in its aggregate too.
func (w *world) publish(count int) {
	for _, entry := range w.log[w.cursor:] {
		if count == 0 {
			return
		}
		w.cursor = entry.Position
		if w.parked[entry.Position] || w.redriven[entry.Position] > 0 {
			continue
		}
		count--
		var err error
		if w.refused[entry.Position] || w.waits(entry) {
			w.note("event parked")
			w.parked[entry.Position] = true
			_, err = w.stream.Notify(w.t.Context(), w.stream.Len(), outbox.Notice{Progress: entry.Progress(), Parked: "refused"})
		} else {
			_, err = w.stream.Publish(w.t.Context(), w.stream.Len(), []outbox.Entry{entry})
		}
		require.NoError(w.t, err)
	}
}

// waits reports whether an earlier event of the aggregate waits in the parking lot.
func (w *world) waits(entry outbox.Entry) bool {
	return slices.ContainsFunc(w.log[:entry.Position-1], func(other outbox.Entry) bool {
		return other.Key == entry.Key && w.parked[other.Position]
	})
}

// redrive publishes what is parked of some aggregates, as far as the relay has passed it.
func (w *world) redrive(count int) {
	for range count {
		var waiting []outbox.Entry
		for _, entry := range w.log {
			if w.parked[entry.Position] && entry.Position <= w.cursor && (len(waiting) == 0 || entry.Key == waiting[0].Key) {
				waiting = append(waiting, entry)
			}
		}
		if len(waiting) == 0 {
			return
		}
		first := w.stream.Len() + 1
		_, err := w.stream.Redrive(w.t.Context(), w.stream.Len(), w.log[w.cursor-1].Progress(), waiting)
		require.NoError(w.t, err)
		for i, entry := range waiting {
			w.note("event redriven")
			delete(w.parked, entry.Position)
			w.redriven[entry.Position] = first + uint64(i)
		}
	}
}

// lose takes the end of the stream away. The log heals it.
func (w *world) lose() {
	length := w.stream.Len()
	if length == 0 {
		return
	}
	w.note("stream lost its end")
	w.forget(length - min(length, uint64(1+w.dice(20))))
	if w.dice(2) == 0 {
		w.publish(lifeEvents)
	}
}

func (w *world) forget(after uint64) {
	w.stream.Regress(after)
	w.parkAgain(after)
	w.takeOver()
}

// parkAgain waits again for the events that were redriven after a sequence.
func (w *world) parkAgain(after uint64) {
	for position, sequence := range w.redriven {
		if sequence > after {
			delete(w.redriven, position)
			w.parked[position] = true
		}
	}
}

// remake deletes the stream, and fills a new one from the log.
func (w *world) remake() {
	w.note("stream remade")
	w.stream.Recreate()
	w.parkAgain(0)
	w.takeOver()
	w.publish(w.dice(lifeEvents))
}

// repeat stores a message a second time.
func (w *world) repeat() {
	if length := w.stream.Len(); length > 0 {
		w.note("duplicate")
		w.stream.AppendCopy(uint64(1 + w.dice(int(length))))
	}
}

// remove deletes a message that every copy has dealt with; never the last one, by which the relay knows where it stands.
func (w *world) remove() {
	messages := w.messages()
	if len(messages) < 2 {
		return
	}
	message := messages[w.dice(len(messages)-1)]
	if event := message.Event; event == nil || event.Unreadable != nil || w.inbox.Applied(subscriber, event.ID) {
		w.note("hole")
		w.stream.Delete(message.Sequence)
	}
}

// messages returns what the stream has.
func (w *world) messages() []inbox.Message {
	messages, err := memory.NewReader(w.stream, subscriber).Read(w.t.Context(), 1, inbox.ReadLimit{Count: 1000, Bytes: 1 << 20})
	require.NoError(w.t, err)
	return messages
}

// decide is what an operator does about a dead letter.
func (w *world) decide() {
	letters, _ := w.inbox.Letters(w.t.Context(), subscriber, 100)
	letters = slices.DeleteFunc(letters, func(l inbox.Letter) bool { return l.State != inbox.Dead })
	if len(letters) == 0 {
		return
	}
	w.note("dead")
	switch chosen := letters[w.dice(len(letters))]; w.dice(4) {
	case 0:
		w.discard(chosen)
	case 1:
		if _, err := w.inbox.RetryAll(w.t.Context(), subscriber); err == nil {
			w.note("retried all")
		}
	default:
		if w.inbox.Retry(w.t.Context(), subscriber, chosen.ID) == nil {
			w.note("retried")
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
	w.start()
	for range 3 {
		pass(time.Minute)
		_, _ = w.inbox.RetryAll(w.t.Context(), subscriber) // a commit may be due to fail
	}
	pass(2 * time.Minute)
}

// forgive lets every event succeed, and discards what cannot be read.
func (w *world) forgive() {
	w.mu.Lock()
	w.forgiven = true
	w.mu.Unlock()
	for range 3 {
		_, _ = w.inbox.RetryAll(w.t.Context(), subscriber) // a commit may be due to fail
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
