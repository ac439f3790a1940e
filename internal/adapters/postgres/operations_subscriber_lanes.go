package postgres

import (
	"context"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const (
	// moveLanesStatement moves the lanes ?1 to a stream position. The caller has locked the lanes, and revises them afterwards.
	moveLanesStatement = `
UPDATE subscriber_lanes SET sequence = ?2, stored_ns = ?3, progress = ?4::bigint, moved_at = clock_timestamp()
WHERE subscriber = ?0 AND lane = ANY (?1::int[])`

	// removeMarksStatement removes the marks at the position and after it. It runs before addMarkStatement.
	removeMarksStatement = "DELETE FROM subscriber_marks WHERE subscriber = ?0 AND lane = ANY (?1::int[]) AND sequence >= ?2"

	// addMarkStatement makes the position a mark of each lane.
	addMarkStatement = `
INSERT INTO subscriber_marks (subscriber, lane, sequence, stored_ns, progress)
SELECT ?0, lane, ?2, ?3, ?4::bigint FROM unnest(?1::int[]) AS lane WHERE ?3::bigint > 0`

	// readMarksStatement reads the marks that all lanes have passed. Every lane has handled the events before such a mark.
	readMarksStatement = `
SELECT coalesce(array_agg(sequence), '{}'), coalesce(array_agg(stored_ns), '{}'), coalesce(array_agg(coalesce(progress, 0)), '{}') FROM (
	SELECT DISTINCT ON (sequence) sequence, stored_ns, progress FROM subscriber_marks
	WHERE subscriber = ?0 AND sequence <= ?1 ORDER BY sequence DESC, stored_ns DESC, coalesce(progress, 0) LIMIT ?2) AS kept`

	// giveMarksStatement inserts these marks for each of ?1 new lanes.
	giveMarksStatement = `
INSERT INTO subscriber_marks (subscriber, lane, sequence, stored_ns, progress)
SELECT ?0, lane, sequence, stored_ns, nullif(progress, 0)
FROM generate_series(0, ?1 - 1) AS lane, unnest(?2::bigint[], ?3::bigint[], ?4::bigint[]) AS mark (sequence, stored_ns, progress)`

	// makeLanesStatement inserts ?1 lanes at a stream position. ?6 is the highest revision of the old lanes. decide raises it before the
	// commit, so the new lanes begin at a revision that no lane of the subscriber has had.
	makeLanesStatement = `
INSERT INTO subscriber_lanes (subscriber, lane, lanes, stream, sequence, stored_ns, progress, revision)
SELECT ?0, lane, ?1, ?2, ?3, ?4, ?5::bigint, ?6 FROM generate_series(0, ?1 - 1) AS lane`
)

// Move waits for the batches and redeliveries under way.
func (o *Operator) Move(ctx context.Context, subscriber string, move inbox.Move, proof inbox.LaneCheck) (before []inbox.Checkpoint, err error) {
	err = o.decide(ctx, subscriber, func(ctx context.Context, tx bun.Tx, lanes []inbox.Checkpoint) error {
		before = lanes
		if err := inbox.RequireStream(subscriber, move.Stream, lanes); err != nil {
			return err
		}
		moved := move.Affected(lanes)
		if len(moved) == 0 {
			return nil
		}
		if err := proof(ctx, moved); err != nil {
			return err
		}
		numbers := make([]int, len(moved))
		for n, lane := range moved {
			numbers[n] = lane.Lane
		}
		args := []any{subscriber, pgdialect.Array(numbers), int64(move.To.Sequence), nanoseconds(move.To.StoredAt), progress(move.To)}
		for _, statement := range []string{moveLanesStatement, removeMarksStatement, addMarkStatement} {
			if err := run(ctx, tx, statement, args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return before, nil
}

// SetLanes waits for the batches and redeliveries that are under way. It replaces the rows of the lanes.
func (o *Operator) SetLanes(ctx context.Context, subscriber string, lanes int, proof inbox.LaneCheck) (before []inbox.Checkpoint, err error) {
	err = o.decide(ctx, subscriber, func(ctx context.Context, tx bun.Tx, present []inbox.Checkpoint) error {
		before = present
		if len(present) == 0 {
			return inbox.ErrNotBegun.With("subscriber %s has not begun", subscriber)
		}
		if err := inbox.RequireStream(subscriber, present[0].Stream, present); err != nil {
			return err
		}
		if err := proof(ctx, present); err != nil {
			return err
		}
		return replaceLanes(ctx, tx, subscriber, present, lanes)
	})
	if err != nil {
		return nil, err
	}
	return before, nil
}

// replaceLanes replaces lanes by new ones. The new lanes begin at the last position up to which every old lane has handled its events.
func replaceLanes(ctx context.Context, tx bun.Tx, subscriber string, present []inbox.Checkpoint, lanes int) error {
	from := inbox.Checkpoint{Stream: present[0].Stream, StreamPosition: inbox.HandledByAll(present)}
	for _, lane := range present {
		from.Revision = max(from.Revision, lane.Revision)
	}
	if err := run(ctx, tx, "DELETE FROM subscriber_lanes WHERE subscriber = ?0", subscriber); err != nil {
		return err
	}
	err := run(ctx, tx, makeLanesStatement, subscriber, lanes, from.Stream, int64(from.Sequence), nanoseconds(from.StoredAt),
		progress(from.StreamPosition), from.Revision)
	if err != nil {
		return err
	}
	var sequences, storedAt, progress []int64
	err = tx.QueryRowContext(ctx, readMarksStatement, subscriber, int64(from.Sequence), inbox.MarksKept).
		Scan(pgdialect.Array(&sequences), pgdialect.Array(&storedAt), pgdialect.Array(&progress))
	if err != nil {
		return classify(ctx, err)
	}
	for i := range progress {
		if from.Progress > 0 {
			progress[i] = min(progress[i], int64(from.Progress))
		}
	}
	if err := run(ctx, tx, "DELETE FROM subscriber_marks WHERE subscriber = ?0", subscriber); err != nil {
		return err
	}
	return run(ctx, tx, giveMarksStatement, subscriber, lanes, pgdialect.Array(sequences), pgdialect.Array(storedAt), pgdialect.Array(progress))
}
