package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// Retention removes old rows from the log of one relay, fenced by the relay's lease.
type Retention struct {
	db    *bun.DB
	relay string
}

var _ ports.Retention = (*Retention)(nil)

// NewRetention returns the retention of relay's log.
func NewRetention(db *bun.DB, relay string) *Retention { return &Retention{db: db, relay: relay} }

// purgeStatement starts where the last one ended: what is still there at or below purged_to is in the parking lot, and is
// found from there. So it never walks over what was deleted but not yet vacuumed. It ends at the first row that is young:
// times ascend with positions, but for a clock that was set back.
//
// When the cursor has moved since the statement's snapshot was taken, which it finds out once it has locked it, it removes
// nothing: an event may have been parked that the snapshot shows as an ordinary one.
const purgeStatement = fence + `, cursor AS (
	SELECT c.position, c.purged_to, clock_timestamp() - ?2 * interval '1 microsecond' AS horizon
	FROM fence, outbox_cursor AS c
	WHERE c.relay = ?0 AND c.revision = (SELECT revision FROM outbox_cursor WHERE relay = ?0) FOR UPDATE OF c
), next AS (
	SELECT o.position, o.recorded_at < cursor.horizon AS old FROM cursor, LATERAL (
		SELECT position, recorded_at FROM outbox
		WHERE position > cursor.purged_to AND NOT EXISTS (SELECT FROM outbox_parked AS p WHERE p.position = outbox.position)
		ORDER BY position LIMIT ?3
	) AS o WHERE o.position <= cursor.position
), done AS (
	SELECT p.position FROM cursor, outbox_parked AS p
	WHERE p.state IN ('redriven', 'discarded') AND p.changed_at < cursor.horizon AND p.position <= cursor.position
), chosen AS (
	SELECT position FROM (SELECT position FROM next WHERE old UNION ALL SELECT position FROM done) AS either
	WHERE position < coalesce((SELECT min(position) FROM next WHERE NOT old), 9223372036854775807)
	ORDER BY position LIMIT ?3
), removed AS (
	DELETE FROM outbox AS o USING chosen WHERE o.position = chosen.position RETURNING o.position
), left_lot AS (
	DELETE FROM outbox_parked AS p USING chosen WHERE p.position = chosen.position
), moved AS (
	UPDATE outbox_cursor AS c SET purged_to = greatest(c.purged_to, last.position)
	FROM (SELECT max(position) AS position FROM removed) AS last WHERE c.relay = ?0 AND last.position IS NOT NULL
)
SELECT EXISTS (SELECT FROM fence), (SELECT count(*) FROM removed)`

// Purge implements the port.
func (r *Retention) Purge(ctx context.Context, token int64, age time.Duration, limit int) (int, error) {
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
