package memory

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// effects is what handlers do in one transaction.
type effects struct {
	*session
	subscriber string
	handler    inbox.Handler
	judge      inbox.Judge
	totals     *totals
}

func newEffects(s *session, subscriber string, handler inbox.Handler, judge inbox.Judge) effects {
	return effects{
		session: s, subscriber: subscriber, handler: handler, judge: judge,
		totals: &totals{session: s, subscriber: subscriber, added: make(map[totalKey]Total)},
	}
}

// close ends the transaction and its Tx.
func (e *effects) close() {
	e.totals.end()
	e.session.close()
}

// flush writes what was collected.
func (e *effects) flush(ctx context.Context) error {
	if err := e.totals.flush(ctx); err != nil {
		return &inbox.CollectedError{Err: err}
	}
	return nil
}

// handle calls the handler for one event. A panic becomes an error.
func (e *effects) handle(ctx context.Context, entry outbox.Entry) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", reason, debug.Stack())
		}
	}()
	e.inbox.pause(ctx, "handle")
	if err := e.handler.Handle(ctx, inbox.Tx{Totals: e.totals}, entry); err != nil {
		return err
	}
	e.change(func() { e.inbox.history = append(e.inbox.history, effect{e.subscriber, entry}) })
	return ctx.Err()
}

// apply handles the event at a place of several, which is not suspect.
func (e *effects) apply(ctx context.Context, index int, entry outbox.Entry) error {
	if err := e.handle(ctx, entry); err != nil {
		return &inbox.EventError{Index: index, Err: err}
	}
	return nil
}

// attempt handles an event within a savepoint. If the event fails, it returns the letter as it is after the failure, and when it is
// due.
func (e *effects) attempt(ctx context.Context, before letter) (failed *letter, err error) {
	if err := e.flush(ctx); err != nil {
		return nil, err
	}
	if err := e.do(ctx, "savepoint", func() error { return nil }); err != nil {
		return nil, err
	}
	savepoint := len(e.changes)
	failure := e.handle(ctx, before.Entry)
	if failure == nil {
		failure = e.totals.flush(ctx)
	}
	if failure == nil {
		return nil, e.do(ctx, "release savepoint", func() error { return nil })
	}
	e.totals.drop()
	e.changes = e.changes[:savepoint]
	if err := e.do(ctx, "rollback to savepoint", func() error { return nil }); err != nil {
		return nil, err
	}
	judged, err := e.judge(before.Entry, before.Attempts, failure)
	if err != nil {
		return nil, err
	}
	return before.failed(judged), nil
}
