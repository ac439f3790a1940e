package postgres

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

var _ inbox.Checkpoints = (*Inbox)(nil)

// createLanesStatement locks the subscriber's row. Then it inserts the first lane, and the other lanes only if it inserted the first. A program
// of an earlier version may insert the lanes at the same time without that lock. Then the insert of the first lane waits for that program.
//
// The first revision of the lanes is the number of this transaction. A forgotten subscriber of the same name may have had lanes before.
// Those lanes never had this revision: their first revision was the number of an earlier transaction, and each later transaction raised it
// by at most one.
const createLanesStatement = `
WITH known AS (
	INSERT INTO subscribers AS s (subscriber) VALUES (?0)
	ON CONFLICT (subscriber) DO UPDATE SET handler = s.handler RETURNING forgotten_at IS NOT NULL AS forgotten
), first AS (
	INSERT INTO subscriber_lanes (subscriber, lane, lanes, stream, sequence, stored_ns, progress, revision)
	SELECT ?0, 0, ?1, ?2, ?3, ?4, ?5::bigint, pg_current_xact_id()::text::bigint FROM known WHERE NOT forgotten
	ON CONFLICT DO NOTHING RETURNING revision
), others AS (
	INSERT INTO subscriber_lanes (subscriber, lane, lanes, stream, sequence, stored_ns, progress, revision)
	SELECT ?0, lane, ?1, ?2, ?3, ?4, ?5::bigint, revision FROM first, generate_series(1, ?1 - 1) AS lane
)
SELECT forgotten FROM known`

// CreateLanes makes all lanes in one statement.
func (i *Inbox) CreateLanes(ctx context.Context, subscriber string, lanes int, stream string, at inbox.StreamPosition) error {
	forgotten := false
	err := i.db.QueryRowContext(ctx, createLanesStatement, subscriber, lanes, stream, int64(at.Sequence), nanoseconds(at.StoredAt), progress(at)).
		Scan(&forgotten)
	if err == nil && forgotten {
		return forgottenError(subscriber)
	}
	return classify(ctx, err)
}

// heartbeatStatement announces the copy: it inserts or renews the copy's row in subscriber_copies. It returns a row for each lane, or one
// row without a lane. It also deletes announcements that are a minute old, except those that another copy renews or deletes at the same
// moment. It locks its own announcement first, and never waits for the announcement of another copy. So copies do not wait for each other.
var heartbeatStatement = `
WITH announced AS (
	INSERT INTO subscriber_copies (subscriber, instance, seen_at) VALUES (?0, ?1, clock_timestamp())
	ON CONFLICT (subscriber, instance) DO UPDATE SET seen_at = excluded.seen_at RETURNING instance
), gone AS (
	DELETE FROM subscriber_copies WHERE (subscriber, instance) IN (
		SELECT subscriber, instance FROM subscriber_copies
		WHERE EXISTS (SELECT FROM announced) AND seen_at < clock_timestamp() - interval '1 minute' AND (subscriber, instance) <> (?0, ?1)
		FOR UPDATE SKIP LOCKED)
)
SELECT others.names, others.silent, types.names, s.handler, s.paused_at IS NOT NULL, coalesce(s.yields_until > clock_timestamp(), false), s.forgotten_at, s.filled, s.missed,
	l.lane, l.lanes, l.stream, l.sequence, l.stored_ns, l.progress, l.revision,
	(extract(epoch FROM clock_timestamp() - l.moved_at) * 1000000)::bigint,
	EXISTS (SELECT FROM dead_letters WHERE subscriber = ?0 AND state <> 'discarded')
FROM (
	SELECT array_agg(instance ORDER BY instance) AS names,
		array_agg(instance ORDER BY instance) FILTER (WHERE seen_at <= clock_timestamp() - ` + strconv.FormatInt(inbox.CopySilentAfter.Milliseconds(), 10) + ` * interval '1 millisecond') AS silent
	FROM subscriber_copies
	WHERE subscriber = ?0 AND instance <> ?1 AND seen_at > clock_timestamp() - ` + strconv.FormatInt(inbox.CopyTimeout.Milliseconds(), 10) + ` * interval '1 millisecond'
) AS others CROSS JOIN (
	SELECT array_agg(event_type ORDER BY event_type COLLATE "C") AS names FROM subscriber_types WHERE subscriber = ?0
) AS types
LEFT JOIN subscribers AS s ON s.subscriber = ?0
LEFT JOIN subscriber_lanes AS l ON l.subscriber = ?0
ORDER BY l.lane`

// Heartbeat runs one statement, so lanes and subscription are read at one moment.
func (i *Inbox) Heartbeat(ctx context.Context, subscriber, instance string) (view inbox.View, err error) {
	rows, err := i.db.QueryContext(ctx, heartbeatStatement, subscriber, instance)
	if err != nil {
		return view, classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var lane, lanes, sequence, storedAt, progress, revision, idle, filled, missed sql.NullInt64
		var stream, handler sql.NullString
		var forgotten sql.NullTime
		var others, silent, types []string
		if err := rows.Scan(pgdialect.Array(&others), pgdialect.Array(&silent), pgdialect.Array(&types), &handler, &view.Paused, &view.OperatorWaits, &forgotten, &filled, &missed,
			&lane, &lanes, &stream, &sequence, &storedAt, &progress, &revision, &idle,
			&view.HasLetters); err != nil {
			return inbox.View{}, classify(ctx, err)
		}
		view.Copies, view.SilentCopies = others, silent
		view.FilledEvents, view.MissedMessages = filled.Int64, missed.Int64
		view.Types, view.Handler, view.Forgotten = types, handler.String, forgotten.Time
		if lane.Valid {
			view.Lanes = append(view.Lanes, inbox.Checkpoint{
				Lane: int(lane.Int64), Lanes: int(lanes.Int64), Stream: stream.String,
				StreamPosition: newStreamPosition(sequence.Int64, storedAt.Int64, progress.Int64),
				Revision:       revision.Int64, Idle: max(0, time.Duration(idle.Int64)*time.Microsecond),
			})
		}
	}
	if err := rows.Err(); err != nil {
		return inbox.View{}, classify(ctx, err)
	}
	view.Copies = append(view.Copies, instance)
	slices.Sort(view.Copies)
	return view, nil
}

// RemoveCopy deletes the copy's row.
func (i *Inbox) RemoveCopy(ctx context.Context, subscriber, instance string) error {
	_, err := i.db.ExecContext(ctx, "DELETE FROM subscriber_copies WHERE subscriber = ? AND instance = ?", subscriber, instance)
	return classify(ctx, err)
}

// Marks reads at most MarksKept rows.
func (i *Inbox) Marks(ctx context.Context, subscriber string, lane int) (marks []inbox.StreamPosition, err error) {
	rows, err := i.db.QueryContext(ctx, `SELECT sequence, stored_ns, coalesce(progress, 0) FROM subscriber_marks
		WHERE subscriber = ? AND lane = ? ORDER BY sequence DESC`, subscriber, lane)
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var sequence, storedAt, progress int64
		if err := rows.Scan(&sequence, &storedAt, &progress); err != nil {
			return nil, classify(ctx, err)
		}
		marks = append(marks, newStreamPosition(sequence, storedAt, progress))
	}
	return marks, classify(ctx, rows.Err())
}

// moveLane locks the lane of a checkpoint, and moves the lane. ?0 to ?6 are the subscriber and its checkpoint. ?7 to ?10 are the stream and
// the position to which the lane moves. moveLane does not move a lane that is locked, or that is not exactly at the checkpoint. It never
// waits.
//
// Postgres checks the condition twice: on the row of the statement's snapshot, and after the lock on the newest row. If moveLane finds the
// lane, both rows have the checkpoint's revision. Therefore the snapshot has everything that earlier transactions in this lane did.
const moveLane = `
UPDATE subscriber_lanes SET stream = ?7, sequence = ?8, stored_ns = ?9, progress = ?10::bigint, revision = revision + 1, moved_at = clock_timestamp()
WHERE ctid = (
	SELECT ctid FROM subscriber_lanes
	WHERE subscriber = ?0 AND lane = ?1 AND lanes = ?2 AND stream = ?3 AND sequence = ?4 AND stored_ns = ?5 AND revision = ?6
	FOR UPDATE SKIP LOCKED)
RETURNING `

// moveArgs are the arguments of a statement with moveLane.
func moveArgs(subscriber string, from inbox.Checkpoint, stream string, to inbox.StreamPosition, more ...any) []any {
	return append([]any{
		subscriber, from.Lane, from.Lanes, from.Stream, int64(from.Sequence), nanoseconds(from.StoredAt), from.Revision,
		stream, int64(to.Sequence), nanoseconds(to.StoredAt), progress(to),
	}, more...)
}

// laneMoved returns the error for a lane that could not be moved.
func laneMoved(subscriber string, from inbox.Checkpoint) error {
	return inbox.ErrLaneMoved.With("lane %d of subscriber %s is not at revision %d, sequence %d, or another transaction works on it",
		from.Lane, subscriber, from.Revision, from.Sequence)
}

// rewindStatement sees every mark, because its snapshot has the lane's last transaction (see moveLane).
const rewindStatement = `
WITH moved AS (` + moveLane + `lane), removed AS (
	DELETE FROM subscriber_marks WHERE subscriber = ?0 AND lane = ?1 AND sequence > ?8 AND EXISTS (SELECT FROM moved)
)
SELECT count(*) FROM moved`

// Rewind runs one statement.
func (i *Inbox) Rewind(
	ctx context.Context, subscriber string, from inbox.Checkpoint, stream string, to inbox.StreamPosition,
) (inbox.Checkpoint, error) {
	moved := 0
	err := i.db.QueryRowContext(ctx, rewindStatement, moveArgs(subscriber, from, stream, to)...).Scan(&moved)
	if err != nil {
		return inbox.Checkpoint{}, classify(ctx, err)
	}
	if moved == 0 {
		return inbox.Checkpoint{}, laneMoved(subscriber, from)
	}
	return movedTo(from, stream, to), nil
}

// movedTo returns a checkpoint after a move.
func movedTo(from inbox.Checkpoint, stream string, to inbox.StreamPosition) inbox.Checkpoint {
	return inbox.Checkpoint{Lane: from.Lane, Lanes: from.Lanes, Stream: stream, StreamPosition: to, Revision: from.Revision + 1}
}

// takeStatement also returns whether the subscriber has letters that the batch has to look at. Its snapshot has every letter that holds an
// aggregate of the lane, because only the lane's own transactions insert such letters. (Programs of earlier versions insert them too: see
// recognize.) A letter may have ended since the snapshot. Then the next event of its aggregate becomes a letter without need. Redeliver
// soon handles this letter.
const takeStatement = moveLane + `set_config('idle_in_transaction_session_timeout', ?11, true) AS timeout,
	EXISTS (SELECT FROM dead_letters WHERE subscriber = ?0 AND state <> 'discarded') AS letters`

// These statements take the lane and record the batch's events in one round trip. ?12 to ?17 are the columns of the events, and ?18 is the
// number of events. If there are letters, nothing is recorded, because failing letters must be locked before their events are recorded. If
// all events are new, no ids are returned.
const (
	takeOneStatement = `WITH taken AS (` + takeStatement + `), recorded AS (
	INSERT INTO inbox (` + inboxColumns + `)
	SELECT ?0, ?12::uuid, ?13, ?14, ?15::bigint, ?16::bigint, ?17::bigint FROM taken WHERE NOT letters
	ON CONFLICT DO NOTHING RETURNING event_id
)` + takenStatement

	takeAllStatement = `WITH taken AS (` + takeStatement + `), recorded AS (
	INSERT INTO inbox (` + inboxColumns + `)
	SELECT ?0, id::uuid, type, aggregate, version, position, sequence
	FROM taken, unnest(?12::text[], ?13::text[], ?14::text[], ?15::bigint[], ?16::bigint[], ?17::bigint[]) WITH ORDINALITY
		AS event (id, type, aggregate, version, position, sequence, number)
	WHERE NOT letters ORDER BY number ON CONFLICT DO NOTHING RETURNING event_id
)` + takenStatement

	takenStatement = `
SELECT timeout, letters, (SELECT count(*) FROM recorded),
	CASE WHEN (SELECT count(*) FROM recorded) < ?18 THEN (SELECT array_agg(event_id::text) FROM recorded) END
FROM taken`
)

var takeOnePrepared = prepare("take", takeOneStatement)

// take locks the lane, and moves it. Nobody sees the move before the commit. take also records the events, unless there are letters.
func (a *application) take(ctx context.Context, r recordRows, idleTimeout time.Duration) error {
	from := a.batch.From
	timeout := strconv.FormatInt(max(1, idleTimeout.Milliseconds()), 10)
	args := moveArgs(a.subscriber, from, from.Stream, a.batch.To, timeout)
	var ids []string
	found := []any{new(string), &a.anyLetters, &a.recorded, pgdialect.Array(&ids)}
	statement := takeStatement
	switch len(r.ids) {
	case 0:
		found = found[:2]
	case 1:
		statement, args = takeOneStatement, append(args, r.one()...)
		ctx = takeOnePrepared.with(ctx, append(slices.Clip(args), 1))
	default:
		statement, args = takeAllStatement, append(args, r.all()...)
	}
	err := a.tx.QueryRowContext(ctx, statement, append(args, len(r.ids))...).Scan(found...)
	if errors.Is(err, sql.ErrNoRows) {
		return laneMoved(a.subscriber, from)
	}
	if err != nil {
		return classify(ctx, err)
	}
	if a.recorded == len(r.ids) {
		ids = r.ids
	}
	a.refresh(r, ids)
	return nil
}

// moved returns the checkpoint after the transaction.
func (a *application) moved() inbox.Checkpoint {
	return movedTo(a.batch.From, a.batch.From.Stream, a.batch.To)
}

// markStatement inserts a mark, and removes the oldest ones. The removal does not see the new mark.
const markStatement = `
WITH kept AS (
	INSERT INTO subscriber_marks (subscriber, lane, sequence, stored_ns, progress) VALUES (?0, ?1, ?2, ?3, ?5::bigint)
	ON CONFLICT (subscriber, lane, sequence) DO UPDATE SET stored_ns = excluded.stored_ns, progress = excluded.progress
)
DELETE FROM subscriber_marks WHERE subscriber = ?0 AND lane = ?1 AND sequence <= (
	SELECT sequence FROM subscriber_marks WHERE subscriber = ?0 AND lane = ?1 AND sequence < ?2
	ORDER BY sequence DESC OFFSET ?4 LIMIT 1)`

// mark inserts a mark if one is due.
func (a *application) mark(ctx context.Context) error {
	if !inbox.MarkDue(a.batch.From.StreamPosition, a.batch.To) {
		return nil
	}
	return a.exec(ctx, markStatement, a.subscriber, a.batch.From.Lane, int64(a.batch.To.Sequence), nanoseconds(a.batch.To.StoredAt),
		inbox.MarksKept-1, progress(a.batch.To))
}

// nanoseconds returns a stored time as the table keeps it: timestamptz has only microseconds.
func nanoseconds(storedAt time.Time) int64 {
	if storedAt.IsZero() {
		return 0
	}
	return storedAt.UnixNano()
}

// progress returns the progress of a stream position as the table keeps it: NULL if the progress is unknown.
func progress(at inbox.StreamPosition) any {
	if at.Progress == 0 {
		return nil
	}
	return int64(at.Progress)
}

func newStreamPosition(sequence, storedAt, progress int64) inbox.StreamPosition {
	place := inbox.StreamPosition{Sequence: uint64(sequence), Progress: outbox.Position(progress)}
	if storedAt != 0 {
		place.StoredAt = time.Unix(0, storedAt).UTC()
	}
	return place
}
