package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Retention removes from the log the events that one relay published long ago. The relay's lease fences it.
type Retention struct {
	db    *bun.DB
	relay string

	within time.Duration // the limit of its statement
}

var _ relay.Retention = (*Retention)(nil)

// NewRetention returns the retention of relay's log.
func NewRetention(db *bun.DB, relay string) *Retention {
	return &Retention{db: db, relay: relay, within: answerWithin}
}

// purgeStatement works with a mark: the position of the cursor at some time. If the mark is old enough, the statement removes the rows up
// to the mark. When no such row is left, the statement sets a new mark. A mark in the future comes from a clock that has jumped, and is set
// again.
//
// The statement starts where the last purge ended. Rows at or below purged_to that still exist have a row in the parking lot, and are found
// by that row. So the statement never walks over rows that were deleted and are not yet vacuumed.
//
// The statement never waits for a locked row, because it has locked the lease, and a wait would delay the renewal of the lease. It stops
// before a locked row of the log. That row stays above purged_to, and a later purge removes it. If a row of the parking lot is locked, the
// statement skips it, and a later purge finds it in the lot.
//
// If the relay has written since the statement's snapshot, nothing is removed: the relay may have parked an event that the snapshot shows
// as an ordinary one. The statement sees this when it has locked the cursor.
const purgeStatement = fenceCTE + `, cursor AS (
	SELECT c.*, coalesce(c.passed_at > clock_timestamp(), true) AS unmarked, clock_timestamp() - ?2 * interval '1 microsecond' AS horizon
	FROM fence, outbox_cursor AS c
	WHERE c.relay = ?0 AND c.revision = (SELECT revision FROM outbox_cursor WHERE relay = ?0) FOR UPDATE OF c
), ripe AS (
	SELECT purged_to, passed, horizon FROM cursor WHERE passed_at <= horizon
), next AS (
	SELECT o.position FROM ripe, LATERAL (
		SELECT position FROM outbox
		WHERE position > ripe.purged_to AND NOT EXISTS (SELECT FROM outbox_parked AS p WHERE p.position = outbox.position)
		ORDER BY position LIMIT ?3
	) AS o WHERE o.position <= ripe.passed
), done AS (
	SELECT p.position FROM ripe, outbox_parked AS p
	WHERE p.state IN ('redriven', 'discarded') AND p.changed_at <= ripe.horizon AND p.position <= ripe.passed
	ORDER BY p.position LIMIT ?3 FOR UPDATE OF p SKIP LOCKED
), chosen AS (
	SELECT position FROM next UNION ALL SELECT position FROM done ORDER BY position LIMIT ?3
), locked AS (
	SELECT o.position FROM chosen JOIN outbox AS o USING (position) FOR UPDATE OF o SKIP LOCKED
), taken AS (
	SELECT min(o.position) AS position FROM chosen JOIN outbox AS o USING (position)
	WHERE o.position NOT IN (SELECT position FROM locked)
), leaving AS (
	SELECT chosen.position FROM chosen, taken WHERE taken.position IS NULL OR chosen.position < taken.position
), removed AS (
	DELETE FROM outbox AS o USING leaving WHERE o.position = leaving.position RETURNING o.position
), left_lot AS (
	DELETE FROM outbox_parked AS p USING leaving WHERE p.position = leaving.position
), total AS (
	SELECT count(*) AS removed, max(position) AS last,
		count(*) < ?3 AND (SELECT position FROM taken) IS NULL AS whole
	FROM removed
), marked AS (
	UPDATE outbox_cursor AS c SET purged_to = greatest(c.purged_to, total.last),
		passed = CASE WHEN total.whole THEN c.position ELSE c.passed END,
		passed_at = CASE WHEN total.whole THEN clock_timestamp() ELSE c.passed_at END
	FROM total, cursor WHERE c.relay = cursor.relay AND (cursor.unmarked OR EXISTS (SELECT FROM ripe))
)
SELECT EXISTS (SELECT FROM fence), (SELECT removed FROM total)`

// Purge runs one statement.
func (r *Retention) Purge(ctx context.Context, token int64, age time.Duration, limit int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, r.within)
	defer cancel()
	var held bool
	var removed int
	err := r.db.QueryRowContext(ctx, purgeStatement, r.relay, token, age.Microseconds(), limit).Scan(&held, &removed)
	if err != nil {
		return 0, classify(ctx, fmt.Errorf("remove old rows from the outbox: %w", err))
	}
	if !held {
		return 0, leaseLost(r.relay, token)
	}
	return removed, nil
}
