package inboxtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// letterRace is a lane that applies events while copies redeliver and operators decide.
type letterRace struct {
	*letters
	events []inbox.Event

	mu    sync.Mutex
	calls int
	last  map[string]int // by event: the number of the last call of its handler, which is the committed one
}

// Handle fails for some events, now and then.
func (r *letterRace) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	r.mu.Lock()
	r.calls++
	r.last[entry.ID] = r.calls
	r.mu.Unlock()
	if err := r.Add(ctx, tx, r.key, amount); err != nil {
		return err
	}
	if entry.Position%3 == 1 && rand.IntN(2) == 0 {
		return errHandler
	}
	return nil
}

// policy makes some letters retried, and others dead.
func (r *letterRace) policy(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
	return inbox.Failure{Cause: err, Limit: 2, Permanent: rand.IntN(3) == 0}, nil
}

// redeliverRaces applies 120 events of three aggregates, while three copies try the letters and an operator decides at random.
func redeliverRaces(t *testing.T, l *letters) {
	l.begin(t)
	r := &letterRace{letters: l, events: newEvents(0, 120, "a", "b", "c"), last: make(map[string]int)}
	for i := range r.events {
		r.events[i].Suspect = true
	}
	done, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for range 3 {
		others.Go(func() { r.until(done, t, r.redeliver) })
	}
	others.Go(func() { r.until(done, t, r.operate) })
	for at := 0; at < len(r.events); at += 4 {
		_, err := l.UnitOfWork.Apply(t.Context(), subscriber, l.batch(r.events[at:at+4]...), r, r.policy)
		if fault.KindOf(err) == fault.Unavailable { // two transactions waited for each other, and this one was ended
			at -= 4
			continue
		}
		require.NoError(t, err)
		l.look(t)
	}
	stop()
	others.Wait()
	r.finish(t)
}

func (r *letterRace) until(done context.Context, t *testing.T, step func(ctx context.Context) error) {
	for done.Err() == nil {
		err := step(t.Context())
		if kind := fault.KindOf(err); err != nil && kind != fault.Unavailable && kind != fault.NotFound && kind != fault.Conflict {
			t.Error(err)
			return
		}
	}
}

func (r *letterRace) redeliver(ctx context.Context) error {
	_, _, err := r.DeadLetters.Redeliver(ctx, subscriber, inbox.Redelivery{Limit: 1 + rand.IntN(5), Savepoints: true}, r, r.policy)
	return err
}

func (r *letterRace) operate(ctx context.Context) error {
	event := r.events[rand.IntN(len(r.events))]
	switch rand.IntN(8) {
	case 0:
		return r.Letters.Discard(ctx, subscriber, event.ID)
	case 2:
		_, err := r.Letters.RetryChosen(ctx, subscriber, idsOf(r.events[rand.IntN(len(r.events)):]), operations.Choice{})
		return err
	case 3:
		_, err := r.Letters.DiscardChosen(ctx, subscriber, []string{event.ID, r.events[rand.IntN(len(r.events))].ID}, operations.Choice{})
		return err
	case 1:
		_, err := RetryAll(ctx, r.Letters, subscriber)
		return err
	}
	return r.Letters.Retry(ctx, subscriber, event.ID)
}

// finish retries until no letter is left, and requires that each event took effect once, or was discarded, in order.
func (r *letterRace) finish(t *testing.T) {
	t.Helper()
	for range 1000 {
		_, err := RetryAll(t.Context(), r.Letters, subscriber)
		require.NoError(t, err)
		require.NoError(t, r.redeliver(t.Context()))
		if listed, err := r.Letters.Letters(t.Context(), subscriber, 1); len(listed) == 0 {
			require.NoError(t, err)
			break
		}
	}
	applied := make(map[string]bool)
	for _, id := range r.WasApplied(t, subscriber, idsOf(r.events)...) {
		applied[id] = true
	}
	latest := make(map[outbox.Key]int)
	for _, event := range r.events {
		if !applied[event.ID] {
			r.requireLetter(t, event, inbox.Discarded)
			continue
		}
		r.requireNoLetter(t, event)
		require.Greater(t, r.last[event.ID], latest[event.Key], "position %d came too early", event.Position)
		latest[event.Key] = r.last[event.ID]
	}
	require.NotEmpty(t, applied)
	r.requireCount(t, int64(len(applied)))
}

// pairing is an aggregate with three letters, e1 to e3, for two calls at the same time.
type pairing struct {
	*letters
	events []inbox.Event
	limit  int // of letters in a redelivery
}

// pairedCalls are the calls that change letters.
var pairedCalls = []pairedCall{
	{"Discard(e1)", func(ctx context.Context, p pairing) error {
		return p.Letters.Discard(ctx, p.subscriber, p.events[0].ID)
	}},
	{"Discard(e2)", func(ctx context.Context, p pairing) error {
		return p.Letters.Discard(ctx, p.subscriber, p.events[1].ID)
	}},
	{"Retry(e1)", func(ctx context.Context, p pairing) error { return p.Letters.Retry(ctx, p.subscriber, p.events[0].ID) }},
	{"Retry(e2)", func(ctx context.Context, p pairing) error { return p.Letters.Retry(ctx, p.subscriber, p.events[1].ID) }},
	{"RetryChosen", func(ctx context.Context, p pairing) error {
		_, err := p.Letters.RetryChosen(ctx, p.subscriber, idsOf(p.events), operations.Choice{})
		return err
	}},
	{"DiscardChosen(e1, e2)", func(ctx context.Context, p pairing) error {
		_, err := p.Letters.DiscardChosen(ctx, p.subscriber, idsOf(p.events[:2]), operations.Choice{})
		return err
	}},
	{"Redeliver", func(ctx context.Context, p pairing) error {
		_, _, err := p.DeadLetters.Redeliver(ctx, p.subscriber, inbox.Redelivery{Limit: p.limit}, p.lane, p.policy)
		return err
	}},
}

type pairedCall struct {
	name string
	call func(ctx context.Context, p pairing) error
}

// TestLetterPairs checks what inbox.DeadLetters and operations.DeadLetterAdmin promise together: no two calls at the same time leave a letter
// behind. It runs each pair of calls many times. Pairs with Discard(e2) once left a letter behind, so they run all rounds. The other pairs run a
// fifth of the rounds. open returns an empty store.
func TestLetterPairs(t *testing.T, rounds int, open func(t *testing.T) LetterStore) {
	for first, one := range pairedCalls {
		t.Run(one.name, func(t *testing.T) {
			store := open(t)
			for _, other := range pairedCalls[first:] {
				rounds := rounds
				if one.name != "Discard(e2)" && other.name != "Discard(e2)" {
					rounds /= 5
				}
				for round := range rounds {
					p := newPairing(t, store, fmt.Sprint(other.name, round), round%2 == 1, 1+round%3)
					p.together(t, one.call, other.call)
					p.requireNothingLeft(t, one.name+" beside "+other.name)
				}
			}
		})
	}
}

// newPairing prepares three letters of a subscriber. The first one is dead, or retried.
func newPairing(t *testing.T, store LetterStore, subscriber string, retried bool, limit int) pairing {
	t.Helper()
	l := newLetters(store)
	l.subscriber = subscriber
	l.begin(t)
	p := pairing{letters: l, events: l.prepare(t, 0, 3, "a"), limit: limit}
	if retried {
		p.retry(t, p.events[0])
	}
	return p
}

// together makes calls at the same time. A call may fail because of the other one: the letter is gone, or in another state.
func (p pairing) together(t *testing.T, calls ...func(ctx context.Context, p pairing) error) {
	t.Helper()
	var begin, both sync.WaitGroup
	begin.Add(1)
	for _, call := range calls {
		both.Go(func() {
			begin.Wait()
			if err := call(t.Context(), p); err != nil && fault.KindOf(err) != fault.NotFound && fault.KindOf(err) != fault.Conflict {
				t.Error(err)
			}
		})
	}
	begin.Done()
	both.Wait()
}

// requireNothingLeft retries all dead letters and tries all due letters. After that, it requires that each event was applied or discarded, and
// that the third event was applied.
func (p pairing) requireNothingLeft(t *testing.T, name string) {
	t.Helper()
	_, err := RetryAll(t.Context(), p.Letters, p.subscriber)
	require.NoError(t, err)
	p.redeliverAll(t)
	p.requireList(t)
	applied := p.WasApplied(t, p.subscriber, idsOf(p.events)...)
	require.Contains(t, applied, p.events[2].ID, name)
	for _, event := range p.events {
		if slices.Contains(applied, event.ID) {
			p.requireNoLetter(t, event)
		} else {
			p.requireLetter(t, event, inbox.Discarded)
		}
	}
	require.Equal(t, applied, p.handled, "%s: once, and in order", name)
	p.requireCount(t, int64(len(applied)))
}
