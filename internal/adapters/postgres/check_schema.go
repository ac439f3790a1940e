package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/uptrace/bun/dialect/pgdialect"
)

// checkSchema returns ErrUnsafe if a table differs from the migrations in a way that can harm the engine. Each finding ends with the
// statement that repairs the table. checkSchema reads only catalogs that every role may read.
func (l *Log) checkSchema(ctx context.Context, sets []Set) error {
	checkTables := func(ctx context.Context) error { return l.checkTables(ctx, sets) }
	for _, check := range []func(context.Context) error{
		l.checkEncoding, checkTables, l.checkColumns, l.checkKeys, l.checkTriggers, l.checkRules, l.checkPositions,
	} {
		if err := check(ctx); err != nil {
			return classify(ctx, fmt.Errorf("check the database's schema: %w", err))
		}
	}
	return nil
}

// forEachRow runs a statement. It scans each row into columns, and then calls judge.
func (l *Log) forEachRow(ctx context.Context, columns []any, judge func() error, statement string, args ...any) error {
	rows, err := l.db.QueryContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := rows.Scan(columns...); err != nil {
			return err
		}
		if err := judge(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// checkEncoding refuses SQL_ASCII. In this encoding Postgres does not check the text that it stores.
func (l *Log) checkEncoding(ctx context.Context) error {
	var encoding string
	err := l.db.QueryRowContext(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding)
	if err == nil && encoding == "SQL_ASCII" {
		err = ErrUnsafe.With("the encoding of the database is SQL_ASCII, so payloads need not be UTF-8, and subscribers cannot read such events: " +
			"dump the database and restore it into one WITH ENCODING 'UTF8'")
	}
	return err
}

// durableTables are the engine's tables whose rows must survive a crash. serviceTables are the tables of the service.
var (
	durableTables = []string{"outbox", "outbox_cursor", "outbox_parked", "leases", "inbox", "dead_letters", "subscriber_lanes"}
	serviceTables = []string{"orders", "request_keys", "idempotency_keys", "customer_totals"}
)

const tablesStatement = `
SELECT t.name, coalesce(c.relkind::text, ''), coalesce(c.relpersistence::text, ''),
	coalesce((SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = c.oid), ''),
	coalesce((SELECT min(inhparent::regclass::text) FROM pg_inherits WHERE inhrelid = c.oid AND c.relispartition), '')
FROM unnest(?::text[]) AS t (name) LEFT JOIN pg_class AS c ON c.oid = to_regclass(t.name)`

func (l *Log) checkTables(ctx context.Context, sets []Set) error {
	tables := durableTables
	if len(sets) == 0 || slices.Contains(sets, ServiceTables) {
		tables = slices.Concat(durableTables, serviceTables)
	}
	var name, kind, persistence, child, parent string
	return l.forEachRow(ctx, []any{&name, &kind, &persistence, &child, &parent}, func() error {
		switch {
		case kind == "":
			return ErrUnsafe.With("the table %s does not exist: run the migrations", name)
		case persistence != "p":
			return ErrUnsafe.With("the table %[1]s is not logged, so a crash empties it: ALTER TABLE %[1]s SET LOGGED", name)
		case name != "outbox":
			return nil
		case kind != "r":
			return ErrUnsafe.With("outbox is not a plain table (its relkind is %q), so its positions need not be unique and its writers "+
				"cannot be seen: move its rows into a plain table of that name", kind)
		case child != "":
			return ErrUnsafe.With("the table %[1]s inherits from outbox, so its rows show in the log with positions of their own: "+
				"ALTER TABLE %[1]s NO INHERIT outbox", child)
		case parent != "":
			return ErrUnsafe.With("outbox is a partition of %[1]s, so rows get into it with positions that it did not give out: "+
				"ALTER TABLE %[1]s DETACH PARTITION outbox", parent)
		}
		return nil
	}, tablesStatement, pgdialect.Array(tables))
}

// logColumns are the columns of the outbox that the engine needs, with their types. The outbox may have other columns.
var logColumns = map[string]string{
	"position": "bigint", "event_id": "uuid", "aggregate_type": "text", "aggregate_id": "text", "aggregate_version": "bigint",
	"event_type": "text", "subject": "text", "headers": "jsonb", "payload": "json", "recorded_at": "timestamp with time zone",
}

const columnsStatement = `
SELECT attname, replace(format_type(atttypid, atttypmod), '"', ''), attnotnull, attidentity::text, attgenerated::text
FROM pg_attribute WHERE attrelid = to_regclass('outbox') AND attnum > 0 AND NOT attisdropped ORDER BY attnum`

func (l *Log) checkColumns(ctx context.Context) error {
	var name, kind, identity, generated string
	var notNull bool
	found := make(map[string]bool)
	err := l.forEachRow(ctx, []any{&name, &kind, &notNull, &identity, &generated}, func() error {
		want, ours := logColumns[name]
		found[name] = true
		const alter = "ALTER TABLE outbox ALTER COLUMN "
		switch {
		case !ours:
			return nil
		case kind != want:
			return ErrUnsafe.With("outbox.%[1]s is of type %[2]s, so what is published is not what was recorded: "+
				alter+"%[1]s TYPE %[3]s USING %[1]s::%[3]s", name, kind, want)
		case !notNull:
			return ErrUnsafe.With("outbox.%[1]s may be NULL, and such a row stops the relay: "+alter+"%[1]s SET NOT NULL", name)
		case generated != "":
			return ErrUnsafe.With("outbox.%[1]s is generated, so what is published is not what was recorded: "+alter+"%[1]s DROP EXPRESSION", name)
		case name == "position" && identity != "a":
			return ErrUnsafe.With("outbox.position is GENERATED BY DEFAULT, so a writer may choose a position that the relay has " +
				"passed: " + alter + "position SET GENERATED ALWAYS")
		}
		return nil
	}, columnsStatement)
	if err != nil {
		return err
	}
	for name := range logColumns {
		if !found[name] {
			return ErrUnsafe.With("outbox has no column %s: bring it back", name)
		}
	}
	return nil
}

// uniqueKey is a set of columns in which no two rows of a table may be equal.
type uniqueKey struct {
	table, columns, danger, cure string
}

var uniqueKeys = []uniqueKey{
	{"outbox", "position", "two rows of one position are published as one", "ALTER TABLE outbox ADD PRIMARY KEY (position)"},
	{
		"outbox", "aggregate_type, aggregate_id, aggregate_version", "writers that collide both append",
		"ALTER TABLE outbox ADD UNIQUE (aggregate_type, aggregate_id, aggregate_version)",
	},
	{
		"outbox", "event_id", "subscribers drop the second event of an id",
		"CREATE UNIQUE INDEX CONCURRENTLY outbox_event_id ON outbox (event_id)",
	},
	{"outbox_parked", "position", "no event can be parked", "ALTER TABLE outbox_parked ADD PRIMARY KEY (position)"},
	{"outbox_cursor", "relay", "no cursor can be saved", "ALTER TABLE outbox_cursor ADD PRIMARY KEY (relay)"},
	{"leases", "name", "no lease can be taken", "ALTER TABLE leases ADD PRIMARY KEY (name)"},
	{
		"inbox", "subscriber, event_id", "an event could take effect twice",
		"ALTER TABLE inbox ADD PRIMARY KEY (subscriber, event_id)",
	},
	{
		"subscriber_lanes", "subscriber, lane", "a lane could be worked on twice at the same time",
		"ALTER TABLE subscriber_lanes ADD PRIMARY KEY (subscriber, lane)",
	},
}

// keysStatement lists the unique indexes of the tables, valid or not. It sorts the columns of each index by name.
const keysStatement = `
SELECT t.name, i.indexrelid::regclass::text, i.indisvalid AND i.indisready AND i.indislive,
	(SELECT string_agg(a.attname, ', ' ORDER BY a.attname)
	FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS k (number) JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number)
FROM unnest(?::text[]) AS t (name) JOIN pg_index AS i ON i.indrelid = to_regclass(t.name)
WHERE i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL`

func (l *Log) checkKeys(ctx context.Context) error {
	var table, index, columns string
	var valid bool
	found := make(map[string]bool) // the table and columns of each valid index
	invalid := make(map[string]string)
	err := l.forEachRow(ctx, []any{&table, &index, &valid, &columns}, func() error {
		if what := table + " " + columns; valid {
			found[what] = true
		} else {
			invalid[what] = index
		}
		return nil
	}, keysStatement, pgdialect.Array(durableTables))
	if err != nil {
		return err
	}
	for _, k := range uniqueKeys {
		names := strings.Split(k.columns, ", ")
		slices.Sort(names)
		what := k.table + " " + strings.Join(names, ", ")
		switch index, broken := invalid[what]; {
		case found[what]:
		case broken:
			return ErrUnsafe.With("the unique index %[1]s on %[2]s (%[3]s) is invalid, because it could not be built, so %[4]s: "+
				"REINDEX INDEX CONCURRENTLY %[1]s", index, k.table, k.columns, k.danger)
		default:
			return ErrUnsafe.With("%s has no unique index on (%s), so %s: %s", k.table, k.columns, k.danger, k.cure)
		}
	}
	return nil
}

// appendOnly is the trigger that refuses changes of rows. It fires before each UPDATE statement: the bits of its type are BEFORE (2) and
// UPDATE (16).
const (
	appendOnly     = "outbox_append_only"
	appendOnlyType = 2 | 16
	appendOnlyCure = "CREATE TRIGGER " + appendOnly + " BEFORE UPDATE ON outbox FOR EACH STATEMENT EXECUTE FUNCTION " + appendOnly + "()"
)

func (l *Log) checkTriggers(ctx context.Context) error {
	var name string
	var kind int
	var enabled bool
	guarded := false
	err := l.forEachRow(ctx, []any{&name, &kind, &enabled}, func() error {
		const beforeRow = 1 | 2
		guard := strings.Trim(name, `"`) == appendOnly // a session may quote all identifiers
		switch {
		case guard && !enabled:
			return ErrUnsafe.With("the trigger %[1]s is disabled, so rows can be changed that were published already: "+
				"ALTER TABLE outbox ENABLE TRIGGER %[1]s", name)
		case guard && kind == appendOnlyType:
			guarded = true
		case enabled && kind&beforeRow == beforeRow:
			return ErrUnsafe.With("the trigger %[1]s can change rows of the outbox before they are written, or leave them out: "+
				"ALTER TABLE outbox DISABLE TRIGGER %[1]s", name)
		}
		return nil
	}, `SELECT quote_ident(tgname), tgtype, tgenabled IN ('O', 'A') FROM pg_trigger
		WHERE tgrelid = to_regclass('outbox') AND NOT tgisinternal ORDER BY tgname`)
	if err == nil && !guarded {
		err = ErrUnsafe.With("the trigger %s is missing, so rows can be changed that were published already: %s", appendOnly, appendOnlyCure)
	}
	return err
}

func (l *Log) checkRules(ctx context.Context) error {
	var name string
	return l.forEachRow(ctx, []any{&name}, func() error {
		return ErrUnsafe.With("the rule %[1]s rewrites statements on the outbox, so that events can be changed or left out: "+
			"DROP RULE %[1]s ON outbox", name)
	}, "SELECT quote_ident(rulename) FROM pg_rewrite WHERE ev_class = to_regclass('outbox') AND ev_enabled <> 'D' ORDER BY rulename")
}

// checkPositions looks for rows at positions below 1, which the relay never reads. It does so only if this role may read the log. The
// schema refuses new rows of this kind.
func (l *Log) checkPositions(ctx context.Context) error {
	var may bool
	var lowest sql.NullInt64
	err := l.db.QueryRowContext(ctx, "SELECT has_column_privilege('outbox', 'position', 'SELECT')").Scan(&may)
	if err == nil && may {
		err = l.db.QueryRowContext(ctx, "SELECT min(position) FROM outbox WHERE position < 1").Scan(&lowest)
	}
	if err == nil && lowest.Valid {
		err = ErrUnsafe.With("the outbox has a row at position %d, and the relay reads from 1 on, so its event is never published: "+
			"WITH gone AS (DELETE FROM outbox WHERE position < 1 RETURNING *) INSERT INTO outbox (event_id, aggregate_type, aggregate_id, "+
			"aggregate_version, event_type, subject, headers, payload, recorded_at) SELECT event_id, aggregate_type, aggregate_id, "+
			"aggregate_version, event_type, subject, headers, payload, recorded_at FROM gone ORDER BY position", lowest.Int64)
	}
	return err
}
