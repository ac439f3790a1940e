package interleavings_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// redelivering describes one call of Redeliver.
type redelivering struct {
	careful bool
	count   int // letters at most
	fails   []inbox.Event
	limit   int // failures after which the letter is dead
	emits   string
}

func redeliver(in *state, name string, r redelivering) *operation {
	return refusing(&operation{name: name, methods: []string{"inbox.DeadLetters.Redeliver"}, in: in, do: func(ctx context.Context, s *side) (string, error) {
		return r.run(ctx, s)
	}}, map[string]string{
		"ok false []": "letters that somebody has locked are passed over; the subscriber asks again within a second",
	})
}

func (r redelivering) run(ctx context.Context, s *side) (string, error) {
	h := &handler{harness: s.harness, emits: r.emits}
	for _, event := range r.fails {
		h.fails = append(h.fails, event.ID)
	}
	done, found, err := inboxOf(s).Redeliver(ctx, subscriber, inbox.Redelivery{Limit: max(r.count, 1), Savepoints: r.careful}, h, judged(r.limit))
	var failed *inbox.EventError
	if errors.Is(err, errHandler) && errors.As(err, &failed) {
		return "", fmt.Errorf("letter %d fails", failed.Index)
	}
	applied := make([]int, len(done.Applied))
	for i, entry := range done.Applied {
		applied[i] = int(entry.Position)
	}
	answer := fmt.Sprint(found, applied)
	if done.Failed != nil {
		answer += fmt.Sprintf(", %d is %s after %d failures", done.Failed.Position, done.Failed.State, done.Failed.Attempts)
	}
	return answer, err
}

func retry(in *state, name, id string) *operation {
	return inboxed(in, "operations.DeadLetterAdmin.Retry", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		return "", i.Retry(ctx, subscriber, id)
	})
}

func discard(in *state, name, id string) *operation {
	return inboxed(in, "operations.DeadLetterAdmin.Discard", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		return "", i.Discard(ctx, subscriber, id)
	})
}

// retryChosen retries the dead letters that match the choice, as an operator does after listing them.
func retryChosen(in *state, name string, choice operations.Choice, ids ...string) *operation {
	return inboxed(in, "operations.DeadLetterAdmin.RetryChosen", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		n, err := i.RetryChosen(ctx, subscriber, ids, choice)
		return fmt.Sprint(n), err
	})
}

func discardChosen(in *state, name string, choice operations.Choice, ids ...string) *operation {
	return inboxed(in, "operations.DeadLetterAdmin.DiscardChosen", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		n, err := i.DiscardChosen(ctx, subscriber, ids, choice)
		return fmt.Sprint(n), err
	})
}

// sweep removes old rows with the two calls of a subscriber. Between them the subscriber reads the end of the stream, which is endsAt here.
// Sweep removes nothing until the lanes have passed that end.
func sweep(in *state, name string) *operation {
	return inboxed(in, "inbox.Sweeper.Sweep", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		ids, why, err := i.Candidates(ctx, subscriber, knownStream, age, 10)
		if err != nil || why != "" {
			return why, err
		}
		n, err := i.Sweep(ctx, subscriber, knownStream, ids, firstHeld, endsAt)
		return fmt.Sprint(n), err
	})
}

// letterOperations are the operations on dead letters, and the operations of lanes that meet dead letters.
var letterOperations = []*operation{
	apply(&blocked, "blocked, apply: behind the dead one", newBatch(0, a4, b2)),
	apply(&blocked, "blocked, apply: suspect behind the dead one", newBatch(0, suspect(a4), suspect(d2)).failing(1, a4, d2)),
	apply(&blocked, "blocked, apply: behind the only one", newBatch(0, d2)),
	apply(&blocked, "blocked, apply: letters come again", newBatch(0, atSequence(a1, 52), atSequence(a2, 53), atSequence(d1, 54))),
	apply(&blocked, "blocked, apply: another lane", newBatch(1, elsewhere)),
	erasing(&blocked, "blocked, erase the customer of the letters", lettersOf),
	erasing(&retried, "retried, erase the customer of the letters", lettersOf),
	redeliver(&blocked, "blocked, redeliver", redelivering{count: 10}),
	retry(&blocked, "blocked, retry: dead", a1.ID),
	retry(&blocked, "blocked, retry: the only one", d1.ID),
	retry(&blocked, "blocked, retry: waiting", a2.ID),
	discard(&blocked, "blocked, discard: dead", a1.ID),
	discard(&blocked, "blocked, discard: first behind the dead one", a2.ID),
	discard(&blocked, "blocked, discard: second behind the dead one", a3.ID),
	discard(&blocked, "blocked, discard: the only one", d1.ID),
	retryChosen(&blocked, "blocked, retry chosen", operations.Choice{}, a1.ID, d1.ID),
	discardChosen(&blocked, "blocked, discard chosen", operations.Choice{}, a1.ID, a2.ID, d1.ID),
	discardChosen(&blocked, "blocked, discard chosen: of one aggregate", operations.Choice{Aggregate: a1.Key}, a1.ID, d1.ID),
	sweep(&blocked, "blocked, sweep"),

	apply(&retried, "retried, apply: behind the letters", newBatch(0, a4, b2, d2)),
	apply(&retried, "retried, apply: suspect", newBatch(0, suspect(a4), suspect(b2)).failing(2, b2)),
	apply(&retried, "retried, apply: letters come again", newBatch(0, atSequence(a1, 52), atSequence(a3, 53), atSequence(d1, 54))),
	apply(&retried, "retried, apply: another lane", newBatch(1, elsewhere)),
	catchUp(&retried, "retried, look, and apply what follows"),
	rewind(&retried, "retried, rewind", knownStream, checkpoint(0), 40),
	redeliver(&retried, "redeliver", redelivering{count: 10}),
	redeliver(&retried, "redeliver: one", redelivering{count: 1}),
	redeliver(&retried, "redeliver: emits", redelivering{count: 10, emits: "one"}),
	redeliver(&retried, "redeliver: the second one fails", redelivering{count: 10, fails: []inbox.Event{a2}}),
	redeliver(&retried, "redeliver with care", redelivering{careful: true, count: 10}),
	redeliver(&retried, "redeliver with care: the first one fails", redelivering{careful: true, count: 10, fails: []inbox.Event{a1}, limit: 10}),
	redeliver(&retried, "redeliver with care: the first one fails to its death", redelivering{careful: true, count: 10, fails: []inbox.Event{a1}, limit: 1}),
	redeliver(&retried, "redeliver with care: the second one fails to its death", redelivering{careful: true, count: 10, fails: []inbox.Event{a2}, limit: 1}),
	retry(&retried, "retried, retry: retrying", a1.ID),
	retry(&retried, "retried, retry: the only one", d1.ID),
	discard(&retried, "retried, discard: retrying", a1.ID),
	discard(&retried, "retried, discard: first behind the retrying one", a2.ID),
	discard(&retried, "retried, discard: second behind the retrying one", a3.ID),

	retryChosen(&retried, "retried, retry chosen", operations.Choice{}, a1.ID, a2.ID, d1.ID),
	discardChosen(&retried, "retried, discard chosen", operations.Choice{}, a1.ID, a2.ID, d1.ID),

	retryChosen(&openState, "open, retry chosen", operations.Choice{}, unreadable, f1.ID),
	discardChosen(&openState, "open, discard chosen", operations.Choice{}, unreadable, f1.ID, given.ID),
	redeliver(&openState, "open, redeliver", redelivering{count: 10}),
	retry(&openState, "open, retry: unreadable", unreadable),
	discard(&openState, "open, discard: unreadable", unreadable),
	discard(&openState, "open, discard: failing", f1.ID),
	discard(&openState, "open, discard: discarded", given.ID),
	sweep(&openState, "open, sweep"),

	apply(&bare, "bare, apply: new", newBatch(0, b2, b3)),
	apply(&bare, "bare, apply: suspect, which fails", newBatch(0, suspect(b2), b3, d2).failing(2, b2)),
	apply(&bare, "bare, apply: suspect, which fails to its death", newBatch(0, b2, suspect(b3), d2).failing(1, b3)),
	apply(&bare, "bare, apply: another lane", newBatch(1, elsewhere)),
	catchUp(&bare, "bare, look, and apply what follows"),
	redeliver(&bare, "bare, redeliver", redelivering{count: 10}),
	retryChosen(&bare, "bare, retry chosen", operations.Choice{}, a1.ID, d1.ID),
	discard(&bare, "bare, discard: new", b2.ID),

	sweep(&normal, "sweep the inbox"),
	sweep(&halted, "sweep the inbox while the relay is halted"),
}
