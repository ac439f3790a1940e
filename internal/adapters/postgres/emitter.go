package postgres

import (
	"cmp"
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Emitter appends what handlers emit to the outbox. A transaction writes all of it with one statement.
type Emitter struct{}

var _ inbox.Emitter = (*Emitter)(nil)

// NewEmitter returns the emitter.
func NewEmitter() Emitter { return Emitter{} }

// Emit keeps the messages until they are flushed.
func (Emitter) Emit(_ context.Context, tx inbox.Tx, cause outbox.Entry, messages ...outbox.Message) error {
	effects, err := effectsOf(tx)
	if err != nil {
		return err
	}
	var invalid error
	err = collect(tx, func(e *emitted) {
		if e.cause != cause.ID {
			e.cause, e.count = cause.ID, 0
		}
		for n, message := range messages {
			message.ID = inbox.EmittedID(effects.handler, cause, e.count+n)
			if invalid = message.Validate(); invalid != nil {
				return
			}
			e.messages = append(e.messages, message)
		}
		e.count += len(messages)
	})
	return cmp.Or(err, invalid)
}

// emitted are events of a transaction.
type emitted struct {
	messages []outbox.Message
	cause    string // id of the event in hand
	count    int    // events that follow from it so far
}

func (*emitted) rank() int { return rankEmitted }

// flush appends in order of the aggregate. Other transactions that append for the same aggregates take the unique keys in the same order.
// The transaction keeps its own idle timeout.
func (e *emitted) flush(ctx context.Context, tx bun.Tx, _ string) error {
	slices.SortStableFunc(e.messages, func(a, b outbox.Message) int {
		return cmp.Or(cmp.Compare(a.Key.Type, b.Key.Type), cmp.Compare(a.Key.ID, b.Key.ID))
	})
	err := (&appender{tx: tx}).Append(ctx, e.messages...)
	if violates(err, idConstraint) {
		return inbox.ErrEmittedBefore.Wrap(err)
	}
	return err
}
