package postgres

import (
	"context"
	"math"
	"math/rand/v2"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// The head of an aggregate is its first pending letter. Only heads are tried. The state of a letter is only a hint: 'retrying' for a head,
// and 'waiting' for a letter behind it. The index dead_letters_due finds heads by this hint, and so do programs of earlier versions. A
// transaction that ends a head promotes the next letter, if that letter is visible and not locked. promoteHeads makes a missed promotion
// later.

// headsAtOnce is how many aggregates one call of promoteHeads looks at. Each of them costs some microseconds.
const headsAtOnce = 500

// promoteHeadsStatement walks from aggregate to aggregate by the index dead_letters_of. It starts at the digest ?1. It reads only the first
// pending letter of each aggregate. If two aggregates have the same digest, it sees the second one only when the first one has no pending
// letters.
const promoteHeadsStatement = `
WITH RECURSIVE head AS (
	(SELECT ` + letterAggregate + ` AS aggregate, event_id, state FROM dead_letters
	WHERE subscriber = ?0 AND ` + letterAggregate + ` >= ?1 AND state IN ` + pendingStates + `
	ORDER BY ` + letterAggregate + `, position LIMIT 1)
	UNION ALL
	SELECT next.* FROM head, LATERAL (
		SELECT ` + letterAggregate + ` AS aggregate, event_id, state FROM dead_letters
		WHERE subscriber = ?0 AND ` + letterAggregate + ` > head.aggregate AND state IN ` + pendingStates + `
		ORDER BY ` + letterAggregate + `, position LIMIT 1) AS next
), looked AS MATERIALIZED (
	SELECT event_id, state FROM head LIMIT ?2
), missed AS (
	SELECT event_id FROM dead_letters
	WHERE subscriber = ?0 AND event_id = ANY (ARRAY (SELECT event_id FROM looked WHERE state = 'waiting')) FOR UPDATE SKIP LOCKED
), noted AS (
	UPDATE dead_letters SET state = 'retrying', attempts = 0, due_at = clock_timestamp(), changed_at = clock_timestamp()
	WHERE subscriber = ?0 AND event_id = ANY (ARRAY (SELECT event_id FROM missed)) AND state = 'waiting' RETURNING event_id
)
SELECT (SELECT count(*) FROM looked), (SELECT count(*) FROM noted)`

// promoteHeads promotes the heads whose promotion was missed, and returns their number. It looks at all aggregates if there are at most
// headsAtOnce. If there are more, it looks at some, chosen at random. So each call is cheap, and each aggregate gets its turn in time.
func (i *Inbox) promoteHeads(ctx context.Context, subscriber string) (noted int, err error) {
	left := headsAtOnce
	for _, from := range []int64{int64(rand.Uint64()), math.MinInt64} { //nolint:gosec // no secret depends on it
		looked, found := 0, 0
		err := i.db.QueryRowContext(ctx, promoteHeadsStatement, subscriber, from, left).Scan(&looked, &found)
		if err != nil {
			return 0, classify(ctx, err)
		}
		noted += found
		if left -= looked; left == 0 {
			break
		}
	}
	return noted, nil
}

// promotionDue returns true for every sixteenth call of Redeliver. This call promotes heads although other letters are due. A head whose
// promotion was missed must not wait until all other letters are done.
func (i *Inbox) promotionDue() bool { return i.redeliveries.Add(1)%16 == 0 }

// endAppliedStatement waits for no lock. If a transaction has locked a letter, that transaction decides about it.
const endAppliedStatement = `
DELETE FROM dead_letters WHERE subscriber = ?0 AND state = 'failing' AND event_id = ANY (ARRAY (
	SELECT letter.event_id FROM dead_letters AS letter WHERE letter.subscriber = ?0 AND letter.state = 'failing'
		AND (SELECT true FROM inbox AS i WHERE i.subscriber = ?0 AND i.event_id = ` + eventID + ` AND i.applied_at IS NOT NULL)
	FOR UPDATE SKIP LOCKED))`

// endApplied ends failing letters of events that were applied. A program of an earlier version can leave such a letter: it inserts the
// letter while a lane applies the event, and neither sees the other's row.
func (i *Inbox) endApplied(ctx context.Context, subscriber string) error {
	_, err := i.db.ExecContext(ctx, endAppliedStatement, subscriber)
	return classify(ctx, err)
}

// promoteHeadStatement changes nothing if the letter is locked. The transaction that has locked the letter decides about it.
const promoteHeadStatement = `
WITH first AS MATERIALIZED (
	SELECT event_id FROM dead_letters WHERE subscriber = ?0 AND ` + ofAggregate + ` AND state IN ` + pendingStates + ` ORDER BY position LIMIT 1
), free AS (
	SELECT event_id FROM dead_letters
	WHERE subscriber = ?0 AND event_id = (SELECT event_id FROM first) AND state = 'waiting' FOR UPDATE SKIP LOCKED
)
UPDATE dead_letters SET state = 'retrying', attempts = 0, due_at = clock_timestamp(), changed_at = clock_timestamp()
WHERE subscriber = ?0 AND event_id = (SELECT event_id FROM free)`

// promoteHead promotes the head of an aggregate.
func promoteHead(ctx context.Context, tx bun.Tx, subscriber string, aggregate outbox.Key) error {
	_, err := tx.ExecContext(ctx, promoteHeadStatement, subscriber, text(aggregate.Type), text(aggregate.ID))
	return classify(ctx, err)
}
