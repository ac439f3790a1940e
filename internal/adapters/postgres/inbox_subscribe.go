package postgres

import (
	"context"
	"database/sql"
	"errors"
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

	// lockSubscriberStatement locks the subscriber's row, and inserts it first if it is missing. It does not wait for redeliveries, which
	// hold a key share of the row.
	lockSubscriberStatement = `
INSERT INTO subscribers AS s (subscriber) VALUES (?0)
ON CONFLICT (subscriber) DO UPDATE SET handler = s.handler RETURNING handler, forgotten_at`

	// nameHandlerStatement sets the handler if the subscriber has none.
	nameHandlerStatement = "UPDATE subscribers SET handler = ?1 WHERE subscriber = ?0 AND handler IS NULL"

	// wantStatement adds types, and returns how many of them are new.
	wantStatement = `
WITH added AS (
	INSERT INTO subscriber_types (subscriber, event_type)
	SELECT DISTINCT ?0, asked.event_type FROM unnest(?1::text[]) AS asked (event_type)
	ON CONFLICT DO NOTHING RETURNING event_type
)
SELECT count(*) FROM added`

	// lockLanesStatement waits for the batches that are under way.
	lockLanesStatement = "SELECT FROM subscriber_lanes WHERE subscriber = ?0 ORDER BY lane FOR UPDATE"

	// yieldStatement makes the subscriber yield: until the returned time no redelivery begins, and copies release their lanes.
	yieldStatement = `
UPDATE subscribers SET yields_until = clock_timestamp() + ?1 * interval '1 microsecond' WHERE subscriber = ?0 AND forgotten_at IS NULL
RETURNING yields_until::text`

	// endYieldStatement ends the yielding, unless somebody else has made the subscriber yield since.
	endYieldStatement = "UPDATE subscribers SET yields_until = NULL WHERE subscriber = ?0 AND yields_until = ?1::text::timestamptz"

	// reviseStatement raises each lane's revision. A batch that began with the old revision then cannot commit.
	reviseStatement = "UPDATE subscriber_lanes SET revision = revision + 1 WHERE subscriber = ?0"
)

// Subscribe needs one statement, and locks nothing, if there is nothing to change. Otherwise it takes the locks that an operator's command
// takes.
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
	return withYield(ctx, i.db, subscriber, func(ctx context.Context, tx bun.Tx) error {
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

// yieldsFor is the longest time for which a subscriber yields. After that it works again, because the process that asked may have died.
const yieldsFor = 15 * time.Second

// withYield runs a transaction that locks a subscriber's row and lanes. First it makes the subscriber yield, in a transaction of its own.
// Otherwise the lock might never be free, because redeliveries overlap each other and each lane has a batch under way.
func withYield(ctx context.Context, db *bun.DB, subscriber string, do func(ctx context.Context, tx bun.Tx) error) error {
	until := ""
	err := db.QueryRowContext(ctx, yieldStatement, subscriber, yieldsFor.Microseconds()).Scan(&until)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return classify(ctx, err)
	}
	endYield := func(db bun.IDB) error {
		if until == "" {
			return nil
		}
		_, err := db.ExecContext(ctx, endYieldStatement, subscriber, until)
		return classify(ctx, err)
	}
	err = transact(ctx, db, func(ctx context.Context, tx bun.Tx) error {
		if err := do(ctx, tx); err != nil {
			return err
		}
		return endYield(tx)
	})
	if err != nil && ctx.Err() == nil {
		_ = endYield(db) // if this fails, the yielding ends by itself after yieldsFor
	}
	return err
}

// subscriberRow holds the decisions of operators and copies about a subscriber.
type subscriberRow struct {
	subscriber string
	handler    sql.NullString
	forgotten  sql.Null[time.Time]
}

// allows returns why a copy with this handler cannot work, or nil.
func (r subscriberRow) allows(handler string) error {
	switch {
	case r.forgotten.Valid:
		return forgottenError(r.subscriber)
	case r.handler.Valid && r.handler.String != handler:
		return inbox.ErrOtherHandler.With("subscriber %s has the handler %s, not %s", r.subscriber, r.handler.String, handler)
	}
	return nil
}

func forgottenError(subscriber string) error {
	return inbox.ErrForgotten.With("subscriber %s was forgotten", subscriber)
}

// lockSubscriber locks the row of a subscriber until the transaction ends. A transaction that changes a decision about a subscriber first
// locks this row, then locks the lanes, and then revises them.
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
