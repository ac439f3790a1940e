package subscribing_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

const (
	lives      = 120
	lifeEvents = 60
)

// TestLives lives random lives of a subscriber in fake time: up to three copies that start and stop; events that fail
// for ever, for a while or by accident; lost acknowledgements, retries and extensions; handlers that take longer than the
// source waits; outages of the database; a stream that loses its end and heals; an operator who retries and discards. When
// everything is well again, each event has taken effect once, but those that were discarded, and in order within its
// aggregate.
func TestLives(t *testing.T) {
	seen := make(map[string]int)
	for seed := range uint64(lives) {
		if problem := live(t, seed, nil, seen); problem != "" {
			t.Fatalf("life %d: %s", seed, problem)
		}
	}
	t.Log(seen)
	for _, happening := range []string{"dead", "retried", "discarded", "regress", "outage", "stall", "lost ack"} {
		require.Positive(t, seen[happening], "%s never happened", happening)
	}
}

// The checks of a life, by the promise that each one is named for.
const (
	checkOnce  = "one effect per event"
	checkOrder = "in order within the aggregate"
)

// TestLivesNotice breaks what keeps the promises, and demands that some life notices by the check that is named for it.
func TestLivesNotice(t *testing.T) {
	for name, mutant := range map[string]struct {
		breaks func(*memory.Inbox)
		check  string
	}{
		"inbox off":                {(*memory.Inbox).KnowNothing, checkOnce},
		"dead events hold nothing": {(*memory.Inbox).HoldNothing, checkOrder},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(lives) {
				if problem := live(t, seed, mutant.breaks, make(map[string]int)); strings.HasPrefix(problem, mutant.check) {
					t.Logf("noticed in life %d: %s", seed, problem)
					return
				}
			}
			t.Fatalf("check %q did not notice it in %d lives", mutant.check, lives)
		})
	}
}

// life is one subscriber and everything that befalls it.
type life struct {
	mu       sync.Mutex // guards random, peace and seen, which copies use too
	random   *rand.Rand
	stream   *memory.Stream
	applied  *memory.Inbox
	entries  []outbox.Entry
	poisoned map[outbox.Position]bool
	peace    bool
	copies   []func()
	gone     map[string]bool // discarded
	seen     map[string]int
}

func live(t *testing.T, seed uint64, breaks func(*memory.Inbox), seen map[string]int) (problem string) {
	synctest.Test(t, func(t *testing.T) {
		l := &life{
			random: rand.New(rand.NewPCG(seed, 11)), //nolint:gosec // repeatable
			stream: newStream(t), applied: memory.NewInbox(), entries: newEvents(), poisoned: make(map[outbox.Position]bool),
			gone: make(map[string]bool), seen: seen,
		}
		if breaks != nil {
			breaks(l.applied)
		}
		for range 4 {
			l.poisoned[outbox.Position(1+l.dice(lifeEvents))] = true
		}
		for range 80 {
			l.step(t)
			pass(time.Duration(l.dice(3000)) * time.Millisecond)
		}
		l.calm(t)
		problem = l.verdict(t)
		for _, stop := range l.copies {
			stop()
		}
	})
	return problem
}

// newEvents are of five aggregates, with versions.
func newEvents() []outbox.Entry {
	entries := outboxtest.NewEntries(0, lifeEvents)
	for i := range entries {
		entries[i].Key.ID = fmt.Sprint("order-", i%5)
		entries[i].Version = int64(i/5 + 1)
	}
	return entries
}

func (l *life) chance(percent int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.peace && l.random.IntN(100) < percent
}

func (l *life) dice(sides int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.random.IntN(sides)
}

func (l *life) note(happening string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[happening]++
	return true
}

// Handle is what every copy does with an event.
func (l *life) Handle(ctx context.Context, entry outbox.Entry) error {
	if l.chance(3) && l.note("stall") {
		time.Sleep(2 * ackWait)
	}
	_, err := l.applied.Once(ctx, subscriber, entry, func(context.Context, inbox.Tx) error {
		switch {
		case l.poisoned[entry.Position] && l.chance(100):
			return errPoison
		case l.chance(5):
			return errors.New("an accident")
		case l.chance(2) && l.note("stall"):
			time.Sleep(2 * ackWait)
		}
		return nil
	})
	return err
}

func (l *life) start(t *testing.T) {
	lost := func() error {
		if l.chance(10) && l.note("lost ack") {
			return errCut
		}
		return nil
	}
	source := &faulty{Source: sourceOf(l.stream), ack: lost, retry: lost, extend: lost}
	opts := subscribing.Options{MaxAttempts: 3}
	stopLoop := startWith(t, source, l, l.applied, opts, &lines{})
	stopRetrier := startRetrier(t, l.applied, l, opts, &lines{})
	l.copies = append(l.copies, func() { stopLoop(); stopRetrier() })
}

// step lets one thing happen.
func (l *life) step(t *testing.T) {
	switch l.dice(8) {
	case 0:
		if len(l.copies) < 3 {
			l.start(t)
		}
	case 1:
		if len(l.copies) > 0 {
			l.copies[0]()
			l.copies = l.copies[1:]
		}
	case 2:
		if l.dice(3) == 0 && l.note("regress") {
			l.stream.Regress(uint64(l.dice(int(l.stream.Len()) + 1)))
		}
	case 3:
		l.applied.Disconnect()
		l.note("outage")
		pass(time.Duration(l.dice(2000)) * time.Millisecond)
		l.applied.Reconnect()
	case 4:
		l.decide(t)
	default:
		l.publish(t, 1+l.dice(5))
	}
}

// publish goes on with the log where the stream ends, as the relay does.
func (l *life) publish(t *testing.T, n int) {
	from := int(l.stream.Len())
	publish(t, l.stream, l.entries[from:min(from+n, len(l.entries))]...)
}

// decide is what an operator does about the first dead letter.
func (l *life) decide(t *testing.T) {
	letters, err := l.applied.Letters(t.Context(), subscriber, 1)
	require.NoError(t, err)
	if len(letters) == 0 || letters[0].State != inbox.Dead {
		return
	}
	l.note("dead")
	if l.dice(3) > 0 {
		l.note("retried")
		require.NoError(t, l.applied.Retry(t.Context(), subscriber, letters[0].ID))
		return
	}
	if l.applied.Discard(t.Context(), subscriber, letters[0].ID) == nil {
		l.note("discarded")
		l.gone[letters[0].ID] = true
	}
}

// calm repairs everything and lets the subscriber catch up.
func (l *life) calm(t *testing.T) {
	l.mu.Lock()
	l.peace = true
	l.mu.Unlock()
	l.publish(t, len(l.entries))
	l.start(t)
	for range 5 {
		pass(5 * time.Minute)
		_, err := l.applied.RetryAll(t.Context(), subscriber)
		require.NoError(t, err)
	}
	pass(5 * time.Minute)
}

// verdict compares what took effect with the log.
func (l *life) verdict(t *testing.T) string {
	effects, last := make(map[string]int), make(map[string]int64)
	for _, entry := range l.applied.History(subscriber) {
		if effects[entry.ID]++; effects[entry.ID] > 1 {
			return fmt.Sprintf(checkOnce+": position %d took effect twice", entry.Position)
		}
		if entry.Version <= last[entry.Key.ID] {
			return fmt.Sprintf(checkOrder+": version %d of %s took effect after %d", entry.Version, entry.Key, last[entry.Key.ID])
		}
		last[entry.Key.ID] = entry.Version
	}
	for _, entry := range l.entries {
		want := 1
		if l.gone[entry.ID] {
			want = 0
		}
		if effects[entry.ID] != want {
			return fmt.Sprintf(checkOnce+": position %d took effect %d times", entry.Position, effects[entry.ID])
		}
	}
	letters, err := l.applied.Letters(t.Context(), subscriber, lifeEvents)
	require.NoError(t, err)
	if len(letters) > 0 {
		return fmt.Sprintf("position %d is still %s", letters[0].Position, letters[0].State)
	}
	return ""
}
