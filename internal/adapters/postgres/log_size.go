package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// A row can hold a gigabyte, which does not fit into the memory of an ordinary program. So no statement returns a value that is too large
// to be published. The statement returns NULL instead, and explain says why.
//
// If a value is stored outside of its row, pg_column_size reads only the pointer to it, not the value. It returns the size as stored. That
// is the value's size, unless the value is compressed. Decompressed, the value is at most this many times as large:
const (
	mostByPGLZ = 88  // pglz writes 25 bytes for at most 8 matches of 273 bytes
	mostByAny  = 256 // lz4 writes one byte for at most 255 bytes
)

// If these factors do not decide, Postgres has to decompress a value to measure it. Postgres does not send that value.
const (
	longestText    = 4096                  // of the aggregate type and id, the event type, and the subject; the broker takes no longer line
	longestHeaders = outbox.MaxHeaders     // as stored
	longestAsText  = 6 * outbox.MaxHeaders // the same headers as JSON, if each character is written as \u0001
	excerpt        = 100                   // characters of a text that is too long, shown to people
)

// entryNames are the names of the columns in entryColumns.
const entryNames = `position, event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload, recorded_at`

// entryColumns are the columns of a row of the outbox named o, in the order of logRow.columns and of Log.scan. largest is an SQL expression
// for the size of the largest payload that is wanted. A value that is too large is NULL.
func entryColumns(largest string) string {
	return columnsWith("CASE " + payloadUpTo(largest) + " END")
}

func columnsWith(payload string) string {
	return `o.position, o.event_id, ` + ifShort("o.aggregate_type") + `, ` + ifShort("o.aggregate_id") + `, o.aggregate_version,
	` + ifShort("o.event_type") + `, ` + ifShort("o.subject") + `, ` + headersIfSmall + `, ` + payload + `,
	CASE WHEN ` + validTime + ` THEN o.recorded_at END`
}

// ifShort returns a column, or NULL if its text is too long. It is cheap, because octet_length does not read the text.
func ifShort(column string) string {
	return fmt.Sprintf("CASE WHEN octet_length(%[1]s) <= %[2]d THEN %[1]s END", column, longestText)
}

var headersIfSmall = fmt.Sprintf(`CASE WHEN pg_column_size(o.headers) <= %[1]d THEN o.headers
		WHEN pg_column_size(o.headers) > %[2]d THEN NULL
		WHEN pg_column_compression(o.headers) IS NULL OR octet_length(o.headers::text) <= %[3]d THEN o.headers END`,
	longestHeaders/mostByAny, longestHeaders, longestAsText)

// payloadUpTo is the inside of a CASE. The cheapest condition comes first, and decides for most payloads. A value's stored size may be up
// to four bytes larger than the value.
func payloadUpTo(largest string) string {
	return fmt.Sprintf(`WHEN pg_column_size(o.payload) <= %[1]s / %[2]d THEN o.payload
		WHEN pg_column_size(o.payload) > %[1]s + 4 THEN NULL
		WHEN pg_column_size(o.payload) <= %[1]s AND pg_column_compression(o.payload) IS NULL THEN o.payload
		WHEN pg_column_compression(o.payload) = 'pglz' AND pg_column_size(o.payload) <= %[1]s / %[3]d THEN o.payload
		WHEN octet_length(o.payload::text) <= %[1]s THEN o.payload`, largest, mostByAny, mostByPGLZ)
}

// explainStatement names the first part of each row that is too large, and the size of that part. If the part is compressed and its stored
// size is already too large, the statement returns only a lower bound: "more than …".
var explainStatement = `
SELECT o.position, ` + shortened("o.aggregate_type") + `, ` + shortened("o.aggregate_id") + `, ` + shortened("o.event_type") + `,
	` + shortened("o.subject") + `,
	CASE ` + tooLong("aggregate type", "o.aggregate_type") + tooLong("aggregate id", "o.aggregate_id") +
	tooLong("event type", "o.event_type") + tooLong("subject", "o.subject") + fmt.Sprintf(`
	WHEN pg_column_size(o.headers) > %[1]d
		THEN 'its headers take ' || `+atLeast("o.headers")+` || ' bytes, and at most %[1]d can be sent'
	WHEN pg_column_compression(o.headers) IS NOT NULL AND octet_length(o.headers::text) > %[2]d
		THEN 'its headers take ' || octet_length(o.headers::text) || ' bytes, and at most %[1]d can be sent'
	END`, longestHeaders, longestAsText) + `,
	CASE WHEN pg_column_size(o.payload) > greatest(?1 + 4, 8192) THEN ` + atLeast("o.payload") + ` ELSE octet_length(o.payload::text)::text END
FROM outbox AS o WHERE o.position = ANY (?0::bigint[])`

func shortened(column string) string {
	return fmt.Sprintf("CASE WHEN octet_length(%[1]s) <= %[2]d THEN %[1]s ELSE left(%[1]s, %[3]d) || '…' END", column, longestText, excerpt)
}

func tooLong(name, column string) string {
	return fmt.Sprintf(`
	WHEN octet_length(%[2]s) > %[3]d THEN 'its %[1]s takes ' || octet_length(%[2]s) || ' bytes, and at most %[3]d can be sent'`,
		name, column, longestText)
}

func atLeast(column string) string {
	return fmt.Sprintf("CASE WHEN pg_column_compression(%[1]s) IS NULL THEN '' ELSE 'more than ' END || pg_column_size(%[1]s)", column)
}

// explain completes the entries without a payload, whose rows were too large to be read whole. Afterwards each of them says why it can
// never be published.
func explain(ctx context.Context, db *bun.DB, entries []outbox.Entry, largest int) error {
	var asked []int64
	left := make(map[int64]*outbox.Entry)
	for i := range entries {
		if entry := &entries[i]; entry.Payload == nil {
			asked = append(asked, int64(entry.Position))
			left[int64(entry.Position)] = entry
		}
	}
	if len(asked) == 0 {
		return nil
	}
	rows, err := db.QueryContext(ctx, explainStatement, pgdialect.Array(asked), largest)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var position int64
		var key outbox.Key
		var kind, subject, payload string
		var reason sql.NullString
		if err := rows.Scan(&position, &key.Type, &key.ID, &kind, &subject, &reason, &payload); err != nil {
			return err
		}
		entry := left[position]
		delete(left, position)
		entry.Key, entry.Type, entry.Subject = key, kind, subject
		if entry.Invalid = reason.String; !reason.Valid {
			entry.Invalid = outbox.TooLargeReason(payload, largest)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for position := range left {
		return fmt.Errorf("the row at position %d was deleted during the read", position)
	}
	return nil
}
