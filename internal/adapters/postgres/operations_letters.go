package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var _ operations.DeadLetterAdmin = (*Inbox)(nil)

const (
	// shownState computes the state of a letter from the other letters.
	shownState = `CASE WHEN state IN ('waiting', 'retrying') THEN CASE WHEN ` + earlier + ` THEN 'waiting' ELSE 'retrying' END ELSE state END AS shown`

	// behind counts the letters that wait behind a pending letter.
	behind = `(
	SELECT count(*) FROM dead_letters AS later
	WHERE letter.state IN ` + pendingStates + ` AND later.subscriber = letter.subscriber
		AND hashtextextended(later.aggregate_id, hashtextextended(later.aggregate_type, 0)) =
			hashtextextended(letter.aggregate_id, hashtextextended(letter.aggregate_type, 0))
		AND later.aggregate_type = letter.aggregate_type AND later.aggregate_id = letter.aggregate_id
		AND later.position > letter.position AND later.state IN ('waiting', 'retrying')) AS behind`
)

// Letter runs one statement.
func (i *Inbox) Letter(ctx context.Context, subscriber, id string) (inbox.Letter, error) {
	row, err := readLetter(ctx, i.db.NewSelect(), subscriber, id)
	return row.letter(), err
}

// readLetter reads a letter, and computes its state from the other letters. If there is no letter, readLetter returns inbox.ErrNoLetter.
func readLetter(ctx context.Context, query *bun.SelectQuery, subscriber, id string) (letterRow, error) {
	var row letterRow
	err := query.Model(&row).ColumnExpr(letterColumns).ColumnExpr(shownState).ColumnExpr(behind).
		Where("subscriber = ? AND event_id = ?", subscriber, letterID(id)).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return letterRow{}, inbox.ErrNoLetter.With("subscriber %s has no dead letter %s", subscriber, id)
	}
	return row, classify(ctx, err)
}

// Retry waits for a transaction that works on the letter.
func (i *Inbox) Retry(ctx context.Context, subscriber, id string) error {
	return transact(ctx, i.db, func(ctx context.Context, tx bun.Tx) error {
		row, err := readLetter(ctx, tx.NewSelect().For("UPDATE OF letter"), subscriber, id)
		if err != nil {
			return err
		}
		switch letter := row.letter(); {
		case letter.State == inbox.Discarded:
			return inbox.ErrNoLetter.With("event %s was discarded for subscriber %s", id, subscriber)
		case !letter.Readable():
			return inbox.ErrNotDead.With("message %s is not an event, so nothing can handle it: it can only be discarded", id)
		case letter.State == inbox.Waiting:
			return inbox.ErrNotDead.With("event %s waits behind an earlier event of %s: retry the earlier event", id, letter.Key)
		case letter.State != inbox.Dead:
			return inbox.ErrNotDead.With("event %s is being retried already, and has failed %d times", id, letter.Attempts)
		}
		_, err = tx.ExecContext(ctx, retryStatement, subscriber, pgdialect.Array([]string{row.EventID}))
		return classify(ctx, err)
	})
}

// Discard waits for a transaction that works on the letter: both lock the letter's row. The event's row in inbox makes the lane drop the
// event.
func (i *Inbox) Discard(ctx context.Context, subscriber, id string) error {
	applied := false
	err := transact(ctx, i.db, func(ctx context.Context, tx bun.Tx) error {
		row, err := readLetter(ctx, tx.NewSelect().For("UPDATE OF letter"), subscriber, id)
		if err != nil {
			return err
		}
		letter := row.letter()
		if letter.State == inbox.Discarded {
			return inbox.ErrNoLetter.With("event %s was discarded for subscriber %s before", id, subscriber)
		}
		if applied, err = recordDiscarded(ctx, tx, subscriber, letter.Entry); err != nil {
			return err
		}
		if applied {
			_, err = tx.ExecContext(ctx, "DELETE FROM dead_letters WHERE subscriber = ? AND event_id = ?", subscriber, row.EventID)
			err = classify(ctx, err)
		} else {
			letter.State = inbox.Discarded
			_, err = changeLetter(ctx, tx, subscriber, letter, 0)
		}
		if err != nil {
			return err
		}
		return promoteHead(ctx, tx, subscriber, letter.Key)
	})
	if err == nil && applied {
		return inbox.ErrNoLetter.With("event %s was applied by subscriber %s before", id, subscriber)
	}
	return err
}

// recordDiscarded records that the event must not be applied, even if it comes again. It reports whether the event was applied before.
func recordDiscarded(ctx context.Context, tx bun.Tx, subscriber string, entry outbox.Entry) (applied bool, err error) {
	if !isUUID(entry.ID) {
		return false, nil // such an event is never applied
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO inbox
		(subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, sequence, applied_at)
		SELECT ?0, ?1::text::uuid, coalesce(aggregate_type, ''), coalesce(aggregate_id, ''), coalesce(aggregate_version, 0), coalesce(position, 0), _sequence, NULL
		FROM dead_letters WHERE subscriber = ?0 AND event_id = ?1 ON CONFLICT DO NOTHING`, subscriber, entry.ID)
	if err != nil {
		return false, classify(ctx, err)
	}
	err = tx.QueryRowContext(ctx, `SELECT applied_at IS NOT NULL FROM inbox WHERE subscriber = ? AND event_id = ?`,
		subscriber, entry.ID).Scan(&applied)
	return applied, classify(ctx, err)
}

// changeLetter stores a decision about a letter. If the letter will be tried again, it is due after wait.
func changeLetter(
	ctx context.Context, tx bun.Tx, subscriber string, letter inbox.Letter, wait time.Duration,
) (deadAt time.Time, err error) {
	var dead bun.NullTime
	err = tx.QueryRowContext(ctx, `UPDATE dead_letters SET state = ?2, error = ?3, attempts = ?4,
			due_at = clock_timestamp() + ?5 * interval '1 microsecond',
			dead_at = CASE WHEN state <> 'dead' AND ?2 = 'dead' THEN clock_timestamp() ELSE dead_at END,
			changed_at = CASE WHEN state <> ?2 THEN clock_timestamp() ELSE changed_at END,
			_no_handler = CASE WHEN ?6 AND ?2 = 'dead' THEN true END
		WHERE subscriber = ?0 AND event_id = ?1 RETURNING dead_at`,
		subscriber, letterID(letter.ID), string(letter.State), text(letter.Error), letter.Attempts, wait.Microseconds(),
		letter.NoHandler).Scan(&dead)
	return dead.Time, classify(ctx, err)
}

// CountDead uses the index dead_letters_listed.
func (i *Inbox) CountDead(ctx context.Context, subscriber string) (int, error) {
	dead := 0
	err := i.db.QueryRowContext(ctx, "SELECT count(*) FROM dead_letters WHERE subscriber = ? AND state = 'dead' AND "+listed, subscriber).Scan(&dead)
	return dead, classify(ctx, err)
}

// subscribersStatement jumps from name to name by the primary keys, however many rows each name has.
const subscribersStatement = `
WITH RECURSIVE names AS (
	SELECT least((SELECT min(subscriber) FROM inbox), (SELECT min(subscriber) FROM dead_letters),
		(SELECT min(subscriber) FROM subscriber_lanes)) AS name
	UNION ALL
	SELECT least((SELECT min(subscriber) FROM inbox WHERE subscriber > name), (SELECT min(subscriber) FROM dead_letters WHERE subscriber > name),
		(SELECT min(subscriber) FROM subscriber_lanes WHERE subscriber > name)) FROM names WHERE name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL`

// Subscribers runs one statement.
func (i *Inbox) Subscribers(ctx context.Context) ([]string, error) {
	var names []string
	err := i.db.NewRaw(subscribersStatement).Scan(ctx, &names)
	return names, classify(ctx, err)
}
