package postgres

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Effects makes effects testable.
type Effects struct{ effects *effects }

// NewEffects returns effects that are written in tx.
func NewEffects(tx bun.Tx, subscriber string) Effects {
	return Effects{&effects{tx: tx, subscriber: subscriber, handler: "test"}}
}

// Tx returns the transaction that a handler gets.
func (e Effects) Tx() inbox.Tx { return e.effects }

// Flush writes the collected effects.
func (e Effects) Flush(ctx context.Context) error { return e.effects.flush(ctx) }

// End makes the handler's Tx unusable.
func (e Effects) End() { e.effects.end() }

// HandleSafely makes handleSafely testable.
func HandleSafely(ctx context.Context, handler inbox.Handler, tx inbox.Tx, entry outbox.Entry) error {
	return handleSafely(ctx, handler, tx, entry)
}

// WithLateBegin is withLateBegin.
var WithLateBegin = withLateBegin

// WithLateAnswer is withLateAnswer.
func WithLateAnswer(ctx context.Context, judged func(error) error) context.Context {
	return withLateAnswer(ctx, judged)
}
