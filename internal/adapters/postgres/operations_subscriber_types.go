package postgres

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	// unwantStatement removes a type from those that the subscriber wants.
	unwantStatement = "DELETE FROM subscriber_types WHERE subscriber = ?0 AND event_type = ?1"

	// lockTypeStatement locks the pending letters of a type in the order of their positions, as every transaction does. No redelivery is
	// under way, and no lane inserts such a letter.
	lockTypeStatement = `
SELECT event_id FROM dead_letters
WHERE subscriber = ?0 AND event_type = ?1 AND state IN ` + pendingStates + ` ORDER BY position FOR UPDATE`

	// discardTypeStatement discards the locked letters. Their events have rows in inbox, unless an operator has deleted a row with SQL. Then
	// the statement inserts the row again. The next redelivery promotes the next letter of the aggregate.
	discardTypeStatement = `
WITH discarded AS (
	UPDATE dead_letters AS letter SET state = 'discarded', due_at = clock_timestamp(), changed_at = clock_timestamp(), _no_handler = NULL
	WHERE subscriber = ?0 AND event_type = ?1 AND state IN ` + pendingStates + `
	RETURNING subscriber, ` + eventID + ` AS event, aggregate_type, aggregate_id, aggregate_version, position, _sequence
), known AS (
	INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, sequence, applied_at)
	SELECT subscriber, event, coalesce(aggregate_type, ''), coalesce(aggregate_id, ''), coalesce(aggregate_version, 0),
		coalesce(position, 0), _sequence, NULL
	FROM discarded WHERE event IS NOT NULL ORDER BY position ON CONFLICT DO NOTHING
)
SELECT count(*) FROM discarded`
)

// Ignore waits for the batches and redeliveries under way.
func (o *Operator) Ignore(ctx context.Context, subscriber, eventType string) (discarded int, err error) {
	err = o.decide(ctx, subscriber, func(ctx context.Context, tx bun.Tx, _ []inbox.Checkpoint) error {
		wanted, err := affected(ctx)(tx.ExecContext(ctx, unwantStatement, subscriber, eventType))
		if err != nil {
			return err
		}
		if wanted == 0 {
			return inbox.ErrNotWanted.With("subscriber %s does not want events of the type %s", subscriber, eventType)
		}
		if err := run(ctx, tx, lockTypeStatement, subscriber, eventType); err != nil {
			return err
		}
		return classify(ctx, tx.QueryRowContext(ctx, discardTypeStatement, subscriber, eventType).Scan(&discarded))
	})
	if err != nil {
		return 0, err
	}
	return discarded, nil
}
