package interleavings_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const wrongWay = "a former program locks the letter of an event, also a new one, before the row of the event in inbox; a lane inserts this row first"

// ofFormer returns an operation of a former program.
func ofFormer(in *state, name string, do func(ctx context.Context, b formerInbox) (string, error)) *operation {
	return &operation{name: "before: " + name, in: in, former: true, mayDeadlock: wrongWay, do: func(ctx context.Context, s *side) (string, error) {
		return do(ctx, formerInbox{s})
	}}
}

func once(in *state, name string, event inbox.Event) *operation {
	return ofFormer(in, name, func(ctx context.Context, b formerInbox) (string, error) {
		applied, err := b.Once(ctx, event.Entry)
		if errors.Is(err, errFormerHeld) {
			return "held", nil
		}
		return fmt.Sprint(applied), err
	})
}

func fail(in *state, name string, event inbox.Event, limit int) *operation {
	return guessing(ofFormer(in, name, func(ctx context.Context, b formerInbox) (string, error) {
		state, err := b.Fail(ctx, event.Entry, limit)
		return string(state), err
	}), map[string]string{
		"no_such_dead_letter": "former programs say so if the letter has ended while they waited for it",
		"ok failing":          "the lane has applied the event, or has set it aside, and has not committed yet",
	})
}

func setAside(in *state, name string, event inbox.Event) *operation {
	return guessing(ofFormer(in, name, func(ctx context.Context, b formerInbox) (string, error) {
		state, err := b.SetAside(ctx, event.Entry)
		return string(state), err
	}), map[string]string{"ok waiting": "the letter before it is ending, which makes no difference: its turn follows from the letters"})
}

func formerRetryOne(in *state, name string, event inbox.Event) *operation {
	return ofFormer(in, name, func(ctx context.Context, b formerInbox) (string, error) { return "", b.Retry(ctx, event.ID) })
}

func formerRetryAll(in *state, name string) *operation {
	return ofFormer(in, name, func(ctx context.Context, b formerInbox) (string, error) {
		n, err := b.RetryAll(ctx)
		return fmt.Sprint(n), err
	})
}

func formerDiscard(in *state, name string, event inbox.Event) *operation {
	return ofFormer(in, name, func(ctx context.Context, b formerInbox) (string, error) { return "", b.Discard(ctx, event.Entry) })
}

func asFormerSweep(o *operation) *operation {
	o.formerSweep = true
	return o
}

// retrier returns the operation with which a former program retries letters: it takes a letter that is due, and applies its event.
func retrier(in *state, name string) *operation {
	o := ofFormer(in, name, func(ctx context.Context, b formerInbox) (string, error) {
		id, err := b.Due(ctx)
		if err != nil || id == "" {
			return id, err
		}
		applied, err := b.Once(ctx, arrivals[numberOf(id)].Entry)
		return fmt.Sprintf("%s %t", shown(id), applied), err
	})
	guessing(o, map[string]string{"ok " + shown(a1.ID) + " false": "the letter was discarded after it was chosen, in another transaction"})
	return refusing(o, map[string]string{"ok": "a letter that somebody has locked is passed over; the subscriber asks again within a second"})
}

// formerOperations are the operations of former programs. Two of them never form a pair, because a mistake between two former programs cannot be
// mended.
var formerOperations = []*operation{
	once(&blocked, "blocked, once: behind the dead one", a4),
	setAside(&blocked, "blocked, set aside: behind the dead one", a4),
	setAside(&blocked, "blocked, set aside: behind the only one", d2),
	once(&blocked, "blocked, once: behind the only one", d2),
	formerRetryOne(&blocked, "blocked, retry: dead", a1),
	formerRetryAll(&blocked, "blocked, retry all"),
	formerDiscard(&blocked, "blocked, discard: dead", a1),
	formerDiscard(&blocked, "blocked, discard: first behind the dead one", a2),
	formerDiscard(&blocked, "blocked, discard: the only one", d1),

	once(&retried, "once: retrying", a1),
	once(&retried, "once: waiting", a2),
	once(&retried, "once: behind the retrying one", a4),
	fail(&retried, "fail: retrying", a1, 10),
	fail(&retried, "fail: retrying, to its death", a1, 1),
	setAside(&retried, "set aside: behind the retrying one", a4),
	retrier(&retried, "due, and once"),
	formerDiscard(&retried, "discard: retrying", a1),
	formerDiscard(&retried, "discard: first behind the retrying one", a2),

	once(&bare, "bare, once: new", b2),
	fail(&bare, "bare, fail: new", b2, 10),
	fail(&bare, "bare, fail: new, to its death", b2, 1),
	setAside(&bare, "bare, set aside: new", b2),

	once(&openState, "once: new", b2),
	fail(&openState, "fail: new", b2, 10),
	fail(&openState, "fail: new, to its death", b2, 1),
	setAside(&openState, "set aside: new", b2),
	once(&openState, "once: failing", f1),
	fail(&openState, "fail: failing, to its death", f1, 2),
	formerDiscard(&openState, "discard: failing", f1),
	ofFormer(&openState, "reject", func(ctx context.Context, b formerInbox) (string, error) {
		state, err := b.Reject(ctx, outbox.Message{ID: "unreadable message 10", Subject: "x"})
		return string(state), err
	}),
	asFormerSweep(ofFormer(&openState, "sweep", func(ctx context.Context, b formerInbox) (string, error) { return b.Sweep(ctx) })),
}
