package interleavings_test

import (
	"context"
	"fmt"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// tombstoned is the state of a subscriber that was forgotten and whose rows are not yet erased.
var tombstoned = state{name: "tombstoned", stream: normal.stream, rows: relayRows("NULL") + "DELETE FROM outbox; DELETE FROM outbox_parked;" + subscriberRows(
	letterSpec{a1, inbox.Dead, 1}, letterSpec{a2, inbox.Waiting, 0}, letterSpec{d1, inbox.Retrying, 1}, letterSpec{given, inbox.Discarded, 1}) +
	"DELETE FROM subscriber_lanes; DELETE FROM subscriber_marks; DELETE FROM subscriber_copies;" +
	"INSERT INTO subscribers (subscriber, forgotten_at) VALUES ('" + subscriber + "', '2020-01-01');"}

// wanted gives the subscriber its own row, and subscribes it to the type of all events.
var wanted = "INSERT INTO subscribers (subscriber, handler) VALUES ('" + subscriber + "', 'test');" +
	"INSERT INTO subscriber_types VALUES ('" + subscriber + "', '" + a1.Type + "');"

// operates returns an operation of the port inbox.Operator.
func operates(in *state, method, name string, do func(ctx context.Context, o *postgres.Operator) (string, error)) *operation {
	return &operation{name: name, methods: []string{"inbox.Operator." + method}, in: in, do: func(ctx context.Context, s *side) (string, error) {
		return do(ctx, postgres.NewOperator(s.db))
	}}
}

func pause(in *state, name string) *operation {
	return operates(in, "Pause", name, func(ctx context.Context, o *postgres.Operator) (string, error) { return "", o.Pause(ctx, subscriber) })
}

func resume(in *state, name string) *operation {
	return operates(in, "Resume", name, func(ctx context.Context, o *postgres.Operator) (string, error) { return "", o.Resume(ctx, subscriber) })
}

// acceptStream stands for the check of the stream, and accepts every lane.
func acceptStream(context.Context, []inbox.Checkpoint) error { return nil }

func formerSequences(lanes []inbox.Checkpoint, err error) (string, error) {
	places := make([]uint64, len(lanes))
	for i, lane := range lanes {
		places[i] = lane.Sequence
	}
	return fmt.Sprint("were at ", places), err
}

func send(in *state, name string, move inbox.Move) *operation {
	o := operates(in, "Move", name, func(ctx context.Context, o *postgres.Operator) (string, error) {
		return formerSequences(o.Move(ctx, subscriber, move, acceptStream))
	})
	o.skips = move.Forwards
	return o
}

func setLanes(in *state, name string, count int) *operation {
	return operates(in, "SetLanes", name, func(ctx context.Context, o *postgres.Operator) (string, error) {
		return formerSequences(o.SetLanes(ctx, subscriber, count, acceptStream))
	})
}

func ignore(in *state, name, eventType string) *operation {
	return operates(in, "Ignore", name, func(ctx context.Context, o *postgres.Operator) (string, error) {
		discarded, err := o.Ignore(ctx, subscriber, eventType)
		return fmt.Sprint(discarded), err
	})
}

func forget(in *state, name string) *operation {
	return operates(in, "Forget", name, func(ctx context.Context, o *postgres.Operator) (string, error) { return "", o.Forget(ctx, subscriber) })
}

func erase(name string, limit int) *operation {
	return operates(&tombstoned, "Erase", name, func(ctx context.Context, o *postgres.Operator) (string, error) {
		erased, err := o.Erase(ctx, subscriber, limit)
		return fmt.Sprint(erased), err
	})
}

func lift(in *state, name string) *operation {
	return operates(in, "RemoveTombstone", name, func(ctx context.Context, o *postgres.Operator) (string, error) {
		return "", o.RemoveTombstone(ctx, subscriber)
	})
}

var (
	goBack  = inbox.Move{Stream: knownStream, To: positionAt(40)}
	goForth = inbox.Move{Stream: knownStream, To: positionAt(48 + 1000), Forwards: true}
)

// operatorOperations are the commands of operators. In the states open and bare the subscriber has lanes but no row of its own, as if a former
// program had begun it.
var operatorOperations = []*operation{
	pause(&openState, "pause"),
	resume(&openState, "resume"),
	send(&openState, "move back", goBack),
	send(&openState, "move forwards", goForth),
	setLanes(&openState, "more lanes", 3),
	setLanes(&openState, "one lane", 1),
	ignore(&openState, "ignore a type", "a"),
	forget(&openState, "forget the subscriber"),
	lift(&openState, "lift the subscriber's tombstone"),

	pause(&blocked, "blocked, pause"),
	ignore(&blocked, "blocked, ignore a type", a1.Type),
	setLanes(&blocked, "blocked, more lanes", 3),
	forget(&blocked, "blocked, forget the subscriber"),

	pause(&retried, "retried, pause"),
	resume(&retried, "retried, resume"),
	send(&retried, "retried, move back", goBack),
	setLanes(&retried, "retried, one lane", 1),
	ignore(&retried, "retried, ignore a type", a1.Type),
	forget(&retried, "retried, forget the subscriber"),

	pause(&bare, "bare, pause"),
	setLanes(&bare, "bare, more lanes", 3),
	forget(&bare, "bare, forget the subscriber"),

	erase("erase everything", 100),
	erase("erase a little", 2),
	forget(&tombstoned, "tombstoned, forget again"),
	lift(&tombstoned, "tombstoned, lift"),
	pause(&tombstoned, "tombstoned, pause"),
	redeliver(&tombstoned, "tombstoned, redeliver", redelivering{count: 10}),
	discard(&tombstoned, "tombstoned, discard: dead", a1.ID),
	retryChosen(&tombstoned, "tombstoned, retry chosen", operations.Choice{}, a1.ID, d1.ID),
	inboxed(&tombstoned, "inbox.Checkpoints.Subscribe", "tombstoned, subscribe", func(ctx context.Context, i *postgres.Inbox) (string, error) {
		return "", i.Subscribe(ctx, subscriber, "test", []string{"a"})
	}),
	inboxed(&tombstoned, "inbox.Checkpoints.CreateLanes", "tombstoned, begin", func(ctx context.Context, i *postgres.Inbox) (string, error) {
		return "", i.CreateLanes(ctx, subscriber, 2, knownStream, positionAt(7))
	}),
	once(&tombstoned, "tombstoned, once: new", b2),
}
