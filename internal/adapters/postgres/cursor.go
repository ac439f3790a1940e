package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// CursorStore keeps a relay's row of outbox_cursor, fenced by the lease of the same name.
type CursorStore struct {
	db     *bun.DB
	relay  string
	stream string
}

var _ ports.CursorStore = (*CursorStore)(nil)

// NewCursorStore returns the store of relay, whose lease has the same name, and which publishes to stream.
func NewCursorStore(db *bun.DB, relay, stream string) *CursorStore {
	return &CursorStore{db: db, relay: relay, stream: stream}
}

const loadCursorStatement = `
SELECT c.position, c.stream_created, c.stream_sequence, c.purged_to, o.event_id
FROM outbox_cursor AS c LEFT JOIN outbox AS o ON o.position = c.position
WHERE c.relay = ?`

// Load implements the port.
func (s *CursorStore) Load(ctx context.Context) (outbox.Cursor, error) {
	cursor, err := scanCursor(s.db.QueryRowContext(ctx, loadCursorStatement, s.relay))
	if errors.Is(err, sql.ErrNoRows) {
		return outbox.Cursor{}, nil
	}
	if err != nil {
		return outbox.Cursor{}, classify(ctx, fmt.Errorf("load the cursor of %s: %w", s.relay, err))
	}
	return cursor, nil
}

// saveCursorStatement locks the lease by its token while it writes, and is over when it answers. A plain look at the
// token would let a former leader that was stalled write after its successor; a lock held over a round trip would let a
// frozen one keep the successor out.
const saveCursorStatement = `
WITH fence AS (
	SELECT token FROM leases WHERE name = ?0 AND token = ?1 FOR SHARE
), saved AS (
	INSERT INTO outbox_cursor AS c (relay, position, stream, stream_created, stream_sequence, token, updated_at)
	SELECT ?0, ?2, ?3, nullif(?4, ''), ?5, token, clock_timestamp() FROM fence
	ON CONFLICT (relay) DO UPDATE SET position = excluded.position, stream = excluded.stream,
		stream_created = excluded.stream_created, stream_sequence = excluded.stream_sequence,
		token = excluded.token, updated_at = excluded.updated_at
	RETURNING c.position, c.stream_created, c.stream_sequence, c.purged_to
)
SELECT saved.*, o.event_id FROM saved LEFT JOIN outbox AS o ON o.position = saved.position`

// Save implements the port.
func (s *CursorStore) Save(ctx context.Context, term outbox.Term, cursor outbox.Cursor) (outbox.Cursor, error) {
	saved, err := scanCursor(s.db.QueryRowContext(ctx, saveCursorStatement, s.relay, term.Token,
		int64(cursor.Position), s.stream, cursor.StreamCreated, int64(cursor.StreamSequence)))
	if errors.Is(err, sql.ErrNoRows) {
		return outbox.Cursor{}, ports.ErrLeaseLost.With("the lease %s is not held under token %d any more", s.relay, term.Token)
	}
	if err != nil {
		return outbox.Cursor{}, classify(ctx, fmt.Errorf("save the cursor of %s: %w", s.relay, err))
	}
	return saved, nil
}

func scanCursor(row *sql.Row) (outbox.Cursor, error) {
	var position, sequence, purgedTo int64
	var created, eventID sql.NullString
	if err := row.Scan(&position, &created, &sequence, &purgedTo, &eventID); err != nil {
		return outbox.Cursor{}, err
	}
	return outbox.Cursor{
		Progress:       outbox.Progress{Position: outbox.Position(position), EventID: eventID.String},
		StreamCreated:  created.String,
		StreamSequence: uint64(sequence),
		PurgedTo:       outbox.Position(purgedTo),
	}, nil
}
