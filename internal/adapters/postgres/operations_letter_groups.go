package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// undecidedRow is a dead letter without the payload and the headers of its event.
type undecidedRow struct {
	EventID       string
	AggregateType string
	AggregateID   string
	Position      int64
	EventType     string
	Error         string
	FirstFailedAt time.Time
	DeadAt        time.Time
	DueAt         time.Time
	Until         time.Time
	Behind        int
}

func (r undecidedRow) undecided() operations.UndecidedEvent {
	return operations.UndecidedEvent{
		Position: outbox.Position(r.Position), EventID: r.EventID, Key: outbox.Key{Type: r.AggregateType, ID: r.AggregateID}, Type: r.EventType,
		Reason: r.Error, First: r.FirstFailedAt, Last: r.DeadAt, EventsBehind: r.Behind,
	}
}

const undecidedColumns = `letter.event_id, coalesce(letter.aggregate_type, '') AS aggregate_type, coalesce(letter.aggregate_id, '') AS aggregate_id,
	coalesce(letter.position, 0) AS position, coalesce(letter.event_type, '') AS event_type, left(letter.error, ?1) AS error,
	letter.first_failed_at, coalesce(letter.dead_at, letter.changed_at) AS dead_at`

// eachUndecidedStatement reads all dead letters of a subscriber, and joins them to held: the dead letters behind which others wait. A letter
// that waits behind several dead letters is counted for the last of them. held reads only the aggregates that have waiting letters. The
// planner does not know how few these are, so held first counts the waiting letters by the index dead_letters_listed. GROUP BY tells the
// planner that held has each letter once; otherwise the planner would make a hash table of all dead letters instead of held.
var eachUndecidedStatement = `
SELECT ` + undecidedColumns + `, coalesce(held.behind, 0)
FROM dead_letters AS letter LEFT JOIN (
	SELECT event_id, max(behind) AS behind FROM (
		SELECT event_id, coalesce(lead(number) OVER (PARTITION BY aggregate_type, aggregate_id ORDER BY position), all_letters + 1) - number - 1 AS behind
		FROM (
			SELECT event_id, aggregate_type, aggregate_id, position, state,
				row_number() OVER (PARTITION BY aggregate_type, aggregate_id ORDER BY position) AS number,
				count(*) OVER (PARTITION BY aggregate_type, aggregate_id) AS all_letters
			FROM dead_letters
			WHERE subscriber = ?0 AND state IN ` + pendingStates + ` AND ` + letterAggregate + ` = ANY (ARRAY (
				SELECT DISTINCT ` + letterAggregate + ` FROM dead_letters WHERE subscriber = ?0 AND state IN ('waiting', 'retrying')
					AND (SELECT count(*) FROM dead_letters WHERE subscriber = ?0 AND state IN ('waiting', 'retrying') AND ` + listed + `) > 0))
		) AS pending
		WHERE state = 'dead'
	) AS counted GROUP BY event_id
) AS held ON held.event_id = letter.event_id
WHERE letter.subscriber = ?0 AND letter.state = 'dead' AND letter.` + listed

// EachUndecided runs one statement, and reads its rows one by one.
func (i *Inbox) EachUndecided(ctx context.Context, subscriber string, visit func(operations.UndecidedEvent) bool) error {
	ctx = allow(ctx, operatorTime)
	rows, err := i.db.QueryContext(ctx, eachUndecidedStatement, subscriber, fault.LongestReason)
	if err != nil {
		return classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r undecidedRow
		err := rows.Scan(&r.EventID, &r.AggregateType, &r.AggregateID, &r.Position, &r.EventType, &r.Error, &r.FirstFailedAt, &r.DeadAt, &r.Behind)
		if err != nil {
			return classify(ctx, err)
		}
		if !visit(r.undecided()) {
			return nil
		}
	}
	return classify(ctx, rows.Err())
}

// undecidedStatement continues in the order of the index dead_letters_due.
const undecidedStatement = `
SELECT ` + undecidedColumns + `, letter.due_at, coalesce(?5, statement_timestamp()) AS until
FROM dead_letters AS letter
WHERE letter.subscriber = ?0 AND letter.state = 'dead' AND letter.due_at >= ?3 AND (letter.due_at, letter.event_id) > (?3, ?4)
	AND coalesce(letter.dead_at, letter.changed_at) <= coalesce(?5, statement_timestamp())
ORDER BY letter.due_at, letter.event_id LIMIT ?2`

// Undecided runs one statement.
func (i *Inbox) Undecided(
	ctx context.Context, subscriber string, after operations.DeadLetterCursor, limit int,
) ([]operations.UndecidedEvent, operations.DeadLetterCursor, error) {
	ctx = allow(ctx, operatorTime)
	var rows []undecidedRow
	until := bun.NullTime{Time: after.Until}
	err := i.db.NewRaw(undecidedStatement, subscriber, fault.LongestReason, max(limit, 0), after.DueAt, after.ID, until).Scan(ctx, &rows)
	if err != nil {
		return nil, after, classify(ctx, err)
	}
	found := make([]operations.UndecidedEvent, 0, len(rows))
	for _, row := range rows {
		found = append(found, row.undecided())
		after = operations.DeadLetterCursor{Until: row.Until, DueAt: row.DueAt, ID: row.EventID}
	}
	return found, after, nil
}

// lockChosenStatement locks letters in the order of their positions, as Redeliver does.
const lockChosenStatement = `SELECT ` + undecidedColumns + ` FROM dead_letters AS letter
	WHERE letter.subscriber = ?0 AND letter.event_id = ANY (?2::text[]) AND letter.state = 'dead' ORDER BY letter.position FOR UPDATE`

// lockChosen locks the letters that are dead and belong to the choice, and returns them in order.
func lockChosen(ctx context.Context, tx bun.Tx, subscriber string, ids []string, choice operations.Choice) ([]operations.UndecidedEvent, error) {
	asked := make([]string, len(ids))
	for i, id := range ids {
		asked[i] = letterID(id)
	}
	var rows []undecidedRow
	err := tx.NewRaw(lockChosenStatement, subscriber, fault.LongestReason, pgdialect.Array(asked)).Scan(ctx, &rows)
	if err != nil {
		return nil, classify(ctx, err)
	}
	var chosen []operations.UndecidedEvent
	included := choice.Matcher()
	for _, row := range rows {
		if letter := row.undecided(); included(letter) {
			chosen = append(chosen, letter)
		}
	}
	return chosen, nil
}

// retryStatement changes letters that are locked. A letter that is not the head gets the state 'waiting', so that programs of earlier
// versions do not try it too early.
const retryStatement = `
UPDATE dead_letters AS letter SET state = CASE WHEN ` + earlier + ` THEN 'waiting' ELSE 'retrying' END, attempts = 0,
	due_at = clock_timestamp(), changed_at = clock_timestamp(), _no_handler = NULL
WHERE subscriber = ?0 AND event_id = ANY (?1::text[]) AND state = 'dead'`

// RetryChosen waits for the transactions that work on the letters.
func (i *Inbox) RetryChosen(ctx context.Context, subscriber string, ids []string, choice operations.Choice) (retried int, err error) {
	err = transact(ctx, i.db, func(ctx context.Context, tx bun.Tx) error {
		chosen, err := lockChosen(ctx, tx, subscriber, ids, choice)
		if err != nil {
			return err
		}
		chosen = slices.DeleteFunc(chosen, func(u operations.UndecidedEvent) bool { return u.Position == 0 })
		retried, err = affected(ctx)(tx.ExecContext(ctx, retryStatement, subscriber, pgdialect.Array(idsOf(chosen))))
		return err
	})
	if err != nil {
		return 0, err
	}
	return retried, nil
}

func idsOf(letters []operations.UndecidedEvent) []string {
	ids := make([]string, len(letters))
	for i, letter := range letters {
		ids[i] = letter.EventID
	}
	return ids
}

const (
	recordChosenStatement = `
INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, sequence, applied_at)
SELECT subscriber, event_id::uuid, coalesce(aggregate_type, ''), coalesce(aggregate_id, ''), coalesce(aggregate_version, 0), coalesce(position, 0), _sequence, NULL
FROM dead_letters WHERE subscriber = ?0 AND event_id = ANY (?1::text[]) ORDER BY position ON CONFLICT DO NOTHING`

	// endChosenStatement deletes the letters of events that were applied. No program leaves such a letter; an operator may have made it
	// with SQL.
	endChosenStatement = `
DELETE FROM dead_letters AS letter WHERE letter.subscriber = ?0 AND letter.event_id = ANY (?1::text[])
	AND (SELECT true FROM inbox AS i WHERE i.subscriber = ?0 AND i.event_id = ` + eventID + ` AND i.applied_at IS NOT NULL)`

	discardChosenStatement = `
UPDATE dead_letters SET state = 'discarded', changed_at = clock_timestamp(), _no_handler = NULL
WHERE subscriber = ?0 AND event_id = ANY (?1::text[])`

	// promoteChosenStatement promotes the heads of aggregates, as promoteHeadStatement does.
	promoteChosenStatement = `
WITH first AS MATERIALIZED (
	SELECT (SELECT letter.event_id FROM dead_letters AS letter
		WHERE letter.subscriber = ?0 AND hashtextextended(letter.aggregate_id, hashtextextended(letter.aggregate_type, 0)) =
				hashtextextended(asked.id, hashtextextended(asked.type, 0))
			AND letter.aggregate_type = asked.type AND letter.aggregate_id = asked.id AND letter.state IN ` + pendingStates + `
		ORDER BY letter.position LIMIT 1) AS event_id
	FROM unnest(?1::text[], ?2::text[]) AS asked (type, id)
), free AS (
	SELECT event_id FROM dead_letters
	WHERE subscriber = ?0 AND event_id = ANY (ARRAY (SELECT event_id FROM first)) AND state = 'waiting' FOR UPDATE SKIP LOCKED
)
UPDATE dead_letters SET state = 'retrying', attempts = 0, due_at = clock_timestamp(), changed_at = clock_timestamp()
WHERE subscriber = ?0 AND event_id = ANY (ARRAY (SELECT event_id FROM free))`
)

// DiscardChosen waits for the transactions that work on the letters. As in Discard, the row in inbox makes the lane drop the event.
func (i *Inbox) DiscardChosen(ctx context.Context, subscriber string, ids []string, choice operations.Choice) (discarded int, err error) {
	err = transact(ctx, i.db, func(ctx context.Context, tx bun.Tx) error {
		chosen, err := lockChosen(ctx, tx, subscriber, ids, choice)
		if err != nil || len(chosen) == 0 {
			return err
		}
		all := idsOf(chosen)
		events := slices.DeleteFunc(slices.Clone(all), func(id string) bool { return !isUUID(id) })
		for _, statement := range []string{recordChosenStatement, endChosenStatement} {
			if _, err := tx.ExecContext(ctx, statement, subscriber, pgdialect.Array(events)); err != nil {
				return classify(ctx, err)
			}
		}
		discarded, err = affected(ctx)(tx.ExecContext(ctx, discardChosenStatement, subscriber, pgdialect.Array(all)))
		if err != nil {
			return err
		}
		var types, names []string
		for _, letter := range chosen {
			types, names = append(types, letter.Key.Type), append(names, letter.Key.ID)
		}
		_, err = tx.ExecContext(ctx, promoteChosenStatement, subscriber, pgdialect.Array(types), pgdialect.Array(names))
		return classify(ctx, err)
	})
	if err != nil {
		return 0, err
	}
	return discarded, nil
}
