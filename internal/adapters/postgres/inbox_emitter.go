package postgres

import (
	"cmp"
	"context"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Emitter appends to the outbox what handlers emit. A transaction appends all of its events with one statement.
type Emitter struct{}

var _ inbox.Emitter = (*Emitter)(nil)

// errNoRight counts as an outage, because the events themselves are correct. The events wait until the program has the right.
var errNoRight = fault.New(fault.Unavailable, "no_right_to_emit", "the program has no right to append to the log: run this subscriber as outboxie_emitter")

// NewEmitter returns the emitter.
func NewEmitter() Emitter { return Emitter{} }

// Emit collects the messages. flush appends them.
func (Emitter) Emit(_ context.Context, tx inbox.Tx, cause outbox.Entry, messages ...outbox.Message) error {
	effects, err := effectsOf(tx)
	if err != nil {
		return err
	}
	var invalid error
	err = collect(tx, func(e *emitted) { invalid = e.Add(effects.handler, cause, messages) })
	return cmp.Or(err, invalid)
}

// emitted are events of a transaction.
type emitted struct{ inbox.EmitBuffer }

func (*emitted) rank() int { return rankEmitted }

// flush appends the collected events. It does not change the transaction's idle timeout.
func (e *emitted) flush(ctx context.Context, tx bun.Tx, _ string) error {
	err := (&appender{tx: tx}).Append(ctx, e.Messages()...)
	switch {
	case violates(err, idConstraint):
		return inbox.ErrEmittedBefore.Wrap(err)
	case sqlState(err) == insufficientPrivilege:
		return errNoRight.Wrap(err)
	}
	return err
}
