package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

var _ operations.RelayRepair = (*RelayAdmin)(nil)

// Cursor returns the cursor as CursorStore.Load does.
func (a *RelayAdmin) Cursor(ctx context.Context) (relay.Cursor, error) {
	return NewCursorStore(a.db, a.relay, a.stream).Load(ctx)
}

// hasEventsStatement compares ids as text, because the ids come from a stream and need not be UUIDs.
const hasEventsStatement = `
SELECT o.position, o.event_id
FROM unnest(?0::bigint[], ?1::text[]) AS wanted (position, event_id)
JOIN outbox AS o ON o.position = wanted.position AND o.event_id::text = wanted.event_id
ORDER BY o.position`

// HasEvents runs one statement.
func (a *RelayAdmin) HasEvents(ctx context.Context, events []outbox.Progress) ([]outbox.Progress, error) {
	positions, ids := make([]int64, len(events)), make([]string, len(events))
	for i, event := range events {
		positions[i], ids[i] = int64(event.Position), event.EventID
	}
	rows, err := a.db.QueryContext(ctx, hasEventsStatement, pgdialect.Array(positions), pgdialect.Array(ids))
	if err != nil {
		return nil, classify(ctx, fmt.Errorf("look up %d events in the log: %w", len(events), err))
	}
	defer func() { _ = rows.Close() }()
	var held []outbox.Progress
	for rows.Next() {
		var event outbox.Progress
		if err := rows.Scan(&event.Position, &event.EventID); err != nil {
			return nil, classify(ctx, fmt.Errorf("look up %d events in the log: %w", len(events), err))
		}
		held = append(held, event)
	}
	return held, classify(ctx, rows.Err())
}

// At runs one statement.
func (a *RelayAdmin) At(ctx context.Context, position outbox.Position) (outbox.Progress, bool, error) {
	return a.findEvent(ctx, "SELECT position, event_id FROM outbox WHERE position = ?", int64(position))
}

// findEvent returns the event that a statement finds, if any.
func (a *RelayAdmin) findEvent(ctx context.Context, statement string, args ...any) (found outbox.Progress, ok bool, err error) {
	err = a.db.QueryRowContext(ctx, statement, args...).Scan(&found.Position, &found.EventID)
	if errors.Is(err, sql.ErrNoRows) {
		return outbox.Progress{}, false, nil
	}
	if err != nil {
		return outbox.Progress{}, false, classify(ctx, fmt.Errorf("look an event up in the log: %w", err))
	}
	return found, true, nil
}

// CountAfter may read all of a large table.
func (a *RelayAdmin) CountAfter(ctx context.Context, position outbox.Position) (int64, error) {
	ctx = allow(ctx, operatorTime)
	count, _, err := countBehind(ctx, a.db, position)
	if err != nil {
		return 0, classify(ctx, fmt.Errorf("count the log's entries after %d: %w", position, err))
	}
	return count, nil
}

// adoptStatement writes the cursor without a lease. Only the revision protects the write. If the cursor goes back, retention's mark goes
// back with it. If the stream is another one, the mark is removed and retention waits its full time again, because nobody knows since when
// that stream holds its messages. From now on all rows up to the position count as passed, whenever they were recorded.
const adoptStatement = `
WITH written AS (
	INSERT INTO outbox_cursor AS c (relay, position, stream, stream_created, stream_sequence, token, revision, updated_at,
		recorded_position, recorded_to)
	SELECT ?0, ?2, ?3, nullif(?4, ''), ?5, 0, 1, clock_timestamp(), ?2,
		greatest('epoch', (SELECT recorded_to FROM outbox_cursor WHERE relay = ?0), (SELECT max(recorded_at) FROM outbox AS o WHERE position <= ?2 AND ` + validTime + `))
	WHERE ?1 = 0 OR EXISTS (SELECT FROM outbox_cursor WHERE relay = ?0)
	ON CONFLICT (relay) DO UPDATE SET position = excluded.position, stream = excluded.stream,
		stream_created = excluded.stream_created, stream_sequence = excluded.stream_sequence,
		revision = c.revision + 1, updated_at = excluded.updated_at, halt_reason = NULL, halt_detail = NULL, halted_at = NULL,
		recorded_position = excluded.recorded_position, recorded_to = excluded.recorded_to,
		passed = least(c.passed, excluded.position), passed_at = CASE WHEN ?6 THEN NULL ELSE c.passed_at END
	WHERE c.revision = ?1
	RETURNING c.revision
)
SELECT revision FROM written`

// Adopt may read all of a large table.
func (a *RelayAdmin) Adopt(ctx context.Context, revision int64, cursor relay.Cursor, newStream bool) error {
	ctx = allow(ctx, operatorTime) // the statement looks for the latest time of all rows up to the position
	var now int64
	err := a.db.QueryRowContext(ctx, adoptStatement, a.relay, revision, int64(cursor.Position), a.stream, cursor.StreamCreated,
		int64(cursor.StreamSequence), newStream).Scan(&now)
	if errors.Is(err, sql.ErrNoRows) {
		return relay.ErrStaleRevision.With("the cursor of %s is not at revision %d any more", a.relay, revision)
	}
	if err != nil {
		return classify(ctx, fmt.Errorf("adopt position %d for %s: %w", cursor.Position, a.relay, err))
	}
	return nil
}
