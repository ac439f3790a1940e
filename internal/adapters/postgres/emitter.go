package postgres

import (
	"cmp"
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Emitter appends what handlers emit to the outbox. A transaction writes all of it with one statement.
type Emitter struct{}

var _ inbox.Emitter = (*Emitter)(nil)

// errNoRight is an outage, because it says nothing about the events: they wait until the program has the right.
var errNoRight = fault.New(fault.Unavailable, "no_right_to_emit", "the program has no right to append to the log: run this subscriber as outboxie_emitter")

// NewEmitter returns the emitter.
func NewEmitter() Emitter { return Emitter{} }

// Emit keeps the messages until they are flushed.
func (Emitter) Emit(_ context.Context, tx inbox.Tx, cause outbox.Entry, messages ...outbox.Message) error {
	effects, err := effectsOf(tx)
	if err != nil {
		return err
	}
	var invalid error
	err = collect(tx, func(e *emitted) { invalid = e.add(effects.handler, cause, messages) })
	return cmp.Or(err, invalid)
}

// emitted are events of a transaction.
type emitted struct {
	messages []outbox.Message
	cause    string // id of the event in hand
	count    int    // events that follow from it so far
}

// add adds what follows from the event in hand: all messages, or none if one is invalid.
func (e *emitted) add(handler string, cause outbox.Entry, messages []outbox.Message) error {
	if e.cause != cause.ID {
		e.cause, e.count = cause.ID, 0
	}
	added := slices.Clone(messages)
	for n := range added {
		added[n].ID = inbox.EmittedID(handler, cause, e.count+n)
		if err := added[n].Validate(); err != nil {
			return err
		}
	}
	e.messages = append(e.messages, added...)
	e.count += len(added)
	return nil
}

func (*emitted) rank() int { return rankEmitted }

// flush appends in order of the aggregate. Other transactions that append for the same aggregates take the unique keys in the same order.
// The transaction keeps its own idle timeout.
func (e *emitted) flush(ctx context.Context, tx bun.Tx, _ string) error {
	slices.SortStableFunc(e.messages, func(a, b outbox.Message) int {
		return cmp.Or(cmp.Compare(a.Key.Type, b.Key.Type), cmp.Compare(a.Key.ID, b.Key.ID))
	})
	err := (&appender{tx: tx}).Append(ctx, e.messages...)
	switch {
	case violates(err, idConstraint):
		return inbox.ErrEmittedBefore.Wrap(err)
	case sqlState(err) == insufficientPrivilege:
		return errNoRight.Wrap(err)
	}
	return err
}
