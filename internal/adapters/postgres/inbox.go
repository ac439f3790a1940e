package postgres

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Inbox applies effects once, in a Postgres transaction, and keeps dead letters. The key of an event's row in inbox is
// what decides between copies that do different things about it: whoever inserts the row decides, and applied_at says how.
// Of an event that has a letter, the letter's row is locked before the inbox's is written.
type Inbox struct {
	db             *bun.DB
	abandonedAfter time.Duration
}

var _ inbox.UnitOfWork = (*Inbox)(nil)

// NewInbox returns an inbox on db.
func NewInbox(db *bun.DB) *Inbox { return &Inbox{db: db, abandonedAfter: abandonedAfter} }

// Once implements the port. The record is written before the effect, so that a concurrent copy waits for this transaction
// before it does anything. A transaction that lies idle for ten seconds, because its process is frozen or its machine is
// gone, is ended by Postgres, and the copy that waits goes on.
func (i *Inbox) Once(
	ctx context.Context, subscriber string, entry outbox.Entry, fn func(ctx context.Context, tx inbox.Tx) error,
) (applied bool, err error) {
	first := false
	err = transact(ctx, i.db, func(ctx context.Context, tx bun.Tx) error {
		var err error
		if first, err = i.record(ctx, tx, subscriber, entry); err != nil || !first {
			return err
		}
		return fn(ctx, inbox.Tx{Totals: &totals{tx: tx, subscriber: subscriber}})
	})
	return first && err == nil, err
}

// recordStatement takes the event, unless somebody has dealt with it or a letter of its aggregate is in the way. It also
// says when this transaction counts as abandoned.
const recordStatement = `
INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position)
SELECT ?0, ?3, ?1, ?2, ?4, ?5
WHERE set_config('idle_in_transaction_session_timeout', ?6, true) IS NOT NULL AND NOT EXISTS (
	SELECT FROM dead_letters WHERE subscriber = ?0 AND ` + ofAggregate + ` AND position <= ?5 AND state <> 'discarded')
ON CONFLICT DO NOTHING`

// record reports whether entry is to be applied now, and then holds its row.
func (i *Inbox) record(ctx context.Context, tx bun.Tx, subscriber string, entry outbox.Entry) (bool, error) {
	recorded, err := affected(ctx)(tx.ExecContext(ctx, recordStatement, subscriber, entry.Key.Type, entry.Key.ID, entry.ID,
		entry.Version, int64(entry.Position), strconv.FormatInt(i.abandonedAfter.Milliseconds(), 10)))
	if err != nil || recorded > 0 {
		return recorded > 0, err
	}
	if applied, err := wasApplied(ctx, tx, subscriber, entry.ID); err != nil || applied {
		return false, err
	}
	own, err := lockLetter(ctx, tx, subscriber, entry.ID)
	switch {
	case err != nil && !errors.Is(err, inbox.ErrNoLetter):
		return false, err
	case own.State == inbox.Retrying:
		return i.resume(ctx, tx, subscriber, entry)
	case err == nil && own.State != inbox.Failing:
		return false, nil
	}
	held, err := lockBefore(ctx, tx, subscriber, entry)
	if err != nil {
		return false, err
	}
	if held {
		return false, inbox.ErrHeld.With("an earlier event of %s was set aside", entry.Key)
	}
	return i.resume(ctx, tx, subscriber, entry)
}

// resumeStatement takes an event that nobody has applied, be it set aside or not.
const resumeStatement = `
INSERT INTO inbox AS i (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (subscriber, event_id) DO UPDATE SET applied_at = clock_timestamp()
	WHERE i.applied_at IS NULL AND ?`

// resume takes an event together with its letter, if it has one.
func (i *Inbox) resume(ctx context.Context, tx bun.Tx, subscriber string, entry outbox.Entry) (bool, error) {
	ended, err := affected(ctx)(tx.ExecContext(ctx, "DELETE FROM dead_letters WHERE subscriber = ? AND event_id = ?", subscriber, letterID(entry.ID)))
	if err != nil {
		return false, err
	}
	recorded, err := affected(ctx)(tx.ExecContext(ctx, resumeStatement, subscriber, entry.ID, entry.Key.Type, entry.Key.ID,
		entry.Version, int64(entry.Position), ended > 0))
	if err == nil && ended > 0 {
		err = release(ctx, tx, subscriber, entry.Key)
	}
	return recorded > 0, err
}

const (
	sweepAppliedStatement = `
DELETE FROM inbox WHERE (subscriber, event_id) IN (
	SELECT subscriber, event_id FROM inbox
	WHERE subscriber = ?0 AND applied_at < clock_timestamp() - ?1 * interval '1 microsecond' ORDER BY applied_at LIMIT ?2 FOR UPDATE SKIP LOCKED)`

	sweepDiscardedStatement = `
WITH swept AS (
	DELETE FROM dead_letters WHERE (subscriber, event_id) IN (
		SELECT subscriber, event_id FROM dead_letters
		WHERE subscriber = ?0 AND state = 'discarded' AND changed_at < clock_timestamp() - ?1 * interval '1 microsecond' LIMIT ?2 FOR UPDATE SKIP LOCKED)
	RETURNING event_id
), decided AS (
	DELETE FROM inbox WHERE subscriber = ?0 AND applied_at IS NULL AND event_id IN (
		SELECT event_id::uuid FROM swept WHERE event_id ~ '^[0-9a-f-]{36}$')
)
SELECT count(*) FROM swept`
)

// Sweep implements the port.
func (i *Inbox) Sweep(ctx context.Context, subscriber string, age time.Duration, limit int) (int, error) {
	applied, err := affected(ctx)(i.db.ExecContext(ctx, sweepAppliedStatement, subscriber, age.Microseconds(), limit))
	if err != nil {
		return 0, err
	}
	discarded := 0
	err = i.db.QueryRowContext(ctx, sweepDiscardedStatement, subscriber, age.Microseconds(), limit).Scan(&discarded)
	return applied + discarded, classify(ctx, err)
}

// affected classifies what a statement answered, and returns how many rows it touched.
func affected(ctx context.Context) func(result sql.Result, err error) (int, error) {
	return func(result sql.Result, err error) (int, error) {
		if err != nil {
			return 0, classify(ctx, err)
		}
		rows, err := result.RowsAffected()
		return int(rows), classify(ctx, err)
	}
}
