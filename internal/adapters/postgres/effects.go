package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

var _ operations.EffectReader = (*EffectReader)(nil)

// EffectReader reads what the subscribers in a database did with events.
type EffectReader struct{ db *bun.DB }

// NewEffectReader returns a reader for the database db.
func NewEffectReader(db *bun.DB) *EffectReader { return &EffectReader{db} }

// effectsStatement looks up each pair of a subscriber and an event in the primary keys of inbox and dead_letters, and each event in the index
// outbox_event_id. LIMIT 1 keeps the planner from joining these tables in another way, so the statement never scans one of them. Every
// subscriber with lanes has a lane 0.
const effectsStatement = `
SELECT s.subscriber, asked.id, record.applied_at, coalesce(record.sequence, letter._sequence, 0), coalesce(letter.shown, ''),
	coalesce(letter.error, ''), record.event_id IS NOT NULL OR letter.event_id IS NOT NULL OR EXISTS (
		SELECT FROM subscriber_types AS t WHERE t.subscriber = s.subscriber AND t.event_type = event.event_type)
FROM unnest(?0::text[]) WITH ORDINALITY AS asked (id, number)
LEFT JOIN LATERAL (SELECT event_type FROM outbox WHERE event_id = asked.id::uuid LIMIT 1) AS event ON true
CROSS JOIN (SELECT subscriber FROM subscriber_lanes WHERE lane = 0) AS s
LEFT JOIN LATERAL (
	SELECT event_id, applied_at, sequence FROM inbox WHERE subscriber = s.subscriber AND event_id = asked.id::uuid LIMIT 1
) AS record ON true
LEFT JOIN LATERAL (
	SELECT event_id, error, _sequence, ` + shownState + `
	FROM dead_letters AS letter WHERE subscriber = s.subscriber AND event_id = asked.id LIMIT 1
) AS letter ON true
ORDER BY s.subscriber COLLATE "C", asked.number`

// Effects runs one statement.
func (e *EffectReader) Effects(ctx context.Context, eventIDs []string) ([]operations.Effect, error) {
	asked := eventUUIDs(eventIDs)
	if len(asked) == 0 {
		return nil, ctx.Err()
	}
	rows, err := e.db.QueryContext(ctx, effectsStatement, pgdialect.Array(asked))
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("read the effects of events: %w", err))
	}
	defer func() { _ = rows.Close() }()
	var found []operations.Effect
	for rows.Next() {
		var effect operations.Effect
		var applied sql.NullTime
		var sequence int64
		if err := rows.Scan(&effect.Subscriber, &effect.EventID, &applied, &sequence, &effect.Letter, &effect.Error, &effect.Wanted); err != nil {
			return nil, classify(ctx, err)
		}
		effect.AppliedAt, effect.Sequence = applied.Time, uint64(max(sequence, 0))
		found = append(found, effect)
	}
	return found, classify(ctx, rows.Err())
}

// eventUUIDs returns the ids that are UUIDs of 36 characters, each once.
func eventUUIDs(ids []string) []string {
	seen, uuids := make(map[string]bool), make([]string, 0, len(ids))
	for _, id := range ids {
		if len(id) == len(uuid.Nil.String()) && uuid.Validate(id) == nil && !seen[id] {
			seen[id], uuids = true, append(uuids, id)
		}
	}
	return uuids
}
