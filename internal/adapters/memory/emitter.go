package memory

import (
	"cmp"
	"context"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Emitter appends what handlers emit to the log of an Inbox's database.
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
	err = collect(tx, func(e *emitted) { invalid = e.add(work.handler, cause, messages) })
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

// flush appends in order of the aggregate. The positions are dealt at once, and the rows can be read when the transaction commits.
func (e *emitted) flush(ctx context.Context, s *session, _ string) error {
	slices.SortStableFunc(e.messages, func(a, b outbox.Message) int {
		return cmp.Or(cmp.Compare(a.Key.Type, b.Key.Type), cmp.Compare(a.Key.ID, b.Key.ID))
	})
	return s.do(ctx, "emit", func() error {
		for _, message := range e.messages {
			if s.inbox.log.has(message.ID) {
				return inbox.ErrEmittedBefore
			}
		}
		writer := s.inbox.log.Begin()
		s.writers = append(s.writers, writer)
		s.change(func() { _ = writer.Commit() }) // it is open until then
		return writer.Append(ctx, e.messages...)
	})
}
