package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// Realign waits for the open transactions that write to the outbox, and new writers wait for Realign. So that they do not wait for long,
// Realign gives up its place in the queue after lockWithin, and tries again later.
const (
	lockWithin = 3 * time.Second
	lockTries  = 6
	lockPause  = time.Second
)

var errWriters = fault.New(fault.Unavailable, "outbox_busy",
	"transactions that write the outbox did not end in time, so nothing was changed: `outboxie outbox status` names the oldest one")

var errMayNotRealign = fault.New(fault.Invalid, "may_not_realign",
	"this role may not set the sequence of the outbox and move events: adopt again as the role that may (outboxie_operator in docker/roles.sql)")

var errUnmovable = fault.New(fault.Invalid, "may_not_be_moved",
	"an event that has to be moved is older than a constraint of the outbox and violates it, so nothing was changed: correct or "+
		"delete its row, and adopt again; docs/operations.md, \"A parked row that has to be corrected\", has the statement")

// eventIDs finds the first event id in the text by which Postgres refuses a row.
var eventIDs = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// chosen lists the misplaced rows, and whether the stream holds their events. ?0 is the relay, ?1 the position, and ?2 the ids of published
// events. ?3 says that ?2 has all of them.
var chosen = `
WITH misplaced AS (
	SELECT o.position, o.aggregate_type, o.aggregate_id, o.position <= c.purged_to AS purged,
		coalesce(o.event_id::text = ANY (?2::text[]), false) AS published
	FROM outbox_cursor AS c, outbox AS o
	WHERE c.relay = ?0 AND (` + belowPurged + ` OR ` + recordedLater + ` OR ?3 AND o.position > c.position AND o.position <= ?1) AND ` + notParked + `
), moving AS (
	SELECT position FROM misplaced WHERE NOT published
	UNION
	SELECT o.position
	FROM (SELECT DISTINCT aggregate_type, aggregate_id FROM misplaced WHERE NOT published) AS a JOIN outbox AS o USING (aggregate_type, aggregate_id)
	WHERE o.position > ?1 AND ` + notParked + `
)`

var unalignedStatement = chosen + `
SELECT (SELECT count(*) FROM moving) + (SELECT count(*) FROM misplaced WHERE purged AND published), ` + nextPosition + ` <= ` + highestPosition + `
FROM (SELECT) AS always LEFT JOIN outbox_cursor AS c ON c.relay = ?0`

// raiseStatement never lowers the sequence.
const raiseStatement = `
SELECT setval('` + sequenceName + `', ` + highestPosition + `)
FROM (SELECT) AS always LEFT JOIN outbox_cursor AS c ON c.relay = ? WHERE ` + nextPosition + ` <= ` + highestPosition

// moveStatement gives new positions to the events that move. They keep the order in which they were recorded, and within an aggregate the
// order of their versions. Rows that retention had removed may have come back. If the stream holds the event of such a row, the statement
// deletes the row for ever.
var moveStatement = chosen + `, taken AS (
	DELETE FROM outbox AS o USING moving WHERE o.position = moving.position RETURNING o.*
), removed AS (
	DELETE FROM outbox AS o USING misplaced AS m WHERE o.position = m.position AND m.purged AND m.published
		AND m.position NOT IN (SELECT position FROM moving)
), moved AS (
	INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload, recorded_at)
	SELECT event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload, recorded_at
	FROM taken
	ORDER BY max(recorded_at) OVER (PARTITION BY aggregate_type, aggregate_id ORDER BY aggregate_version),
		aggregate_type, aggregate_id, aggregate_version
	RETURNING position
)
SELECT count(*) FROM moved`

// Realign locks the table, so that no writer holds a position that was given out before. A writer that waits for the lock gets its position
// after the lock is free.
func (a *RelayAdmin) Realign(ctx context.Context, r operations.Realignment) (moved int64, err error) {
	ctx = allow(ctx, operatorTime)
	var rows int64
	var behind bool
	args := []any{a.relay, int64(r.Position), pgdialect.Array(r.Published), r.Complete}
	if err := a.db.QueryRowContext(ctx, unalignedStatement, args...).Scan(&rows, &behind); err != nil {
		return 0, classify(ctx, fmt.Errorf("look for events to move: %w", err))
	}
	if rows == 0 && !behind {
		return 0, nil
	}
	for try := 1; ; try++ {
		moved, err = a.realign(ctx, args)
		if sqlState(err) != lockNotAvailable {
			break
		}
		if try == lockTries {
			return 0, errWriters.Wrap(err)
		}
		select {
		case <-ctx.Done():
			return 0, classify(ctx, ctx.Err())
		case <-time.After(lockPause):
		}
	}
	if sqlState(err) == insufficientPrivilege {
		return 0, errMayNotRealign.Wrap(err)
	}
	if reported := (*pgconn.PgError)(nil); errors.As(err, &reported) && reported.Code == checkViolation {
		return 0, errUnmovable.With("event %s: %s (%s)", eventIDs.FindString(reported.Detail), errUnmovable.Detail, reported.ConstraintName).Wrap(err)
	}
	if err != nil {
		return 0, classify(ctx, fmt.Errorf("move misplaced events of the outbox: %w", err))
	}
	return moved, nil
}

// realign looks for the rows after it got the lock. The isolation is READ COMMITTED, so the snapshot is taken after the lock. With another
// isolation the snapshot would be older than the lock.
func (a *RelayAdmin) realign(ctx context.Context, args []any) (moved int64, err error) {
	err = a.db.RunInTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted}, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.ExecContext(ctx, "SELECT set_config('lock_timeout', ?, true)", fmt.Sprint(lockWithin.Milliseconds())); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, raiseStatement, a.relay); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, moveStatement, args...).Scan(&moved)
	})
	return moved, err
}

// The codes that Postgres reports when lock_timeout has passed, when the role has no right, and when a constraint refuses a row.
const (
	checkViolation        = "23514"
	lockNotAvailable      = "55P03"
	insufficientPrivilege = "42501"
)
