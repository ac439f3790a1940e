package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// readStatement reads, in one snapshot, the last row that was published and the rows after it. Every new event waits for such a read, so
// the statement reads nothing else. It does not use EXISTS for the parking lot, because Postgres may then read the whole lot into a hash
// table.
//
// Subqueries hide the positions from the planner, and the limit is a literal, so that Postgres keeps the plan. Otherwise Postgres would
// plan again for each position. Or it would expect to read all of a large table and compile the statement, which takes tens of
// milliseconds. With a lower and an upper bound the planner expects few rows, so it never scans the table.
//
// The statement does not read the payload of the published row again.
var readStatement = `
SELECT pg_is_in_recovery(), pg_backend_pid(),
	(SELECT true FROM outbox_parked AS p WHERE p.position = o.position) IS NOT NULL,
	` + columnsWith("CASE WHEN o.position = $1 THEN NULL "+payloadUpTo("$3::bigint")+" END") + `
FROM outbox AS o WHERE o.position BETWEEN (SELECT $1::bigint) AND (SELECT $2::bigint) ORDER BY o.position LIMIT `

const readName = "outboxie_log_"

// rows reads the row at a position and the rows after that position. The limit applies only to the rows after the position.
//
// If a read asks for limit.Count entries and the connection leads to Postgres itself, the read is a prepared statement, because planning
// takes longer than running. Behind a pooler each statement may run in another backend, so rows sends the text. The backend's id in the
// answer shows whether a pooler is in between.
func (l *Log) rows(ctx context.Context, at outbox.Position, limit relay.ReadLimit, to outbox.Position) (page relay.Page, err error) {
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return page, err
	}
	defer func() { _ = conn.Close() }()
	err = conn.Raw(func(driver any) error {
		s, ok := driver.(*session)
		if !ok {
			return fmt.Errorf("the driver is %T, not a session", driver)
		}
		return s.runPgx(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			page, err = l.query(ctx, conn, at, limit, to)
			return err
		})
	})
	return page, err
}

// query runs the read. After any error it drops the prepared statement from conn, so that the next read does not depend on it.
func (l *Log) query(ctx context.Context, conn *pgx.Conn, at outbox.Position, limit relay.ReadLimit, to outbox.Position) (page relay.Page, err error) {
	count := l.sizes.candidates(limit)
	atLimit := count == limit.Count
	limit.Count = count
	statement := readStatement + strconv.Itoa(count+1)
	if atLimit && l.noPooler.Load() {
		name := readName + strconv.Itoa(count)
		defer func() {
			if err != nil {
				l.noPooler.Store(false)
				_ = conn.Deallocate(ctx, name)
			}
		}()
		if _, err := conn.Prepare(ctx, name, statement); err != nil {
			return page, err
		}
		statement = name
	}
	rows, err := conn.Query(ctx, statement, int64(at), int64(to), int64(limit.LargestPayload()))
	if err != nil {
		return page, err
	}
	defer rows.Close()
	return l.scan(rows, conn.PgConn().PID(), at, limit)
}

// complete reports whether the row was read complete: no part was too large.
func complete(texts [4]pgtype.Text, headers, payload []byte) bool {
	return payload != nil && headers != nil && texts[0].Valid && texts[1].Valid && texts[2].Valid && texts[3].Valid
}

// scan ends a page before a row that was not read whole. If that row is the first one, scan ends the page after it.
func (l *Log) scan(rows pgx.Rows, opened uint32, at outbox.Position, limit relay.ReadLimit) (page relay.Page, err error) {
	var row outbox.Entry
	var standby bool
	var backend uint32
	var headers []byte
	var recordedAt pgtype.Timestamptz
	var texts [4]pgtype.Text
	columns := []any{
		&standby, &backend, &row.Parked, (*int64)(&row.Position), &row.ID, &texts[0], &texts[1], &row.Version, &texts[2],
		&texts[3], &headers, &row.Payload, &recordedAt,
	}
	page.Entries = make([]outbox.Entry, 0, l.sizes.expected(limit)+1)
	for count, bytes := 0, 0; rows.Next(); {
		if err := rows.Scan(columns...); err != nil {
			return page, err
		}
		l.noPooler.Store(backend == opened)
		if standby {
			return page, errStandby
		}
		if row.Position > at {
			count++
			if bytes += len(row.Payload) + len(headers) - len("{}"); !complete(texts, headers, row.Payload) {
				row.Payload, bytes = nil, bytes+limit.Bytes+1
			}
			if page.More = count > limit.Count || count > 1 && bytes > limit.Bytes; page.More {
				return page, nil
			}
		}
		row.RecordedAt = recordedAt.Time
		row.Key, row.Type, row.Subject = outbox.Key{Type: texts[0].String, ID: texts[1].String}, texts[2].String, texts[3].String
		if row.Headers, row.Invalid = parseHeaders(headers); !recordedAt.Valid {
			row.Invalid = invalidTime
		}
		page.Entries = append(page.Entries, row)
	}
	page.More = len(page.Entries) > limit.Count
	return page, rows.Err()
}
