package postgres

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

var (
	_ inbox.LetterDesk = (*Inbox)(nil)
	_ inbox.Sweeper    = (*Inbox)(nil)
)

// behind counts what waits behind a letter.
const behind = `(
	SELECT count(*) FROM dead_letters AS later
	WHERE later.subscriber = letter.subscriber AND hashtextextended(later.aggregate_id, hashtextextended(later.aggregate_type, 0)) =
			hashtextextended(letter.aggregate_id, hashtextextended(letter.aggregate_type, 0))
		AND later.aggregate_type = letter.aggregate_type
		AND later.aggregate_id = letter.aggregate_id AND later.position > letter.position AND later.state = 'waiting') AS behind`

// Letters implements the port.
func (i *Inbox) Letters(ctx context.Context, subscriber string, limit int) ([]inbox.Letter, error) {
	ctx = allow(ctx, counting)
	var rows []letterRow
	err := i.db.NewSelect().Model(&rows).ColumnExpr(letterColumns).ColumnExpr(behind).
		Where("subscriber = ? AND state IN ('dead', 'failing', 'retrying')", subscriber).
		OrderExpr("position NULLS FIRST, first_failed_at").Limit(int64(limit)).Scan(ctx)
	if err != nil {
		return nil, classify(ctx, err)
	}
	letters := make([]inbox.Letter, 0, len(rows))
	for _, row := range rows {
		letters = append(letters, row.letter())
	}
	return letters, nil
}

// Letter implements the port.
func (i *Inbox) Letter(ctx context.Context, subscriber, id string) (inbox.Letter, error) {
	var row letterRow
	err := i.db.NewSelect().Model(&row).ColumnExpr(letterColumns).ColumnExpr(behind).
		Where("subscriber = ? AND event_id = ?", subscriber, letterID(id)).Scan(ctx)
	if err != nil {
		return inbox.Letter{}, letterError(ctx, err, subscriber, id)
	}
	return row.letter(), nil
}

const retryStatement = `
UPDATE dead_letters SET state = 'retrying', attempts = 0, due_at = clock_timestamp(), changed_at = clock_timestamp()
WHERE subscriber = ? AND state = 'dead' AND position IS NOT NULL`

// Retry implements the port.
func (i *Inbox) Retry(ctx context.Context, subscriber, id string) error {
	return transact(ctx, i.db, func(ctx context.Context, tx bun.Tx) error {
		row, err := lockLetter(ctx, tx, subscriber, id)
		if err != nil {
			return err
		}
		switch letter := row.letter(); {
		case letter.State == inbox.Discarded:
			return inbox.ErrNoLetter.With("event %s was discarded for subscriber %s", id, subscriber)
		case !letter.Readable():
			return inbox.ErrNotDead.With("message %s is not an event, so nothing can handle it: it can only be discarded", id)
		case letter.State == inbox.Waiting:
			return inbox.ErrNotDead.With("event %s waits behind an earlier one of %s and is handled after it: retry that one", id, letter.Key)
		case letter.State != inbox.Dead:
			return inbox.ErrNotDead.With("event %s is being tried already; so far it failed %d times", id, letter.Attempts)
		}
		_, err = tx.ExecContext(ctx, retryStatement+" AND event_id = ?", subscriber, row.EventID)
		return classify(ctx, err)
	})
}

// RetryAll implements the port.
func (i *Inbox) RetryAll(ctx context.Context, subscriber string) (int, error) {
	ctx = allow(ctx, counting)
	return affected(ctx)(i.db.ExecContext(ctx, retryStatement, subscriber))
}

// Discard implements the port.
func (i *Inbox) Discard(ctx context.Context, subscriber, id string) error {
	applied := false
	err := transact(ctx, i.db, func(ctx context.Context, tx bun.Tx) error {
		row, err := lockLetter(ctx, tx, subscriber, id)
		if err != nil {
			return err
		}
		letter := row.letter()
		if letter.State == inbox.Discarded {
			return inbox.ErrNoLetter.With("event %s was discarded for subscriber %s before", id, subscriber)
		}
		if applied, err = settle(ctx, tx, subscriber, letter.Entry, inbox.Discarded); err != nil {
			return err
		}
		if applied {
			err = deleteLetter(ctx, tx, subscriber, id)
		} else {
			letter.State = inbox.Discarded
			_, err = update(ctx, tx, subscriber, letter, 0)
		}
		if err != nil {
			return err
		}
		return release(ctx, tx, subscriber, letter.Key)
	})
	if err == nil && applied {
		return inbox.ErrNoLetter.With("event %s was applied by subscriber %s meanwhile", id, subscriber)
	}
	return err
}

// CountDead implements the port.
func (i *Inbox) CountDead(ctx context.Context, subscriber string) (int, error) {
	dead := 0
	err := i.db.QueryRowContext(ctx, "SELECT count(*) FROM dead_letters WHERE subscriber = ? AND state = 'dead'", subscriber).Scan(&dead)
	return dead, classify(ctx, err)
}

// subscribersStatement goes from name to name by the primary keys, however many rows each has.
const subscribersStatement = `
WITH RECURSIVE names AS (
	SELECT least((SELECT min(subscriber) FROM inbox), (SELECT min(subscriber) FROM dead_letters)) AS name
	UNION ALL
	SELECT least((SELECT min(subscriber) FROM inbox WHERE subscriber > name),
		(SELECT min(subscriber) FROM dead_letters WHERE subscriber > name)) FROM names WHERE name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL`

// Subscribers implements the port.
func (i *Inbox) Subscribers(ctx context.Context) ([]string, error) {
	var names []string
	err := i.db.NewRaw(subscribersStatement).Scan(ctx, &names)
	return names, classify(ctx, err)
}
