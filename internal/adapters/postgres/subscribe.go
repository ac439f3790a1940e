package postgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	// wantsStatement counts the types that the subscriber does not want yet, and locks nothing.
	wantsStatement = `
SELECT s.handler, s.forgotten_at, (
	SELECT count(*) FROM unnest(?1::text[]) AS asked (event_type) WHERE NOT EXISTS (
		SELECT FROM subscriber_types AS t WHERE t.subscriber = ?0 AND t.event_type = asked.event_type))
FROM (SELECT) AS always LEFT JOIN subscribers AS s ON s.subscriber = ?0`

	// lockSubscriberStatement makes the row if need be, and locks it.
	lockSubscriberStatement = `
INSERT INTO subscribers (subscriber) VALUES (?0)
ON CONFLICT (subscriber) DO UPDATE SET subscriber = excluded.subscriber RETURNING handler, forgotten_at`

	// nameHandlerStatement names a handler where there is none.
	nameHandlerStatement = "UPDATE subscribers SET handler = ?1 WHERE subscriber = ?0 AND handler IS NULL"

	// wantStatement returns how many types are new. Events of a new type before the log's end may be before the checkpoints too.
	wantStatement = `
WITH added AS (
	INSERT INTO subscriber_types (subscriber, event_type, since)
	SELECT DISTINCT ?0, asked.event_type, (SELECT coalesce(max(position), 0) FROM outbox) FROM unnest(?1::text[]) AS asked (event_type)
	ON CONFLICT DO NOTHING RETURNING event_type
)
SELECT count(*) FROM added`

	// lockLanesStatement waits for the batches under way.
	lockLanesStatement = "SELECT FROM subscriber_lanes WHERE subscriber = ?0 ORDER BY lane FOR UPDATE"

	// reviseStatement lets no batch commit that was made before.
	reviseStatement = "UPDATE subscriber_lanes SET revision = revision + 1 WHERE subscriber = ?0"
)

// Subscribe asks once if there is nothing to change, and locks nothing then. Else it locks what an operator locks.
func (i *Inbox) Subscribe(ctx context.Context, subscriber, handler string, types []string) error {
	row := subscriberRow{subscriber: subscriber}
	missing := 0
	err := i.db.QueryRowContext(ctx, wantsStatement, subscriber, pgdialect.Array(types)).Scan(&row.handler, &row.forgotten, &missing)
	if err != nil {
		return classify(ctx, err)
	}
	if err := row.allows(handler); err != nil || row.handler.Valid && missing == 0 {
		return err
	}
	return transact(ctx, i.db, func(ctx context.Context, tx bun.Tx) error {
		row, err := lockSubscriber(ctx, tx, subscriber)
		if err != nil {
			return err
		}
		if err := row.allows(handler); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, nameHandlerStatement, subscriber, handler); err != nil {
			return classify(ctx, err)
		}
		if err := lockLanes(ctx, tx, subscriber); err != nil {
			return err
		}
		added := 0
		if err := tx.QueryRowContext(ctx, wantStatement, subscriber, pgdialect.Array(types)).Scan(&added); err != nil || added == 0 {
			return classify(ctx, err)
		}
		return revise(ctx, tx, subscriber)
	})
}

// subscriberRow is what is decided about a subscriber.
type subscriberRow struct {
	subscriber string
	handler    sql.NullString
	forgotten  sql.Null[time.Time]
}

// allows reports why a copy with this handler cannot work.
func (r subscriberRow) allows(handler string) error {
	switch {
	case r.forgotten.Valid:
		return forgot(r.subscriber)
	case r.handler.Valid && r.handler.String != handler:
		return inbox.ErrOtherHandler.With("subscriber %s has the handler %s, not %s", r.subscriber, r.handler.String, handler)
	}
	return nil
}

func forgot(subscriber string) error {
	return inbox.ErrForgotten.With("subscriber %s was forgotten", subscriber)
}

// lockSubscriber locks the row of a subscriber, until the transaction ends. Whoever changes what is decided about a subscriber does that
// first, then locks the lanes, and then revises them.
func lockSubscriber(ctx context.Context, tx bun.Tx, subscriber string) (row subscriberRow, err error) {
	row.subscriber = subscriber
	err = tx.QueryRowContext(ctx, lockSubscriberStatement, subscriber).Scan(&row.handler, &row.forgotten)
	return row, classify(ctx, err)
}

// lockLanes locks all lanes of a subscriber, in order.
func lockLanes(ctx context.Context, tx bun.Tx, subscriber string) error {
	_, err := tx.ExecContext(ctx, lockLanesStatement, subscriber)
	return classify(ctx, err)
}

// revise gives each lane of a subscriber a new revision.
func revise(ctx context.Context, tx bun.Tx, subscriber string) error {
	_, err := tx.ExecContext(ctx, reviseStatement, subscriber)
	return classify(ctx, err)
}
