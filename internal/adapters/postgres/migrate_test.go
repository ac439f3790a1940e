package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// emptyDatabase returns the address of a database that was never migrated.
func emptyDatabase(t *testing.T) string {
	t.Helper()
	address := infra.Database(t)
	exec(t, open(t, postgres.Options{URL: address}), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	return address
}

func requireApplied(t *testing.T, url string, want bool) []postgres.Migration {
	t.Helper()
	steps, err := postgres.MigrateStatus(t.Context(), open(t, postgres.Options{URL: url}), quiet)
	require.NoError(t, err)
	require.NotEmpty(t, steps)
	for _, step := range steps {
		require.Equal(t, want, step.Applied, step.Name)
		require.Equal(t, want, !step.AppliedAt.IsZero(), step.Name)
	}
	return steps
}

func TestMigrationsMayBeStartedByManyAtOnce(t *testing.T) {
	url := emptyDatabase(t)
	var start sync.WaitGroup
	failures := make(chan error, 8)
	for range 8 {
		db := open(t, postgres.Options{URL: url, MaxOpenConns: 2})
		start.Go(func() { failures <- postgres.MigrateUp(t.Context(), db, quiet) })
	}
	start.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
	requireApplied(t, url, true)
}

func TestMigrationsGoDownAndUpAgain(t *testing.T) {
	url := emptyDatabase(t)
	db := open(t, postgres.Options{URL: url})
	steps := requireApplied(t, url, false)
	require.Equal(t, "00002_outbox.sql", steps[0].Name)
	require.Empty(t, tables(t, db), "to look changes nothing")
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet))
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet), "nothing left to do")
	downTo(t, db, 0)
	for _, set := range postgres.Sets() {
		_, found, err := postgres.NewestMigration(t.Context(), db, quiet, set)
		require.NoError(t, err)
		require.False(t, found, "nothing left to take back")
	}
	requireApplied(t, url, false)
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet))
	requireApplied(t, url, true)
}

func TestMigrationsOutliveACrashedHolderOfTheirLock(t *testing.T) {
	url := emptyDatabase(t)
	db := open(t, postgres.Options{URL: url})
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet))
	newest, _, err := postgres.NewestMigration(t.Context(), db, quiet, postgres.EngineTables)
	require.NoError(t, err)
	require.NoError(t, postgres.MigrateDown(t.Context(), db, quiet, postgres.EngineTables, newest.Version))
	crash := func(lease time.Duration) {
		exec(t, db, `UPDATE outboxie_engine_migration_lock SET locked = true, locked_by = 'crashed',
			lease_expires_at = clock_timestamp() + ? * interval '1 microsecond'`, lease.Microseconds())
	}

	crash(300 * time.Millisecond)
	require.NoError(t, postgres.MigrateUp(t.Context(), db, quiet))
	requireApplied(t, url, true)

	crash(time.Hour)
	impatient, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = postgres.MigrateDown(impatient, db, quiet, postgres.EngineTables, newest.Version)
	require.ErrorIs(t, err, context.DeadlineExceeded, "a living holder is waited for until the context ends")
}

func TestMigrationsNeedTwoConnections(t *testing.T) {
	db := open(t, postgres.Options{URL: emptyDatabase(t), MaxOpenConns: 1})
	require.ErrorContains(t, postgres.MigrateUp(t.Context(), db, quiet), "two connections")
}

// tables returns the names of every table.
func tables(t *testing.T, db *bun.DB) []string {
	t.Helper()
	var names []string
	require.NoError(t, db.NewRaw("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").Scan(t.Context(), &names))
	return names
}
