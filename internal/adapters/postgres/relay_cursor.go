package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// CursorStore keeps a relay's row of outbox_cursor, fenced by the lease of the same name.
type CursorStore struct {
	db     *bun.DB
	relay  string
	stream string
	within time.Duration // the limit of each statement
}

var _ relay.CursorStore = (*CursorStore)(nil)

// NewCursorStore returns the store of relay. The relay's lease has the same name. stream is the stream to which the relay publishes.
func NewCursorStore(db *bun.DB, relay, stream string) *CursorStore {
	return &CursorStore{db: db, relay: relay, stream: stream, within: answerWithin}
}

const loadCursorStatement = `
SELECT ` + cursorColumns + `
FROM outbox_cursor AS c LEFT JOIN outbox AS o ON o.position = c.position
WHERE c.relay = ?`

// Load does not return RecordedTo.
func (s *CursorStore) Load(ctx context.Context) (relay.Cursor, error) {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	var row cursorRow
	err := s.db.QueryRowContext(ctx, loadCursorStatement, s.relay).Scan(row.columns()...)
	if errors.Is(err, sql.ErrNoRows) {
		return relay.Cursor{}, nil
	}
	if err != nil {
		return relay.Cursor{}, classify(ctx, fmt.Errorf("load the cursor of %s: %w", s.relay, err))
	}
	cursor := row.cursor()
	cursor.RecordedTo = time.Time{} // only Save returns it
	return cursor, nil
}

// mostRecorded is the largest number of positions over which the statement computes recorded_to. With more it might not answer in time.
const mostRecorded = 1_000_000

// recordedCTE reads the cursor before the save. Before the first save, the cursor is at 0. recordedCTE also computes recording_to, which is
// recorded_to after the save. The part sound has a row only if no event came at a position that the relay had passed. One sign of such an
// event is a row that the relay had passed and whose time is between recorded_to and recording_to. After the save such a row looks like any
// other row, so the save has to find it.
var recordedCTE = `, before AS (
	SELECT coalesce(c.revision, 0) AS revision, coalesce(c.position, 0) AS position, c.stream_created, coalesce(c.stream_sequence, 0) AS stream_sequence,
		coalesce(c.purged_to, 0) AS purged_to, coalesce(c.recorded_position, 0) AS recorded_position,
		CASE WHEN c.relay IS NULL THEN 'epoch' ELSE c.recorded_to END AS recorded_to
	FROM (SELECT) AS always LEFT JOIN outbox_cursor AS c ON c.relay = ?0
), c AS (
	SELECT *, CASE
		WHEN ?7::timestamptz IS NOT NULL THEN CASE WHEN recorded_to IS NOT NULL THEN greatest(recorded_to, ?7::timestamptz) END
		WHEN ?3 <= recorded_position THEN recorded_to
		WHEN recorded_to IS NOT NULL AND ?3 - recorded_position <= ?8 THEN greatest(recorded_to, (
			SELECT max(recorded_at) FROM outbox AS o WHERE o.position > before.recorded_position AND o.position <= ?3 AND ` + validTime + `))
		END AS recording_to
	FROM before
), sound AS (
	SELECT token, recording_to FROM fence, c
	WHERE ` + nextPosition + ` > greatest(` + highestPosition + `, ?3) AND ` + excess("?3", "?6") + ` <= 0 AND (
		SELECT count(*) FROM outbox AS o WHERE o.recorded_at > c.recorded_to AND o.recorded_at <= c.recording_to
			AND o.position + 0 > c.purged_to AND o.position + 0 <= least(c.position, c.recorded_position) AND ` + notParked + `) = 0
)`

// saveCursorStatement sets retention's mark back if the cursor goes back, because the relay passes those events again later. It writes
// nothing if events came at positions that the relay had passed.
var saveCursorStatement = fenceCTE + recordedCTE + fencedWriteFrom("sound",
	", position, stream, stream_created, stream_sequence, recorded_position, recorded_to",
	", ?3, ?4, nullif(?5, ''), ?6, ?3, recording_to",
	`, position = excluded.position, stream = excluded.stream, stream_created = excluded.stream_created,
		stream_sequence = excluded.stream_sequence, passed = least(c.passed, excluded.position),
		recorded_position = excluded.recorded_position, recorded_to = excluded.recorded_to,
		updated_at = CASE WHEN (c.position, c.stream_sequence) = (excluded.position, excluded.stream_sequence)
			THEN c.updated_at ELSE excluded.updated_at END`) + `
SELECT ` + fenceOutcome + `, EXISTS (SELECT FROM sound) OR (SELECT revision FROM before) <> ?2, ` + nextPosition + `, ` + cursorColumns + `
FROM (SELECT) AS always LEFT JOIN written AS c ON true LEFT JOIN outbox AS o ON o.position = c.position`

// Save returns the cursor as the database has it after the write.
func (s *CursorStore) Save(ctx context.Context, fence relay.WriteFence, cursor relay.Cursor) (relay.Cursor, error) {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	var result fenceResult
	var sound bool // also true if another relay has written in between, because then the check read another cursor
	var next outbox.Position
	var row cursorRow
	recordedTo := sql.NullTime{Time: cursor.RecordedTo, Valid: !cursor.RecordedTo.IsZero()}
	err := s.db.QueryRowContext(ctx, saveCursorStatement, s.relay, fence.Token, fence.Revision,
		int64(cursor.Position), s.stream, cursor.StreamCreated, int64(cursor.StreamSequence), recordedTo, mostRecorded).
		Scan(append([]any{&result.held, &result.revision, &sound, &next}, row.columns()...)...)
	if err != nil {
		return relay.Cursor{}, classify(ctx, fmt.Errorf("save the cursor of %s: %w", s.relay, err))
	}
	if result.held && !sound {
		return relay.Cursor{}, relay.ErrSequenceBehind.With("the sequence of outbox.position went back: its next position is %d, "+
			"or events came at positions up to %d after the relay had passed", next, cursor.Position)
	}
	if err := result.err(s.relay, fence); err != nil {
		return relay.Cursor{}, err
	}
	return row.cursor(), nil
}

// reportStatement keeps the time of a halt whose reason is still the same.
var reportStatement = fencedWrite(
	", halt_reason, halt_detail, halted_at",
	", nullif(?3, ''), nullif(?4, ''), CASE WHEN ?3 <> '' THEN clock_timestamp() END",
	`, halt_reason = excluded.halt_reason, halt_detail = excluded.halt_detail,
		halted_at = CASE WHEN c.halt_reason = excluded.halt_reason THEN c.halted_at ELSE excluded.halted_at END`) + `
SELECT ` + fenceOutcome

// Report keeps the time of a halt whose reason stays the same.
func (s *CursorStore) Report(ctx context.Context, fence relay.WriteFence, halt *relay.Halt) error {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	var now relay.Halt
	if halt != nil {
		now = *halt
	}
	var result fenceResult
	err := s.db.QueryRowContext(ctx, reportStatement, s.relay, fence.Token, fence.Revision, string(now.Reason), now.Detail).
		Scan(&result.held, &result.revision)
	if err != nil {
		return classify(ctx, fmt.Errorf("report a halt of %s: %w", s.relay, err))
	}
	return result.err(s.relay, fence)
}

// cursorColumns are the columns of a cursorRow. In them c is a row of outbox_cursor, and o its row of the outbox.
const cursorColumns = `c.position, c.stream_created, c.stream_sequence, c.purged_to, c.revision, c.halt_reason, c.halt_detail, o.event_id,
	c.recorded_to`

// cursorRow is a row of outbox_cursor. All its columns are NULL if there is no row.
type cursorRow struct {
	position, sequence, purgedTo, revision   sql.NullInt64
	created, haltReason, haltDetail, eventID sql.NullString
	recordedTo                               sql.NullTime
}

func (r *cursorRow) columns() []any {
	return []any{
		&r.position, &r.created, &r.sequence, &r.purgedTo, &r.revision, &r.haltReason, &r.haltDetail, &r.eventID,
		&r.recordedTo,
	}
}

func (r *cursorRow) cursor() relay.Cursor {
	cursor := relay.Cursor{
		Progress:       outbox.Progress{Position: outbox.Position(r.position.Int64), EventID: r.eventID.String},
		StreamCreated:  r.created.String,
		StreamSequence: uint64(r.sequence.Int64),
		PurgedTo:       outbox.Position(r.purgedTo.Int64),
		Revision:       r.revision.Int64,
		RecordedTo:     r.recordedTo.Time,
	}
	if r.haltReason.Valid {
		cursor.Halt = &relay.Halt{Reason: relay.HaltReason(r.haltReason.String), Detail: r.haltDetail.String}
	}
	return cursor
}
