package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// Parking is the parking lot of one relay, fenced by the relay's lease and cursor.
type Parking struct {
	db    *bun.DB
	relay string

	within time.Duration // the limit of each of the relay's statements
	sizes  sizes
}

var _ relay.Parking = (*Parking)(nil)

// NewParking returns the parking lot of relay.
func NewParking(db *bun.DB, relay string) *Parking {
	return &Parking{db: db, relay: relay, within: answerWithin}
}

// fencedRevision is a fenced write that only raises the revision.
var fencedRevision = fencedWrite("", "", "")

// reconcileStatement does three things. It parks the event of the last control message. If the stream now has an event that waited to be
// redriven, it marks the event as redriven. If the stream has lost a redriven event, it marks the event to be redriven again. The statement
// reads the waiting events before it changes anything. So it may report events that no longer wait, but never misses one. It locks the row
// of the log, so that retention cannot remove the row meanwhile.
var reconcileStatement = fencedRevision + `, taken AS (
	SELECT o.position, o.event_id, o.aggregate_type, o.aggregate_id, ` + shortened("o.event_type") + ` AS event_type
	FROM written, outbox AS o WHERE ?5 AND o.position = ?3 AND o.event_id::text = ?4 FOR KEY SHARE OF o
), parked AS (
	INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state)
	SELECT position, event_id, aggregate_type, aggregate_id, event_type, ?6, 'parked' FROM taken
	ON CONFLICT (position) DO NOTHING
	RETURNING position
), published AS (
	SELECT p.position, ?8 + 1 - row_number() OVER (ORDER BY p.position DESC) AS sequence
	FROM written, outbox_parked AS tail, outbox_parked AS p
	WHERE tail.position = ?7 AND tail.state = 'redrive' AND p.state = 'redrive' AND p.position <= tail.position
		AND p.aggregate_type = tail.aggregate_type AND p.aggregate_id = tail.aggregate_id
		AND EXISTS (SELECT FROM outbox AS o WHERE o.position = p.position) -- as in redriveStatement
), redriven AS (
	UPDATE outbox_parked AS p SET state = 'redriven', stream_sequence = published.sequence, changed_at = clock_timestamp()
	FROM published WHERE p.position = published.position AND p.state = 'redrive'
), lost AS (
	UPDATE outbox_parked AS p SET state = 'redrive', stream_sequence = NULL, changed_at = clock_timestamp()
	FROM written WHERE p.state = 'redriven' AND p.stream_sequence > ?9 AND ?10
	RETURNING p.position
)
SELECT ` + fenceOutcome + `, EXISTS (SELECT FROM parked) OR EXISTS (SELECT FROM lost)
	OR EXISTS (SELECT FROM outbox_parked WHERE state IN ('parked', 'redrive')),
	EXISTS (SELECT FROM outbox_parked WHERE state = 'redriven' AND stream_sequence > ?9)`

// Reconcile runs one statement.
func (p *Parking) Reconcile(
	ctx context.Context, fence relay.WriteFence, tail relay.MessageMeta, sequence uint64, end bool,
) (relay.ParkingSummary, error) {
	ctx, cancel := context.WithTimeout(ctx, p.within)
	defer cancel()
	parks := tail.Own && tail.Event == 0 && tail.Parked != ""
	var event outbox.Position
	if tail.Own {
		event = tail.Event
	}
	var result fenceResult
	var summary relay.ParkingSummary
	err := p.db.QueryRowContext(ctx, reconcileStatement, p.relay, fence.Token, fence.Revision, int64(tail.Progress.Position),
		tail.Progress.EventID, parks, tail.Parked, int64(event), int64(sequence), int64(tail.MaxRedriven(sequence)), end).
		Scan(&result.held, &result.revision, &summary.Waiting, &summary.Lost)
	if err != nil {
		return relay.ParkingSummary{}, classify(ctx, fmt.Errorf("reconcile the parking lot: %w", err))
	}
	if err := result.err(p.relay, fence); err != nil {
		return relay.ParkingSummary{}, err
	}
	return summary, nil
}

// setAsideStatement finds, once for each aggregate, the first waiting event and one event that is still parked, and locks both. If an
// operator has redriven the events before the lock, the new events are marked to be redriven too. If the operator comes after the lock, the
// second statement of Redrive finds the new events. If an operator discards an event at this moment, that event holds nothing back.
var setAsideStatement = fencedRevision + `, asked AS (
	SELECT o.position, o.event_id, o.aggregate_type, o.aggregate_id, ` + shortened("o.event_type") + ` AS event_type,
		(SELECT true FROM outbox_parked AS p WHERE p.position = o.position) IS NOT NULL AS known
	FROM written, outbox AS o WHERE o.position = ANY (?3::bigint[])
), waiting AS (
	SELECT a.aggregate_type, a.aggregate_id, first.position, parked.position IS NOT NULL AS parked
	FROM (SELECT DISTINCT aggregate_type, aggregate_id FROM asked WHERE NOT known) AS a, LATERAL (
		SELECT position FROM outbox_parked AS p
		WHERE p.aggregate_type = a.aggregate_type AND p.aggregate_id = a.aggregate_id AND p.state IN ('parked', 'redrive')
		ORDER BY position LIMIT 1 FOR SHARE
	) AS first LEFT JOIN LATERAL (
		SELECT position FROM outbox_parked AS p
		WHERE p.aggregate_type = a.aggregate_type AND p.aggregate_id = a.aggregate_id AND p.state = 'parked'
		ORDER BY position LIMIT 1 FOR SHARE
	) AS parked ON true
), parked AS (
	INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state)
	SELECT asked.position, asked.event_id, asked.aggregate_type, asked.aggregate_id, asked.event_type,
		'behind position ' || waiting.position || ' of the same aggregate', CASE WHEN waiting.parked THEN 'parked' ELSE 'redrive' END
	FROM asked JOIN waiting USING (aggregate_type, aggregate_id) WHERE NOT asked.known AND asked.position > waiting.position
	ON CONFLICT (position) DO NOTHING
	RETURNING position
)
SELECT ` + fenceOutcome + `, ARRAY(SELECT position FROM asked WHERE known UNION ALL SELECT position FROM parked ORDER BY position)`

// SetAside runs one statement.
func (p *Parking) SetAside(ctx context.Context, fence relay.WriteFence, entries []outbox.Entry) ([]outbox.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, p.within)
	defer cancel()
	asked := make([]int64, len(entries))
	for i, entry := range entries {
		asked[i] = int64(entry.Position)
	}
	var result fenceResult
	var inLot []int64
	err := p.db.QueryRowContext(ctx, setAsideStatement, p.relay, fence.Token, fence.Revision, pgdialect.Array(asked)).
		Scan(&result.held, &result.revision, pgdialect.Array(&inLot))
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("set %d events aside: %w", len(entries), err))
	}
	if err := result.err(p.relay, fence); err != nil {
		return nil, err
	}
	return positions(inLot), nil
}

// redriveStatement looks at the events to be redriven in order, until it finds one that may be published. OFFSET 0 keeps this order,
// whatever the planner knows about the lot. The statement skips events whose log row was deleted by hand, so that they do not delay other
// aggregates. A row with a part that is too large ends the list.
var redriveStatement = `
WITH first AS (
	SELECT p.aggregate_type, p.aggregate_id
	FROM (SELECT * FROM outbox_parked WHERE state = 'redrive' AND position <= ?0 ORDER BY position OFFSET 0) AS p
	WHERE (SELECT true FROM outbox AS o WHERE o.position = p.position) AND (
		SELECT true FROM outbox_parked AS before WHERE before.aggregate_type = p.aggregate_type
			AND before.aggregate_id = p.aggregate_id AND before.state = 'parked' AND before.position < p.position LIMIT 1
	) IS NULL
	ORDER BY p.position LIMIT 1
), due AS (
	SELECT p.position FROM first JOIN outbox_parked AS p USING (aggregate_type, aggregate_id)
	WHERE p.state = 'redrive' AND p.position <= ?0 AND p.position < coalesce((
		SELECT min(position) FROM first JOIN outbox_parked AS p USING (aggregate_type, aggregate_id) WHERE p.state = 'parked'
	), 9223372036854775807)
	ORDER BY p.position LIMIT ?1
), readable (` + entryNames + `) AS MATERIALIZED (
	SELECT ` + entryColumns("?3") + ` FROM due JOIN outbox AS o USING (position)
), sized AS (
	SELECT *, sum(size) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS total
	FROM (
		SELECT *, CASE WHEN aggregate_type IS NULL OR aggregate_id IS NULL OR event_type IS NULL OR subject IS NULL
				OR headers IS NULL OR payload IS NULL THEN ?2 + 1
			ELSE octet_length(payload::text) + octet_length(headers::text) - octet_length('{}') END AS size
		FROM readable
	) AS o
)
SELECT pg_is_in_recovery(), EXISTS (SELECT FROM outbox_parked WHERE state IN ('parked', 'redrive')), ` + entryNames + `
FROM (SELECT) AS always LEFT JOIN sized AS o ON o.total <= ?2 OR o.total = o.size
ORDER BY o.position`

// Due fails on a standby, because a standby may show events that were redriven already.
func (p *Parking) Due(ctx context.Context, upTo outbox.Position, limit relay.ReadLimit) (due []outbox.Entry, waiting bool, err error) {
	defer func() { p.sizes.learn(due, err) }()
	asking, cancel := context.WithTimeout(ctx, p.within)
	defer cancel()
	rows, err := p.db.QueryContext(asking, redriveStatement, int64(upTo), p.sizes.candidates(limit), limit.Bytes, limit.LargestPayload())
	if err != nil {
		return nil, false, classify(ctx, fmt.Errorf("read the events to redrive: %w", err))
	}
	defer func() { _ = rows.Close() }()

	var standby bool
	var row logRow
	columns := append([]any{&standby, &waiting}, row.columns()...)
	for rows.Next() {
		if err := rows.Scan(columns...); err != nil {
			return nil, false, classify(ctx, fmt.Errorf("read the events to redrive: %w", err))
		}
		if standby {
			return nil, false, errStandby
		}
		if row.position.Valid {
			entry := row.entry()
			entry.Parked = true
			if row.unread() {
				entry.Payload = nil
			}
			due = append(due, entry)
		}
	}
	err = rows.Err()
	if err == nil {
		explaining, cancel := context.WithTimeout(ctx, p.within)
		defer cancel()
		err = explain(explaining, p.db, due, limit.LargestPayload())
	}
	if err != nil {
		return nil, false, classify(ctx, fmt.Errorf("read the events to redrive: %w", err))
	}
	return due, waiting, nil
}

var refuseStatement = fencedRevision + `, refused AS (
	SELECT p.position, p.aggregate_type, p.aggregate_id FROM written, outbox_parked AS p WHERE p.position = ?3 AND p.state = 'redrive'
), parked AS (
	UPDATE outbox_parked AS p SET state = 'parked', changed_at = clock_timestamp(),
		reason = CASE WHEN p.position = refused.position THEN ?4 ELSE p.reason END
	FROM refused WHERE p.aggregate_type = refused.aggregate_type AND p.aggregate_id = refused.aggregate_id
		AND p.state = 'redrive' AND p.position >= refused.position
)
SELECT ` + fenceOutcome

// Refuse does not change the reasons of the later events.
func (p *Parking) Refuse(ctx context.Context, fence relay.WriteFence, entry outbox.Entry, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, p.within)
	defer cancel()
	var result fenceResult
	err := p.db.QueryRowContext(ctx, refuseStatement, p.relay, fence.Token, fence.Revision, int64(entry.Position), reason).
		Scan(&result.held, &result.revision)
	if err != nil {
		return classify(ctx, fmt.Errorf("park event %s again: %w", entry.ID, err))
	}
	return result.err(p.relay, fence)
}

func positions(numbers []int64) []outbox.Position {
	var all []outbox.Position
	for _, number := range numbers {
		all = append(all, outbox.Position(number))
	}
	return all
}
