package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// CursorStore keeps a relay's row of outbox_cursor, fenced by the lease of the same name.
type CursorStore struct {
	db     *bun.DB
	relay  string
	stream string
	within time.Duration // each statement is answered
}

var _ ports.CursorStore = (*CursorStore)(nil)

// NewCursorStore returns the store of relay, whose lease has the same name, and which publishes to stream.
func NewCursorStore(db *bun.DB, relay, stream string) *CursorStore {
	return &CursorStore{db: db, relay: relay, stream: stream, within: answerWithin}
}

const loadCursorStatement = `
SELECT ` + cursorColumns + `
FROM outbox_cursor AS c LEFT JOIN outbox AS o ON o.position = c.position
WHERE c.relay = ?`

// Load implements the port.
func (s *CursorStore) Load(ctx context.Context) (outbox.Cursor, error) {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	var row cursorRow
	err := s.db.QueryRowContext(ctx, loadCursorStatement, s.relay).Scan(row.columns()...)
	if errors.Is(err, sql.ErrNoRows) {
		return outbox.Cursor{}, nil
	}
	if err != nil {
		return outbox.Cursor{}, classify(ctx, fmt.Errorf("load the cursor of %s: %w", s.relay, err))
	}
	return row.cursor(), nil
}

// saveCursorStatement lets retention count anew from here when the cursor goes back: what it passes again, it passes later.
var saveCursorStatement = inTurn(
	", position, stream, stream_created, stream_sequence",
	", ?3, ?4, nullif(?5, ''), ?6",
	`, position = excluded.position, stream = excluded.stream, stream_created = excluded.stream_created,
		stream_sequence = excluded.stream_sequence, passed = least(c.passed, excluded.position),
		updated_at = CASE WHEN (c.position, c.stream_sequence) = (excluded.position, excluded.stream_sequence)
			THEN c.updated_at ELSE excluded.updated_at END`) + `
SELECT ` + outcome + `, ` + cursorColumns + `
FROM (SELECT) AS always LEFT JOIN turn AS c ON true LEFT JOIN outbox AS o ON o.position = c.position`

// Save implements the port.
func (s *CursorStore) Save(ctx context.Context, turn outbox.Turn, cursor outbox.Cursor) (outbox.Cursor, error) {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	var v verdict
	var row cursorRow
	err := s.db.QueryRowContext(ctx, saveCursorStatement, s.relay, turn.Token, turn.Revision,
		int64(cursor.Position), s.stream, cursor.StreamCreated, int64(cursor.StreamSequence)).
		Scan(append([]any{&v.held, &v.revision}, row.columns()...)...)
	if err != nil {
		return outbox.Cursor{}, classify(ctx, fmt.Errorf("save the cursor of %s: %w", s.relay, err))
	}
	if err := v.err(s.relay, turn); err != nil {
		return outbox.Cursor{}, err
	}
	return row.cursor(), nil
}

// reportStatement keeps the time of a halt whose reason is still the same.
var reportStatement = inTurn(
	", halt_reason, halt_detail, halted_at",
	", nullif(?3, ''), nullif(?4, ''), CASE WHEN ?3 <> '' THEN clock_timestamp() END",
	`, halt_reason = excluded.halt_reason, halt_detail = excluded.halt_detail,
		halted_at = CASE WHEN c.halt_reason = excluded.halt_reason THEN c.halted_at ELSE excluded.halted_at END`) + `
SELECT ` + outcome

// Report implements the port.
func (s *CursorStore) Report(ctx context.Context, turn outbox.Turn, halt *outbox.Halt) error {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	var now outbox.Halt
	if halt != nil {
		now = *halt
	}
	var v verdict
	err := s.db.QueryRowContext(ctx, reportStatement, s.relay, turn.Token, turn.Revision, string(now.Reason), now.Detail).
		Scan(&v.held, &v.revision)
	if err != nil {
		return classify(ctx, fmt.Errorf("report a halt of %s: %w", s.relay, err))
	}
	return v.err(s.relay, turn)
}

// cursorColumns are the columns of a cursorRow, of a row of outbox_cursor named c and its row of the outbox named o.
const cursorColumns = `c.position, c.stream_created, c.stream_sequence, c.purged_to, c.revision, c.halt_reason, c.halt_detail, o.event_id`

// cursorRow is a row of outbox_cursor; all its columns are NULL where there is none.
type cursorRow struct {
	position, sequence, purgedTo, revision   sql.NullInt64
	created, haltReason, haltDetail, eventID sql.NullString
}

func (r *cursorRow) columns() []any {
	return []any{&r.position, &r.created, &r.sequence, &r.purgedTo, &r.revision, &r.haltReason, &r.haltDetail, &r.eventID}
}

func (r *cursorRow) cursor() outbox.Cursor {
	cursor := outbox.Cursor{
		Progress:       outbox.Progress{Position: outbox.Position(r.position.Int64), EventID: r.eventID.String},
		StreamCreated:  r.created.String,
		StreamSequence: uint64(r.sequence.Int64),
		PurgedTo:       outbox.Position(r.purgedTo.Int64),
		Revision:       r.revision.Int64,
	}
	if r.haltReason.Valid {
		cursor.Halt = &outbox.Halt{Reason: outbox.HaltReason(r.haltReason.String), Detail: r.haltDetail.String}
	}
	return cursor
}
