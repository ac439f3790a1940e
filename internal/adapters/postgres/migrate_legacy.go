package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

// Programs of earlier versions keep the versions of both sets in goose's default table. Other programs may use that table too. This program
// adopts such a database: the transaction that creates a set's own version table also copies the set's versions into it. No table with data
// is locked. The copies keep the times of the originals. By these times the program recognizes later that the old table is ours.
//
// The old table stays. The statement that writes to the set's own table also writes every version that earlier programs know to the old
// table. So an earlier program can start, together with this one or after it, and finds nothing to do.

// lastLegacy is the last version that a program with goose's default table knows.
const lastLegacy = 11

// legacyMark is a column that shows that our program applied a version, because no other program's table has this column.
type legacyMark struct {
	version       int64
	table, column string
}

var legacyMarks = map[Set][]legacyMark{
	EngineTables: {
		{2, "outbox", "aggregate_version"},
		{3, "inbox", "aggregate_version"},
		{4, "outbox_parked", "stream_sequence"},
		{6, "dead_letters", "first_failed_at"},
		{8, "outbox_cursor", "recorded_to"},
		{9, "outbox", "aggregate_version"},
		{10, "outbox", "aggregate_version"},
		{lastLegacy, "outbox_halts", "reported_at"},
	},
	ServiceTables: {
		{1, "orders", "amount_minor"},
		{3, "customer_totals", "amount_minor"},
		{5, "idempotency_keys", "order_id"},
		{7, "orders", "payment_reference"},
	},
}

// sharedVersion was one migration for both sets.
const sharedVersion = 3

// legacyVersions selects our versions in the old table, with their times.
const legacyVersions = `
SELECT l.version_id, max(l.tstamp) AS tstamp FROM ` + goose.DefaultTablename + ` AS l
JOIN unnest(?0::bigint[], ?1::text[], ?2::text[]) AS made (version_id, relation, field) USING (version_id)
JOIN pg_attribute AS a ON a.attrelid = to_regclass(made.relation) AND a.attname = made.field AND NOT a.attisdropped
WHERE l.is_applied GROUP BY l.version_id`

func (s Set) legacyArgs() []any {
	var versions []int64
	var tables, columns []string
	for _, mark := range legacyMarks[s] {
		versions, tables, columns = append(versions, mark.version), append(tables, mark.table), append(columns, mark.column)
	}
	return []any{pgdialect.Array(versions), pgdialect.Array(tables), pgdialect.Array(columns)}
}

// versionState describes the version tables of a set.
type versionState struct {
	exists    bool  // the set's own table exists
	legacy    bool  // the old table exists, this role may read it, and it is ours
	takenBack int64 // a version that the set's own table still has, and the old table does not; 0: none
}

// readVersions looks at the version tables of the set. It changes nothing. A version table and its first rows are created in one transaction,
// so readVersions never sees the table without these rows.
func (m *migrator) readVersions(ctx context.Context) (versionState, error) {
	var known versionState
	var there, readable bool
	err := m.db.QueryRowContext(ctx, `SELECT to_regclass(?0) IS NOT NULL, to_regclass(?1) IS NOT NULL,
		coalesce(has_table_privilege(to_regclass(?1), 'SELECT'), false)`,
		m.set.versionTable(), goose.DefaultTablename).Scan(&known.exists, &there, &readable)
	switch {
	case err == nil && there && !readable && !known.exists:
		err = m.checkUnreadable(ctx)
	case err != nil || !readable:
	case known.exists:
		err = m.db.QueryRowContext(ctx, `
			SELECT bool_or(ours.tstamp = l.tstamp) IS true, coalesce(min(ours.version_id) FILTER (WHERE l.version_id IS NULL), 0)
			FROM ?0 AS ours LEFT JOIN ?1 AS l ON l.version_id = ours.version_id AND l.is_applied
			WHERE ours.version_id BETWEEN 1 AND ?2 AND ours.version_id <> ?3`,
			bun.Ident(m.set.versionTable()), bun.Ident(goose.DefaultTablename), lastLegacy, sharedVersion).Scan(&known.legacy, &known.takenBack)
	default:
		err = m.db.NewRaw("SELECT EXISTS ("+legacyVersions+")", m.set.legacyArgs()...).Scan(ctx, &known.legacy)
	}
	if !known.legacy {
		known.takenBack = 0
	}
	return known, err
}

// checkUnreadable returns ErrMayNotMigrate if the set's tables exist without a version table, and this role may not read the old version
// table. A migration would try to make the set's tables again.
func (m *migrator) checkUnreadable(ctx context.Context) error {
	var ours bool
	err := m.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM unnest(?1::text[], ?2::text[]) AS made (relation, field)
		JOIN pg_attribute AS a ON a.attrelid = to_regclass(made.relation) AND a.attname = made.field)`, m.set.legacyArgs()...).Scan(&ours)
	if err == nil && ours {
		err = ErrMayNotMigrate.With("an earlier version of outboxie has made the %s's tables, and this role may not read %s, which lists the "+
			"applied migrations: run `outboxie migrate up` as the role that owns them, and then docker/roles.sql if you use its roles",
			m.set, goose.DefaultTablename)
	}
	return err
}

// applied returns when each version was applied.
func (m *migrator) applied(ctx context.Context, known versionState) (map[int64]time.Time, error) {
	var rows []struct {
		VersionID int64
		Tstamp    time.Time
	}
	var err error
	switch {
	case known.exists:
		err = m.db.NewRaw("SELECT version_id, max(tstamp) AS tstamp FROM ? WHERE is_applied GROUP BY version_id",
			bun.Ident(m.set.versionTable())).Scan(ctx, &rows)
	case known.legacy:
		err = m.db.NewRaw(legacyVersions, m.set.legacyArgs()...).Scan(ctx, &rows)
	}
	applied := make(map[int64]time.Time)
	for _, row := range rows {
		applied[row.VersionID] = row.Tstamp
	}
	return applied, err
}

// adopt creates the set's version table, if it is missing, with the versions that earlier programs have applied.
func (m *migrator) adopt(ctx context.Context) error {
	known, err := m.readVersions(ctx)
	if err != nil || known.exists {
		return err
	}
	locks, err := m.locker(known.legacy)
	if err != nil {
		return err
	}
	if err := locks.Lock(ctx, m.db.DB); err != nil {
		return err
	}
	err = m.createVersions(ctx)
	if unlocked := locks.Unlock(ctx, m.db.DB); err == nil {
		err = unlocked
	}
	return err
}

func (m *migrator) createVersions(ctx context.Context) error {
	known, err := m.readVersions(ctx) // again, because now nobody else migrates
	if err != nil || known.exists {
		return err
	}
	store, err := database.NewStore(database.DialectPostgres, m.set.versionTable())
	if err != nil {
		return err
	}
	var adopted int64
	err = m.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if err := store.CreateVersionTable(ctx, tx.Tx); err != nil {
			return err
		}
		if err := store.Insert(ctx, tx.Tx, database.InsertRequest{Version: 0}); err != nil || !known.legacy {
			return err
		}
		result, err := tx.ExecContext(ctx, "INSERT INTO "+m.set.versionTable()+" (version_id, is_applied, tstamp) "+
			"SELECT version_id, true, tstamp FROM ("+legacyVersions+") AS adopted ORDER BY version_id", m.set.legacyArgs()...)
		if err != nil {
			return err
		}
		adopted, err = result.RowsAffected()
		return err
	})
	if err == nil && known.legacy {
		m.logger.InfoContext(ctx, "took over the versions of an earlier program",
			"set", string(m.set), "migrations", adopted, "from", goose.DefaultTablename, "to", m.set.versionTable())
	}
	return err
}

// versionStore keeps the versions of a set.
type versionStore struct {
	database.Store
	legacy bool
}

var _ database.StoreExtender = (*versionStore)(nil)

// TableExists reports true, because adopt has created the table.
func (s *versionStore) TableExists(context.Context, database.DBTxConn) (bool, error) {
	return true, nil
}

// Insert records that a version was applied. It writes to the old table too.
func (s *versionStore) Insert(ctx context.Context, db database.DBTxConn, request database.InsertRequest) error {
	if !s.legacy || request.Version > lastLegacy {
		return s.Store.Insert(ctx, db, request)
	}
	_, err := db.ExecContext(ctx, `
		WITH earlier AS (
			INSERT INTO `+goose.DefaultTablename+` (version_id, is_applied)
			SELECT $1, true WHERE NOT EXISTS (SELECT FROM `+goose.DefaultTablename+` WHERE version_id = $1 AND is_applied)
		)
		INSERT INTO `+s.Tablename()+` (version_id, is_applied) VALUES ($1, true)`, request.Version)
	if err != nil {
		return fmt.Errorf("note that version %d was applied: %w", request.Version, err)
	}
	return nil
}

// Delete records that a version was taken back. It writes to the old table too.
func (s *versionStore) Delete(ctx context.Context, db database.DBTxConn, version int64) error {
	if !s.legacy || version > lastLegacy {
		return s.Store.Delete(ctx, db, version)
	}
	_, err := db.ExecContext(ctx, `
		WITH earlier AS (DELETE FROM `+goose.DefaultTablename+` WHERE version_id = $1)
		DELETE FROM `+s.Tablename()+` WHERE version_id = $1`, version)
	if err != nil {
		return fmt.Errorf("note that version %d was taken back: %w", version, err)
	}
	return nil
}
