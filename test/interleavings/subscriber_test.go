package interleavings_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// inboxed is an operation on one side's inbox.
func inboxed(method, name string, do func(ctx context.Context, i *postgres.Inbox) (string, error)) *operation {
	return &operation{name: name, methods: []string{"inbox." + method}, do: func(ctx context.Context, s *side) (string, error) {
		return do(ctx, postgres.NewInbox(s.db))
	}}
}

func once(name string, entry outbox.Entry) *operation {
	return inboxed("UnitOfWork.Once", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		applied, err := i.Once(ctx, subscriber, entry, func(ctx context.Context, tx inbox.Tx) error {
			return tx.Totals.Add(ctx, customer, order.NewMoney(100, "EUR"))
		})
		return fmt.Sprint(applied), err
	})
}

func fail(name string, entry outbox.Entry, limit int) *operation {
	return inboxed("DeadLetters.Fail", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		letter, err := i.Fail(ctx, subscriber, entry, inbox.Failure{Cause: errors.New("no"), Limit: limit, Wait: 2 * leaseTTL})
		return fmt.Sprint(letter.State, letter.Attempts), err
	})
}

func setAside(name string, entry outbox.Entry) *operation {
	return inboxed("DeadLetters.SetAside", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		letter, err := i.SetAside(ctx, subscriber, entry)
		return string(letter.State), err
	})
}

func discard(name, id string) *operation {
	return inboxed("LetterDesk.Discard", name, func(ctx context.Context, i *postgres.Inbox) (string, error) {
		return "", i.Discard(ctx, subscriber, id)
	})
}

var subscriberOperations = []*operation{
	once("once: new", fresh),
	once("once: failing", failing),
	once("once: retrying", retrying[0]),
	once("once: waiting", retrying[1]),
	once("once: new, behind the dead one", dead[3]),
	once("once: new, behind the retrying one", retrying[3]),
	fail("fail: new", fresh, 3),
	fail("fail: failing, to its death", failing, 2),
	fail("fail: retrying, to its death", retrying[0], 1),
	setAside("set aside: behind the dead one", dead[3]),
	setAside("set aside: behind the retrying one", retrying[3]),
	setAside("set aside: behind the only one", only[1]),
	inboxed("DeadLetters.Reject", "reject", func(ctx context.Context, i *postgres.Inbox) (string, error) {
		return "", i.Reject(ctx, subscriber, outbox.Message{ID: "unreadable message 10", Subject: "x"}, errors.New("no"))
	}),
	refusing(inboxed("DeadLetters.Due", "due letter", func(ctx context.Context, i *postgres.Inbox) (string, error) {
		letter, found, err := i.Due(ctx, subscriber, 2*leaseTTL)
		return fmt.Sprint(letter.ID, found), err
	}), map[string]string{
		"ok false": "a letter that somebody has locked is passed over; the subscriber asks again within a second",
	}),
	inboxed("LetterDesk.Retry", "retry: dead", func(ctx context.Context, i *postgres.Inbox) (string, error) {
		return "", i.Retry(ctx, subscriber, dead[0].ID)
	}),
	inboxed("LetterDesk.RetryAll", "retry all letters", func(ctx context.Context, i *postgres.Inbox) (string, error) {
		n, err := i.RetryAll(ctx, subscriber)
		return fmt.Sprint(n), err
	}),
	discard("discard letter: dead", dead[0].ID),
	discard("discard letter: first behind the dead one", dead[1].ID),
	discard("discard letter: the only one", only[0].ID),
	discard("discard letter: retrying", retrying[0].ID),
	discard("discard letter: first behind the retrying one", retrying[1].ID),
	discard("discard letter: unreadable", unreadable),
	guessing(inboxed("Sweeper.Sweep", "sweep the inbox", func(ctx context.Context, i *postgres.Inbox) (string, error) {
		n, err := i.Sweep(ctx, subscriber, age, 10)
		return fmt.Sprint(n), err
	}), map[string]string{"ok 1": "it has two statements, and counts what it removed itself: another sweep may take the one or the other"}),
}
