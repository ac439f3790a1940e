package postgres

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

type inboxRow struct {
	bun.BaseModel `bun:"table:inbox"`

	Subscriber       string `bun:"subscriber"`
	EventID          string `bun:"event_id"`
	AggregateType    string `bun:"aggregate_type"`
	AggregateID      string `bun:"aggregate_id"`
	AggregateVersion int64  `bun:"aggregate_version"`
	Position         int64  `bun:"position"`
}

// Inbox applies effects once, in a Postgres transaction.
type Inbox struct{ db *bun.DB }

var _ inbox.UnitOfWork = (*Inbox)(nil)

// NewInbox returns an inbox on db.
func NewInbox(db *bun.DB) *Inbox { return &Inbox{db: db} }

// Once implements the port. The record is written before the effect, so that a concurrent copy waits for this transaction
// before it does anything.
func (i *Inbox) Once(
	ctx context.Context, subscriber string, entry outbox.Entry, fn func(ctx context.Context, tx inbox.Tx) error,
) (applied bool, err error) {
	first := false
	err = transact(ctx, i.db, func(ctx context.Context, tx bun.Tx) error {
		var err error
		if first, err = record(ctx, tx, subscriber, entry); err != nil || !first {
			return err
		}
		return fn(ctx, inbox.Tx{Totals: &totals{tx: tx, subscriber: subscriber}})
	})
	return first && err == nil, err
}

// record reports whether entry is new to subscriber.
func record(ctx context.Context, tx bun.Tx, subscriber string, entry outbox.Entry) (bool, error) {
	result, err := tx.NewInsert().Model(&inboxRow{
		Subscriber:       subscriber,
		EventID:          entry.ID,
		AggregateType:    entry.Key.Type,
		AggregateID:      entry.Key.ID,
		AggregateVersion: entry.Version,
		Position:         int64(entry.Position),
	}).On("CONFLICT DO NOTHING").Exec(ctx)
	if err != nil {
		return false, classify(ctx, err)
	}
	inserted, err := result.RowsAffected()
	return inserted > 0, classify(ctx, err)
}
