package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

var _ inbox.Log = (*Inbox)(nil)

// The statements in this file look for the events of a hole: a part of the stream whose messages were removed before the lane read them.
// See inbox.Hole.

// reachedStatement returns whether this log fills the stream, the position up to which retention has removed rows, and the cursor's
// position if the cursor stands between two sequences.
const reachedStatement = `
SELECT coalesce(bool_or(stream_created = ?0), false), coalesce(max(purged_to), 0),
	max(position) FILTER (WHERE stream_created = ?0 AND stream_sequence BETWEEN ?1 AND ?2)
FROM outbox_cursor`

// boundsStatement returns two positions. The first is the position of the last event between ?3 and ?4 that is neither in the parking lot
// nor behind the hole. The second is the position of the last event that was redriven into the hole. A message behind the hole may have a
// lower position than the first of these two. Then the message is a copy of an earlier message.
const boundsStatement = `
SELECT coalesce((SELECT o.position FROM outbox AS o WHERE o.position > ?3 AND o.position < ?4` + unheldRow + `
		ORDER BY o.position DESC LIMIT 1), 0),
	coalesce((SELECT max(p.position) FROM outbox_parked AS p WHERE p.state = 'redriven' AND p.stream_sequence BETWEEN ?1 AND ?2), 0)`

// unheldRow says that a row of the log has no row in the parking lot, and is not at one of the positions ?5.
const unheldRow = `
		AND NOT EXISTS (SELECT FROM outbox_parked AS p WHERE p.position = o.position)
		AND NOT EXISTS (SELECT FROM unnest(?5::bigint[]) AS present (position) WHERE present.position = o.position)`

// earliestStatement returns the position after which the log has the last ?7 events before ?4. It returns no row if the log has fewer
// events.
const earliestStatement = `
SELECT o.position - 1 FROM outbox AS o WHERE o.position < ?4` + unheldRow + `
ORDER BY o.position DESC OFFSET ?7 - 1 LIMIT 1`

// holeRows are the rows of the log whose messages were in a hole, and that come after a position. The arguments: ?0 is the subscriber. ?1
// and ?2 are the hole's first and last sequence. ?3 and ?4 are the positions between which events are missing. ?6 is the position after
// which rows are wanted. An event with a row in the parking lot was in the hole only if it was redriven into the hole.
const holeRows = `
	SELECT o.position, o.event_id, o.event_type, o.aggregate_type, o.aggregate_id FROM outbox AS o
	WHERE o.position > greatest(?3, ?6) AND o.position < ?4
		AND NOT EXISTS (SELECT FROM outbox_parked AS p WHERE p.position = o.position)
	UNION ALL
	SELECT o.position, o.event_id, o.event_type, o.aggregate_type, o.aggregate_id
	FROM outbox_parked AS p JOIN outbox AS o ON o.position = p.position AND o.event_id = p.event_id
	WHERE p.state = 'redriven' AND p.stream_sequence BETWEEN ?1 AND ?2 AND p.position > ?6`

// holePageStatement looks at the next ?7 rows of the log. It returns the rows whose messages were in the hole, if the subscriber wants the
// event and has not handled it. Each row also says whether there may be more rows, and up to which position the statement has looked. The
// limit applies before everything else, so that a large hole is not read again and again.
const holePageStatement = `
WITH page AS MATERIALIZED (
	SELECT o.position, o.event_id, o.event_type, o.aggregate_type, o.aggregate_id FROM outbox AS o
	WHERE o.position > greatest(?3, ?6) AND o.position < ?4 ORDER BY o.position LIMIT ?7
), reach AS (
	SELECT count(*) = ?7 AS more, coalesce(max(position), 0) AS last FROM page
), hidden AS (
	SELECT * FROM page WHERE NOT EXISTS (SELECT FROM outbox_parked AS p WHERE p.position = page.position)
	UNION ALL
	SELECT o.position, o.event_id, o.event_type, o.aggregate_type, o.aggregate_id
	FROM reach, outbox_parked AS p JOIN outbox AS o ON o.position = p.position AND o.event_id = p.event_id
	WHERE p.state = 'redriven' AND p.stream_sequence BETWEEN ?1 AND ?2 AND p.position > ?6 AND (NOT reach.more OR p.position <= reach.last)
)
SELECT reach.more, reach.last, h.position, h.aggregate_type, h.aggregate_id
FROM reach LEFT JOIN (
	SELECT * FROM hidden WHERE event_type IN (SELECT event_type FROM subscriber_types WHERE subscriber = ?0)
		AND NOT EXISTS (SELECT FROM inbox AS i WHERE i.subscriber = ?0 AND i.event_id = hidden.event_id)
) AS h ON true
ORDER BY h.position`

// countRemovedStatement returns two numbers. The first is the number of positions after ?3 and up to ?7 whose event is neither in the log, nor
// behind the hole, nor in the inbox. The second is the number of messages of the hole that the log still has.
const countRemovedStatement = `
SELECT ?7 - ?3
	- (SELECT count(*) FROM outbox AS o WHERE o.position > ?3 AND o.position <= ?7)
	- (SELECT count(*) FROM (
		SELECT position FROM unnest(?5::bigint[]) AS present (position) WHERE position > ?3 AND position <= ?7
		UNION SELECT position FROM inbox WHERE subscriber = ?0 AND position > ?3 AND position <= ?7
	) AS known WHERE NOT EXISTS (SELECT FROM outbox AS o WHERE o.position = known.position)),
	(SELECT count(*) FROM (` + holeRows + `) AS h)`

// eventsStatement returns rows in order, until they have ?1 bytes of payload. It always returns the first row. Postgres knows the size of a
// payload on disk without reading the payload. So the statement does not read all payloads for the few that it returns.
const eventsStatement = `
SELECT position, event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload, recorded_at FROM (
	SELECT s.*, sum(octet_length(s.payload::text)) OVER (ORDER BY s.position) - octet_length(s.payload::text) AS before
	FROM (
		SELECT o.*, sum(pg_column_size(o.payload)) OVER (ORDER BY o.position) - pg_column_size(o.payload) AS stored_before
		FROM outbox AS o WHERE o.position = ANY (?0::bigint[])
	) AS s WHERE stored_before < ?1 OR stored_before = 0
) AS o WHERE before < ?1 OR before = 0 ORDER BY position`

const (
	maxPageRows = 5000 // the most rows of the log that one statement looks at
	maxPages    = 20   // the most pages that one call reads
)

// ReadHole reads in one snapshot, so that retention cannot remove a row between two statements. If retention has removed rows of the hole,
// or the log is in another database, ReadHole searches the whole inbox of the subscriber. There is no index for this search.
func (i *Inbox) ReadHole(ctx context.Context, subscriber string, hole inbox.Hole, limit inbox.ReadLimit) (lost inbox.HoleContents, err error) {
	ctx = allow(ctx, operatorTime)
	var failed error
	options := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	err = i.db.RunInTx(ctx, options, func(ctx context.Context, tx bun.Tx) error {
		l := &holeReader{tx: tx, subscriber: subscriber, hole: hole, limit: limit}
		lost, failed = l.run(ctx)
		return failed
	})
	if err != nil {
		return inbox.HoleContents{}, classify(ctx, fmt.Errorf("read the removed events of subscriber %s from the log: %w", subscriber, err))
	}
	return lost, nil
}

// CursorBetween runs one statement.
func (i *Inbox) CursorBetween(ctx context.Context, stream string, from, to uint64) (reached inbox.LogCursor, err error) {
	reached, _, err = reachedBy(ctx, i.db, stream, from, to)
	return reached, classify(ctx, err)
}

func reachedBy(ctx context.Context, db bun.IDB, stream string, from, to uint64) (reached inbox.LogCursor, purgedTo outbox.Position, err error) {
	var ours bool
	var position sql.NullInt64
	err = db.QueryRowContext(ctx, reachedStatement, stream, int64(from), int64(to)).Scan(&ours, (*int64)(&purgedTo), &position)
	return inbox.LogCursor{OtherStream: !ours, Known: position.Valid, Position: outbox.Position(position.Int64)}, purgedTo, err
}

// holeReader is one call of ReadHole.
type holeReader struct {
	tx           bun.Tx
	subscriber   string
	hole         inbox.Hole
	limit        inbox.ReadLimit
	shown        outbox.Position // where the hole ends according to the messages after it; 0: not known
	ends         outbox.Position // every event of the hole that was not redriven there comes before this position
	highest      outbox.Position // the highest position of the events that were in the hole
	startUnknown bool            // nobody knows where the hole begins in the log
}

func (l *holeReader) run(ctx context.Context) (lost inbox.HoleContents, err error) {
	reached, purgedTo, err := reachedBy(ctx, l.tx, l.hole.Stream, l.hole.Last, l.hole.LastRead)
	if err != nil {
		return lost, err
	}
	if reached.OtherStream {
		return l.otherDatabase(ctx)
	}
	l.shown = l.hole.EndsBefore
	if reached.Known {
		l.hole.EndsBefore = max(l.hole.EndsBefore, reached.Position+1, l.hole.After+1)
	}
	if l.hole.EndsBefore <= l.hole.After {
		return inbox.HoleContents{EndUnknown: true}, nil
	}
	if err := l.bound(ctx); err != nil {
		return lost, err
	}
	unknown, err := l.unknown(ctx, purgedTo)
	if err != nil {
		return lost, err
	}
	positions, through, more, err := l.choose(ctx)
	if err != nil {
		return lost, err
	}
	lost = inbox.HoleContents{CompleteTo: through, More: more, LostMessages: unknown}
	if unknown > 0 {
		lost.Why = fmt.Sprintf("retention has removed the log up to position %d", purgedTo)
	}
	if lost.Events, err = l.events(ctx, positions); err != nil {
		return lost, err
	}
	if read := len(lost.Events); read < len(positions) {
		lost.CompleteTo, lost.More = max(l.hole.After, lost.Events[read-1].Position), true
	}
	return lost, nil
}

// bound finds the positions between which events are missing. If nobody knows where the hole begins, bound counts from where the messages
// after the hole say that it ends. The cursor may be newer than these messages: since they were read, the stream may have lost its end and
// grown again. With the cursor's position, bound would count events that were never in the hole, and miss the first ones of the hole.
func (l *holeReader) bound(ctx context.Context) error {
	l.ends = l.hole.EndsBefore
	if l.startUnknown = l.hole.After == 0; l.startUnknown && l.hole.Size() > 0 {
		err := l.tx.QueryRowContext(ctx, earliestStatement, l.args(cmp.Or(l.shown, l.ends), 0, l.hole.Size())...).Scan((*int64)(&l.hole.After))
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	last, redriven := outbox.Position(0), outbox.Position(0)
	err := l.tx.QueryRowContext(ctx, boundsStatement, l.args(l.ends, 0)...).Scan((*int64)(&last), (*int64)(&redriven))
	l.ends, l.highest = last+1, max(last, redriven)
	return err
}

// otherDatabase returns the contents of the hole for a log in another database. The events cannot be read there.
func (l *holeReader) otherDatabase(ctx context.Context) (inbox.HoleContents, error) {
	handled := 0
	err := l.tx.QueryRowContext(ctx, "SELECT count(*) FROM inbox WHERE subscriber = ? AND sequence BETWEEN ? AND ?",
		l.subscriber, int64(l.hole.First), int64(l.hole.Last)).Scan(&handled)
	return inbox.HoleContents{
		OtherStream: true, CompleteTo: l.hole.LastPosition(0), LostMessages: l.hole.MaxUnknown(l.hole.Size(), handled),
		Why: fmt.Sprintf("this database is not the one whose log fills the stream of %s", l.hole.Stream),
	}, err
}

// args are the arguments of holeRows, followed by more.
func (l *holeReader) args(until, after outbox.Position, more ...any) []any {
	return append([]any{
		l.subscriber, int64(l.hole.First), int64(l.hole.Last), int64(l.hole.After), int64(until), pgdialect.Array(l.hole.PositionsAfter),
		int64(after),
	}, more...)
}

// unknown returns how many messages of the hole may have held events that neither the log nor the inbox has.
func (l *holeReader) unknown(ctx context.Context, purgedTo outbox.Position) (int, error) {
	last := min(purgedTo, l.hole.EndsBefore-1)
	if last <= l.hole.After {
		return 0, nil
	}
	gone, known := 0, 0
	if err := l.tx.QueryRowContext(ctx, countRemovedStatement, l.args(l.ends, 0, int64(last))...).Scan(&gone, &known); err != nil {
		return 0, err
	}
	if l.startUnknown {
		known = 0 // these messages may have been in the stream before the hole
	}
	return l.hole.MaxUnknown(gone, known), nil
}

// choose returns the positions of the first events that the lane must get. The lane needs no other event up to the position through.
func (l *holeReader) choose(ctx context.Context) (chosen []int64, through outbox.Position, more bool, err error) {
	after := outbox.Position(0)
	for range maxPages {
		page, err := l.page(ctx, after)
		if err != nil {
			return nil, 0, false, err
		}
		for _, position := range page.positions {
			if len(chosen) == l.limit.Count {
				return chosen, max(l.hole.After, outbox.Position(chosen[len(chosen)-1])), true, nil
			}
			chosen = append(chosen, position)
		}
		if !page.more {
			return chosen, l.hole.LastPosition(l.highest), false, nil
		}
		after = page.last
	}
	return chosen, max(l.hole.After, after), true, nil
}

// atOnce is how many rows one statement looks at: one more than the lane has room for, times the number of lanes. The factor assumes that
// each lane has about the same number of events.
func (l *holeReader) atOnce() int { return min((l.limit.Count+1)*max(l.hole.Lanes, 1), maxPageRows) }

// holePage is a part of the log, with the positions of the events that the lane must get.
type holePage struct {
	positions []int64
	last      outbox.Position
	more      bool
}

// page looks at the log up to the last event of the hole, also if that event was redriven there. If the relay publishes the log again, the
// messages after the hole carry earlier events of the same aggregates. These events were in the stream before, so they are taken here.
func (l *holeReader) page(ctx context.Context, after outbox.Position) (page holePage, err error) {
	rows, err := l.tx.QueryContext(ctx, holePageStatement, l.args(l.highest+1, after, l.atOnce())...)
	if err != nil {
		return page, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var position sql.NullInt64
		var aggregateType, aggregateID sql.NullString
		if err := rows.Scan(&page.more, (*int64)(&page.last), &position, &aggregateType, &aggregateID); err != nil {
			return page, err
		}
		key := outbox.Key{Type: aggregateType.String, ID: aggregateID.String}
		if position.Valid && inbox.LaneOf(key, l.hole.Lanes) == l.hole.Lane {
			page.positions = append(page.positions, position.Int64)
		}
	}
	return page, rows.Err()
}

// events reads the events at these positions, in order, until they reach the limit of bytes. It always reads the first event.
func (l *holeReader) events(ctx context.Context, positions []int64) (events []inbox.Event, err error) {
	if len(positions) == 0 {
		return nil, nil
	}
	rows, err := l.tx.QueryContext(ctx, eventsStatement, pgdialect.Array(positions), l.limit.Bytes)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var row logRow
		if err := rows.Scan(row.columns()...); err != nil {
			return nil, err
		}
		events = append(events, inbox.Event{Entry: row.entry(), Sequence: l.hole.Last})
	}
	return events, rows.Err()
}

// countStatement adds to the counts of a subscriber. A missed message counts once, however many lanes pass it.
const countStatement = `
UPDATE subscribers AS s SET filled = s.filled + ?1,
	missed = s.missed + coalesce((SELECT sum(upper(fresh) - lower(fresh)) FROM unnest(added.sequences - added.before) AS fresh), 0)::bigint,
	missed_stream = ?2, missed_sequences = added.before + added.sequences
FROM (
	SELECT CASE WHEN missed_stream = ?2 THEN missed_sequences ELSE '{}' END AS before, int8multirange(int8range(?3, ?4)) AS sequences
	FROM subscribers WHERE subscriber = ?0
) AS added
WHERE s.subscriber = ?0`

// lockCounts locks the subscriber's row if the batch changes the counts. An operator locks this row before the lanes, so a batch must do
// the same.
func (a *application) lockCounts(ctx context.Context) error {
	if !a.batch.ChangesCounts() {
		return nil
	}
	_, err := lockSubscriber(ctx, a.tx, a.subscriber)
	return err
}

// count adds the batch's numbers to the counts of the subscriber.
func (a *application) count(ctx context.Context) error {
	if !a.batch.ChangesCounts() {
		return nil
	}
	filled := 0
	for _, result := range a.results[:a.batch.FromLog] {
		if result != inbox.Duplicate {
			filled++
		}
	}
	missed := a.batch.Missed
	return a.exec(ctx, countStatement, a.subscriber, filled, a.batch.From.Stream, int64(missed.First), int64(missed.First)+int64(missed.Count))
}
