package postgres_test

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// earlier is the migrator of the last version with a single set of migrations. Its migrations are in testdata/legacy, and its
// versions in goose's default table.
func earlier(t *testing.T, db *bun.DB) *goose.Provider {
	t.Helper()
	locker, err := lock.NewPostgresTableLocker()
	require.NoError(t, err)
	provider, err := goose.NewProvider(goose.DialectPostgres, db.DB, os.DirFS("testdata/legacy"), goose.WithLocker(locker))
	require.NoError(t, err)
	return provider
}

// legacyDatabase returns a database that an earlier version has migrated to version. With version 0 the database is empty.
func legacyDatabase(t *testing.T, version int64) *bun.DB {
	t.Helper()
	db := open(t, postgres.Options{URL: emptyDatabase(t)})
	if version > 0 {
		_, err := earlier(t, db).UpTo(t.Context(), version)
		require.NoError(t, err)
	}
	return db
}

// schema describes every column, constraint, index, trigger and function, except for the version tables.
func schema(t *testing.T, db *bun.DB) []string {
	t.Helper()
	var described []string
	require.NoError(t, db.NewRaw(`
		WITH tables AS (
			SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
				AND relname NOT LIKE 'goose%' AND relname NOT LIKE 'outboxie%migration%'
		)
		SELECT format('%s.%s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull,
			(SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))
		FROM pg_attribute JOIN tables ON attrelid = tables.oid WHERE attnum > 0 AND NOT attisdropped
		UNION ALL SELECT format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(c.oid)) FROM pg_constraint AS c JOIN tables ON conrelid = tables.oid
		UNION ALL SELECT format('%s %s', pg_get_indexdef(indexrelid), indisvalid) FROM pg_index JOIN tables ON indrelid = tables.oid
		UNION ALL SELECT pg_get_triggerdef(t.oid) FROM pg_trigger AS t JOIN tables ON tgrelid = tables.oid
		UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		ORDER BY 1`).Scan(t.Context(), &described))
	return described
}

// earlierVersions returns the versions in goose's default table, with the time of each.
func earlierVersions(t *testing.T, db *bun.DB) map[int64]time.Time {
	t.Helper()
	var rows []struct {
		VersionID int64
		Tstamp    time.Time
	}
	require.NoError(t, db.NewRaw("SELECT version_id, tstamp FROM goose_db_version WHERE version_id > 0").Scan(t.Context(), &rows))
	versions := make(map[int64]time.Time)
	for _, row := range rows {
		require.NotContains(t, versions, row.VersionID, "a version is there twice")
		versions[row.VersionID] = row.Tstamp
	}
	return versions
}

// TestDatabasesOfEarlierProgramsAreAdopted checks upgrades of databases of several ages, by several instances at once. Each
// database gets the schema of a new one and keeps its data. The earlier version then finds nothing to migrate.
func TestDatabasesOfEarlierProgramsAreAdopted(t *testing.T) {
	t.Parallel()
	fresh := legacyDatabase(t, 0)
	require.NoError(t, postgres.MigrateUp(t.Context(), fresh, quiet))
	want := schema(t, fresh)
	for _, version := range []int64{5, 7, 11} {
		db := legacyDatabase(t, version)
		before := earlierVersions(t, db)
		exec(t, db, `INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at)
			VALUES (gen_random_uuid(), gen_random_uuid(), 1, 'USD', 'created', 1, now(), now())`)
		requireStatus(t, db, version)
		var start sync.WaitGroup
		for range 4 {
			start.Go(func() { require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet)) })
		}
		start.Wait()

		require.Equal(t, want, schema(t, db), version)
		var orders int
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM orders").Scan(&orders))
		require.Equal(t, 1, orders)
		steps, err := postgres.MigrateStatus(t.Context(), db, quiet)
		require.NoError(t, err)
		for _, step := range steps {
			require.True(t, step.Applied, step.Name)
			if at, known := before[step.Version]; known {
				require.Equal(t, at, step.AppliedAt, "%s was applied by the earlier program", step.Name)
			}
		}
		require.Len(t, earlierVersions(t, db), 11)
		pending, err := earlier(t, db).HasPending(t.Context())
		require.NoError(t, err)
		require.False(t, pending, "the earlier program may start again")
	}
}

// requireStatus checks the status of each migration before the upgrade, and that the query changes nothing.
func requireStatus(t *testing.T, db *bun.DB, version int64) {
	t.Helper()
	there := tables(t, db)
	steps, err := postgres.MigrateStatus(t.Context(), db, quiet)
	require.NoError(t, err)
	for _, step := range steps {
		require.Equal(t, step.Version <= version, step.Applied, step.Name)
	}
	require.Equal(t, there, tables(t, db), "to look changes nothing")
}

// TestAdoptionWaitsForNoTable checks that the old versions are adopted while another transaction locks every table that holds
// data.
func TestAdoptionWaitsForNoTable(t *testing.T) {
	t.Parallel()
	db := legacyDatabase(t, 11)
	busy, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	exec(t, busy, "LOCK TABLE orders, outbox, leases, outbox_cursor, inbox, customer_totals, outbox_parked, idempotency_keys, dead_letters, outbox_halts")
	exec(t, busy, "LOCK TABLE goose_db_version IN SHARE MODE") // other transactions may still read it
	migrated := make(chan error, 1)
	go func() { migrated <- postgres.MigrateUp(t.Context(), db, quiet) }()
	require.Eventually(t, func() bool {
		var adopted int
		err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM outboxie_engine_migrations WHERE version_id BETWEEN 1 AND 11").Scan(&adopted)
		return err == nil && adopted == 8
	}, beginTimeout, 10*time.Millisecond)
	require.NoError(t, busy.Rollback())
	require.NoError(t, <-migrated)
}

// TestAnotherRolesTablesAreNotMadeAgain checks a role that may create tables, but may not read the versions of the earlier
// program. The migration fails and creates nothing.
func TestAnotherRolesTablesAreNotMadeAgain(t *testing.T) {
	t.Parallel()
	address := emptyDatabase(t)
	db := open(t, postgres.Options{URL: address})
	_, err := earlier(t, db).UpTo(t.Context(), 7)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.ExecContext(context.WithoutCancel(t.Context()), "DROP OWNED BY newcomer; DROP ROLE newcomer")
		require.NoError(t, err)
	})
	exec(t, db, "CREATE ROLE newcomer LOGIN PASSWORD 'newcomer'; GRANT CREATE, USAGE ON SCHEMA public TO newcomer")
	as, err := url.Parse(address)
	require.NoError(t, err)
	as.User = url.UserPassword("newcomer", "newcomer")
	there := tables(t, db)
	newcomer := open(t, postgres.Options{URL: as.String()})
	err = postgres.MigrateUp(t.Context(), newcomer, quiet)
	require.ErrorIs(t, err, postgres.ErrMayNotMigrate)
	require.ErrorContains(t, err, "may not read goose_db_version")
	_, err = postgres.MigrateStatus(t.Context(), newcomer, quiet)
	require.ErrorIs(t, err, postgres.ErrMayNotMigrate)
	require.Equal(t, there, tables(t, db))
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet), "the cure")
}

// TestVersionsOfAnotherProgramAreNotOurs checks that migrations ignore goose's default table if another program uses it, and do
// not change that table.
func TestVersionsOfAnotherProgramAreNotOurs(t *testing.T) {
	t.Parallel()
	db := legacyDatabase(t, 0)
	exec(t, db, `CREATE TABLE goose_db_version (id integer PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, version_id bigint NOT NULL,
		is_applied boolean NOT NULL, tstamp timestamp NOT NULL DEFAULT now())`)
	exec(t, db, "INSERT INTO goose_db_version (version_id, is_applied) SELECT n, true FROM generate_series(0, 9) AS n")
	exec(t, db, "CREATE TABLE vouchers ()")
	theirs := earlierVersions(t, db)
	requireStatus(t, db, 0)
	for range 2 {
		require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet))
		require.Equal(t, theirs, earlierVersions(t, db))
	}
	require.NoError(t, postgres.NewLog(db, relayName, quiet).Check(t.Context()))
	downTo(t, db, 0)
	require.Equal(t, theirs, earlierVersions(t, db))
	require.NotContains(t, tables(t, db), "outbox")
	require.Contains(t, tables(t, db), "vouchers")
}

// TestEarlierProgramTakesAMigrationBack checks that both versions can migrate the same database in turns. A migration that the
// earlier version took back is an error.
func TestEarlierProgramTakesAMigrationBack(t *testing.T) {
	t.Parallel()
	db := legacyDatabase(t, 7)
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet))
	downTo(t, db, 9)
	require.Len(t, earlierVersions(t, db), 9, "what is taken back is taken back for the earlier program, too")
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet))
	require.Len(t, earlierVersions(t, db), 11)

	_, err := earlier(t, db).Down(t.Context())
	require.NoError(t, err)
	err = postgres.MigrateUp(t.Context(), db, quiet)
	require.ErrorIs(t, err, postgres.ErrReverted)
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	require.ErrorContains(t, err, "migration 11 of the engine's tables")
	_, err = earlier(t, db).Up(t.Context())
	require.NoError(t, err)
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet))
}

// TestEarlierProgramOnANewDatabase checks the section "Back to an earlier version" of docs/operations.md on a new database.
func TestEarlierProgramOnANewDatabase(t *testing.T) {
	t.Parallel()
	db := legacyDatabase(t, 0)
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet))
	_, err := earlier(t, db).Up(t.Context())
	require.ErrorContains(t, err, `relation "orders" already exists`)
	exec(t, db, "DROP TABLE goose_db_version")
	for _, statement := range documented(t, "Back to an earlier version") {
		exec(t, db, statement)
	}
	pending, err := earlier(t, db).HasPending(t.Context())
	require.NoError(t, err)
	require.False(t, pending)
	require.Len(t, earlierVersions(t, db), 11)
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet))
	downTo(t, db, 10)
	require.Len(t, earlierVersions(t, db), 10, "from then on it counts as ours")
}

// logged has log lines.
type logged struct{ infra.Buffer }

func (l *logged) says(t *testing.T, parts ...string) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, line := range strings.Split(l.String(), "\n") {
			found := 0
			for _, part := range parts {
				if strings.Contains(line, part) {
					found++
				}
			}
			if found == len(parts) {
				return true
			}
		}
		return false
	}, beginTimeout, 20*time.Millisecond, "%q", parts)
}

// TestMigrationSaysForWhatItWaits checks that a migration logs each kind of wait: for another migration, for a table, and for
// open transactions.
func TestMigrationSaysForWhatItWaits(t *testing.T) {
	t.Parallel()
	db := legacyDatabase(t, 7)
	log := &logged{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	begin := func(statement string) bun.Tx {
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		exec(t, tx, statement)
		return tx
	}
	exec(t, db, "UPDATE goose_lock SET locked = true, locked_by = 'app1-of-before', lease_expires_at = now() + interval '1 hour'")
	reads := begin("SELECT FROM outbox_cursor")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	migrated := make(chan error, 1)
	go func() { migrated <- postgres.MigrateUp(ctx, db, logger) }()
	log.says(t, "another process migrates the database", "lock=goose_lock", "app1-of-before")
	exec(t, db, "UPDATE goose_lock SET locked = false")
	log.says(t, "a migration waits for a table that is in use", "00008_outbox_sequence.sql", "idle in transaction", "SELECT FROM outbox_cursor")
	writes := begin("INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, subject, headers, payload) VALUES ('a', 'a', 'dead', '', 1, '', '{}', '')")
	require.NoError(t, reads.Rollback())
	log.says(t, "an index waits for open transactions", "INSERT INTO dead_letters")
	require.NoError(t, writes.Rollback())
	require.NoError(t, <-migrated)
}
