package memory

import (
	"cmp"
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Emitter appends the events that handlers emit. They go to the log of the Inbox's database.
type Emitter struct{}

var _ inbox.Emitter = (*Emitter)(nil)

// NewEmitter returns the emitter.
func NewEmitter() Emitter { return Emitter{} }

// Emit keeps the messages until they are flushed.
func (Emitter) Emit(_ context.Context, tx inbox.Tx, cause outbox.Entry, messages ...outbox.Message) error {
	work, err := workOf(tx)
	if err != nil {
		return err
	}
	var invalid error
	err = collect(tx, func(e *emitted) { invalid = e.Add(work.handler, cause, messages) })
	return cmp.Or(err, invalid)
}

// emitted collects the events that handlers emit in a transaction.
type emitted struct{ inbox.EmitBuffer }

// flush appends the events to the log. The rows get their positions at once, and can be read when the transaction has committed.
func (e *emitted) flush(ctx context.Context, s *session, _ string) error {
	return s.do(ctx, "emit", func() error {
		for _, message := range e.Messages() {
			if s.inbox.log.has(message.ID) {
				return inbox.ErrEmittedBefore
			}
		}
		writer := s.inbox.log.Begin()
		s.writers = append(s.writers, writer)
		s.change(func() { _ = writer.Commit() }) // the writer is open until here
		return writer.Append(ctx, e.Messages()...)
	})
}
