package interleavings_test

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// formerInbox sends the statements that the subscriber had before it was rebuilt, at commit f668941. During an update or its reversal, copies of
// both versions work side by side. Each method keeps the name that it had in the former version.
type formerInbox struct{ side *side }

var errFormerHeld = errors.New("held")

// do runs fn in a transaction. It returns a deadlock as an outage, so that the caller tries again.
func (b formerInbox) do(ctx context.Context, fn func(tx bun.Tx) error) error {
	err := b.side.db.RunInTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted}, func(_ context.Context, tx bun.Tx) error { return fn(tx) })
	return outage(err)
}

func outage(err error) error {
	var reported *pgconn.PgError
	if errors.As(err, &reported) && reported.Code == "40P01" {
		return postgres.ErrUnavailable.Wrap(err)
	}
	return err
}

// rowsOf returns how many rows a statement changed.
func rowsOf(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Once applies an event that was neither applied nor discarded.
func (b formerInbox) Once(ctx context.Context, entry outbox.Entry) (applied bool, err error) {
	h := &handler{harness: b.side.harness}
	err = b.do(ctx, func(tx bun.Tx) error {
		if applied, err = b.record(ctx, tx, entry); err != nil || !applied {
			return err
		}
		if err := h.harness.recordEarly(ctx, entry, nil); err != nil {
			return err
		}
		customer, amount := effectOf(entry.ID)
		_, err := tx.ExecContext(ctx, `INSERT INTO customer_totals AS total_row (subscriber, customer_id, currency, amount_minor, orders)
			VALUES (?, ?, 'EUR', ?, 1) ON CONFLICT (subscriber, customer_id, currency) DO UPDATE
			SET amount_minor = total_row.amount_minor + EXCLUDED.amount_minor, orders = total_row.orders + EXCLUDED.orders`,
			subscriber, string(customer), amount)
		return err
	})
	return applied, err
}

func (b formerInbox) record(ctx context.Context, tx bun.Tx, entry outbox.Entry) (bool, error) {
	recorded, err := rowsOf(tx.ExecContext(ctx, `
INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position)
SELECT ?0, ?1, ?2, ?3, ?4, ?5
WHERE set_config('idle_in_transaction_session_timeout', ?6, true) IS NOT NULL AND NOT EXISTS (
	SELECT FROM dead_letters
	WHERE subscriber = ?0 AND aggregate_type = ?2 AND aggregate_id = ?3 AND position <= ?5 AND state <> 'discarded')
ON CONFLICT DO NOTHING`, subscriber, entry.ID, entry.Key.Type, entry.Key.ID, entry.Version, int64(entry.Position), "3600000"))
	if err != nil || recorded > 0 {
		return recorded > 0, err
	}
	if applied, err := wasApplied(ctx, tx, entry.ID); err != nil || applied {
		return false, err
	}
	state, _, err := lockLetter(ctx, tx, entry.ID)
	switch {
	case err != nil:
		return false, err
	case state == inbox.Retrying:
		return b.resume(ctx, tx, entry)
	case state != "" && state != inbox.Failing:
		return false, nil
	}
	held, err := lockFormer(ctx, tx, entry)
	if err != nil {
		return false, err
	}
	if held {
		return false, errFormerHeld
	}
	return b.resume(ctx, tx, entry)
}

func (b formerInbox) resume(ctx context.Context, tx bun.Tx, entry outbox.Entry) (bool, error) {
	ended, err := rowsOf(tx.ExecContext(ctx, "DELETE FROM dead_letters WHERE subscriber = ? AND event_id = ?", subscriber, entry.ID))
	if err != nil {
		return false, err
	}
	recorded, err := rowsOf(tx.ExecContext(ctx, `
INSERT INTO inbox AS i (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (subscriber, event_id) DO UPDATE SET applied_at = clock_timestamp()
	WHERE i.applied_at IS NULL AND ?`, subscriber, entry.ID, entry.Key.Type, entry.Key.ID, entry.Version, int64(entry.Position), ended > 0))
	if err == nil && ended > 0 {
		err = release(ctx, tx, entry.Key)
	}
	return recorded > 0, err
}

// lockLetter locks an event's letter and returns its state and attempts. If there is no letter, the state is empty.
func lockLetter(ctx context.Context, tx bun.Tx, id string) (state inbox.LetterState, attempts int, err error) {
	err = tx.QueryRowContext(ctx, `SELECT state, attempts FROM dead_letters AS letter WHERE (subscriber = ? AND event_id = ?) FOR UPDATE`,
		subscriber, id).Scan(&state, &attempts)
	if errors.Is(err, sql.ErrNoRows) {
		return "", 0, nil
	}
	return state, attempts, err
}

const formerPending = "('dead', 'waiting', 'retrying')"

func lockFormer(ctx context.Context, tx bun.Tx, entry outbox.Entry) (bool, error) {
	var id string
	err := tx.QueryRowContext(ctx, `SELECT event_id FROM dead_letters
		WHERE subscriber = ? AND aggregate_type = ? AND aggregate_id = ? AND position < ? AND state IN `+formerPending+`
		ORDER BY position DESC LIMIT 1 FOR SHARE`, subscriber, entry.Key.Type, entry.Key.ID, int64(entry.Position)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func release(ctx context.Context, tx bun.Tx, aggregate outbox.Key) error {
	_, err := tx.ExecContext(ctx, `UPDATE dead_letters
		SET state = 'retrying', attempts = 0, due_at = clock_timestamp(), changed_at = clock_timestamp()
		WHERE subscriber = ?0 AND state = 'waiting' AND event_id = (
			SELECT event_id FROM dead_letters
			WHERE subscriber = ?0 AND aggregate_type = ?1 AND aggregate_id = ?2 AND state IN `+formerPending+`
			ORDER BY position LIMIT 1)`, subscriber, aggregate.Type, aggregate.ID)
	return err
}

func wasApplied(ctx context.Context, tx bun.Tx, id string) (applied bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (
		SELECT FROM inbox WHERE subscriber = ? AND event_id = ? AND applied_at IS NOT NULL)`, subscriber, id).Scan(&applied)
	return applied, err
}

// settleFormer records the event in the inbox without an effect, unless its letter is failing: a failing event comes again. It reports whether
// the event was applied before.
func settleFormer(ctx context.Context, tx bun.Tx, entry outbox.Entry, state inbox.LetterState) (applied bool, err error) {
	if numberOf(entry.ID) < 0 {
		return false, nil // its id is not a UUID
	}
	if state != inbox.Failing {
		_, err = tx.ExecContext(ctx, `INSERT INTO inbox
			(subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, applied_at)
			VALUES (?, ?, ?, ?, ?, ?, NULL) ON CONFLICT DO NOTHING`,
			subscriber, entry.ID, entry.Key.Type, entry.Key.ID, entry.Version, int64(entry.Position))
		if err != nil {
			return false, err
		}
	}
	return wasApplied(ctx, tx, entry.ID)
}

func updateLetter(ctx context.Context, tx bun.Tx, id string, state inbox.LetterState, cause string, attempts int) error {
	var dead bun.NullTime
	return tx.QueryRowContext(ctx, `UPDATE dead_letters SET state = ?2, error = ?3, attempts = ?4,
			due_at = clock_timestamp() + ?5 * interval '1 microsecond',
			dead_at = CASE WHEN state <> 'dead' AND ?2 = 'dead' THEN clock_timestamp() ELSE dead_at END,
			changed_at = CASE WHEN state <> ?2 THEN clock_timestamp() ELSE changed_at END
		WHERE subscriber = ?0 AND event_id = ?1 RETURNING dead_at`,
		subscriber, id, string(state), cause, attempts, (2 * leaseTTL).Microseconds()).Scan(&dead)
}

func deleteLetter(ctx context.Context, tx bun.Tx, id string) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM dead_letters WHERE subscriber = ? AND event_id = ?", subscriber, id)
	return err
}
