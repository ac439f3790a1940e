package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

var _ inbox.Sweeper = (*Inbox)(nil)

// candidateFactor bounds the rows that Candidates reads of each table: candidateFactor times its limit. So Candidates is cheap while the
// log keeps everything. The oldest events leave the log first, so a younger candidate does not wait for long behind older ones.
const candidateFactor = 4

const (
	uuidPattern = `'^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'`

	// eventID is the id of a letter's event, or NULL if inbox cannot have a row for this id.
	eventID = `CASE WHEN letter.event_id ~ ` + uuidPattern + ` THEN letter.event_id::uuid END`
)

// forgettableStatement assumes that an event with a row in the parking lot can be published, whatever the row's state. An event that was
// redriven is redriven again when the stream loses it. The log removes an event from both of its tables in one statement.
const forgettableStatement = `
WITH old AS (
	(SELECT event_id::text AS id, event_id AS event, position, applied_at AS since FROM inbox
	WHERE subscriber = ?0 AND applied_at < statement_timestamp() - ?2 * interval '1 microsecond'
	ORDER BY applied_at LIMIT ?4)
	UNION ALL
	(SELECT event_id, ` + eventID + `, position, changed_at FROM dead_letters AS letter
	WHERE subscriber = ?0 AND state = 'discarded' AND changed_at < statement_timestamp() - ?2 * interval '1 microsecond'
	ORDER BY changed_at LIMIT ?4)
), forgettable AS (
	SELECT id FROM old
	WHERE (SELECT true FROM outbox AS o WHERE o.event_id = old.event) IS NULL
		AND (SELECT true FROM outbox_parked AS p WHERE p.position = old.position AND p.event_id = old.event) IS NULL
	ORDER BY since LIMIT ?3
)
SELECT EXISTS (SELECT FROM outbox_cursor WHERE stream_created = ?1), ARRAY (SELECT id FROM forgettable)`

// Candidates runs one statement, so that it reads the log, its parking lot and its stream at one moment.
func (i *Inbox) Candidates(ctx context.Context, subscriber, stream string, age time.Duration, limit int) (ids []string, why string, err error) {
	ours := false
	err = i.db.QueryRowContext(ctx, forgettableStatement, subscriber, stream, age.Microseconds(), limit, candidateFactor*limit).
		Scan(&ours, pgdialect.Array(&ids))
	if err != nil {
		return nil, "", classify(ctx, fmt.Errorf("find inbox rows of subscriber %s that may be deleted: %w", subscriber, err))
	}
	if !ours {
		return nil, fmt.Sprintf("this database is not the one whose log fills the stream of %s: no inbox row is deleted, because only that "+
			"log shows which events it can publish again", stream), nil
	}
	return ids, "", nil
}

// forgetStatement leaves out the rows that a lane changes at the same moment, because the lane has just read their events.
const forgetStatement = `
WITH passed AS (
	SELECT FROM subscriber_lanes WHERE subscriber = ?0 HAVING bool_and(stream = ?1 AND sequence >= ?4)
), discarded AS (
	SELECT letter.event_id, ` + eventID + ` AS event FROM passed, dead_letters AS letter
	WHERE letter.subscriber = ?0 AND letter.event_id = ANY (?2::text[]) AND letter.state = 'discarded'
		AND coalesce(letter._sequence < ?3, true)
	FOR UPDATE OF letter SKIP LOCKED
), gone AS (
	SELECT event_id, event FROM discarded WHERE NOT EXISTS (
		SELECT FROM inbox AS i WHERE i.subscriber = ?0 AND i.event_id = discarded.event AND i.sequence >= ?3)
), applied AS (
	SELECT i.event_id FROM passed, inbox AS i
	WHERE i.subscriber = ?0 AND i.event_id = ANY (ARRAY (SELECT id::uuid FROM unnest(?2::text[]) AS id WHERE id ~ ` + uuidPattern + `))
		AND i.applied_at IS NOT NULL AND coalesce(i.sequence < ?3, true)
	FOR UPDATE OF i SKIP LOCKED
), letters AS (
	DELETE FROM dead_letters WHERE subscriber = ?0 AND event_id = ANY (ARRAY (SELECT event_id FROM gone)) RETURNING event_id
), rows AS (
	DELETE FROM inbox WHERE subscriber = ?0
		AND event_id = ANY (ARRAY (SELECT event FROM gone WHERE event IS NOT NULL UNION SELECT event_id FROM applied))
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM applied)`

// Sweep runs one statement.
func (i *Inbox) Sweep(ctx context.Context, subscriber, stream string, ids []string, first, passed uint64) (forgotten int, err error) {
	err = i.db.QueryRowContext(ctx, forgetStatement, subscriber, stream, pgdialect.Array(ids), int64(first), int64(passed)).Scan(&forgotten)
	if err != nil {
		return 0, classify(ctx, fmt.Errorf("delete old inbox rows of subscriber %s: %w", subscriber, err))
	}
	return forgotten, nil
}
