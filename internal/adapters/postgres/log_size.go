package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// A row can hold a gigabyte, which a program of ordinary size cannot. So no statement returns a value that can never be
// published: it returns NULL in its place, and explain says why.
//
// pg_column_size reads only the pointer to a value that is stored outside of its row, not the value. It returns the size as stored,
// which is the size itself unless the value is compressed. A compressed value is at most so many times larger:
const (
	mostByPGLZ = 88  // pglz writes 25 bytes for at most 8 matches of 273
	mostByAny  = 256 // lz4 writes a byte for at most 255
)

// Only if that does not decide, Postgres has to decompress a value to measure it. It does not send it.
const (
	longestText    = 4096                  // of each of aggregate type and id, event type, and subject; a broker's line is not longer
	longestHeaders = outbox.MaxHeaders     // as stored
	longestAsText  = 6 * outbox.MaxHeaders // the same headers as JSON, if each character is written as \u0001
	excerpt        = 100                   // characters of a text that is too long, for people
)

// entryNames are the names of entryColumns.
const entryNames = `position, event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload, recorded_at`

// entryColumns are the columns of a row of the outbox named o, in the order of logRow.columns and of Log.scan. largest is an
// expression for the size of the largest payload that is wanted. What is too large is NULL.
func entryColumns(largest string) string {
	return columnsWith("CASE " + payloadUpTo(largest) + " END")
}

func columnsWith(payload string) string {
	return `o.position, o.event_id, ` + ifShort("o.aggregate_type") + `, ` + ifShort("o.aggregate_id") + `, o.aggregate_version,
	` + ifShort("o.event_type") + `, ` + ifShort("o.subject") + `, ` + headersIfSmall + `, ` + payload + `,
	CASE WHEN ` + validTime + ` THEN o.recorded_at END`
}

// ifShort is cheap: octet_length of a text never reads the text.
func ifShort(column string) string {
	return fmt.Sprintf("CASE WHEN octet_length(%[1]s) <= %[2]d THEN %[1]s END", column, longestText)
}

var headersIfSmall = fmt.Sprintf(`CASE WHEN pg_column_size(o.headers) <= %[1]d THEN o.headers
		WHEN pg_column_size(o.headers) > %[2]d THEN NULL
		WHEN pg_column_compression(o.headers) IS NULL OR octet_length(o.headers::text) <= %[3]d THEN o.headers END`,
	longestHeaders/mostByAny, longestHeaders, longestAsText)

// payloadUpTo is the inside of a CASE. The cheapest question comes first, and decides about most payloads. A stored value has up to four
// bytes more.
func payloadUpTo(largest string) string {
	return fmt.Sprintf(`WHEN pg_column_size(o.payload) <= %[1]s / %[2]d THEN o.payload
		WHEN pg_column_size(o.payload) > %[1]s + 4 THEN NULL
		WHEN pg_column_size(o.payload) <= %[1]s AND pg_column_compression(o.payload) IS NULL THEN o.payload
		WHEN pg_column_compression(o.payload) = 'pglz' AND pg_column_size(o.payload) <= %[1]s / %[3]d THEN o.payload
		WHEN octet_length(o.payload::text) <= %[1]s THEN o.payload`, largest, mostByAny, mostByPGLZ)
}

// explainStatement names the first part of each row that is too large, and how large that is: of a compressed payload that is too
// large as it is stored, how large it is at least.
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

// explain completes the entries without a payload, whose rows were too large to be read whole. Each then says why it can never be
// published.
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
			entry.Invalid = outbox.TooLarge(payload, largest)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for position := range left {
		return fmt.Errorf("the row at position %d has gone while it was read", position)
	}
	return nil
}
