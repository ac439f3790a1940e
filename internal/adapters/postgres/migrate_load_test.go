package postgres_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
)

// loadedRows is how many rows each table that gets an index holds before the migration.
const loadedRows = 200_000

// load fills the tables to which the migrations above version add an index.
func load(t *testing.T, db *bun.DB, version int64) {
	t.Helper()
	ctx := postgres.AllowOperatorTime(t.Context())
	exec(t, db, "INSERT INTO outbox_cursor (relay, position, stream_sequence, token, updated_at) VALUES (?, 1, 1, 0, now())", relayName)
	statements := []string{
		`INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at)
			SELECT gen_random_uuid(), gen_random_uuid(), 1, 'USD', 'created', 1, now() - n * interval '1 second', now() FROM generate_series(1, ?) AS n`,
		`INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, applied_at)
			SELECT 'emails', gen_random_uuid(), 'order', n, 1, n, now() FROM generate_series(1, ? / 2) AS n`,
		`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
			SELECT gen_random_uuid(), 'order', n, 1, 't', 'orders.x', '{}' FROM generate_series(1, ?) AS n`,
	}
	if version < 7 {
		statements = statements[:2]
	} else {
		statements = statements[2:]
	}
	for _, statement := range statements {
		_, err := db.ExecContext(ctx, statement, loadedRows)
		require.NoError(t, err)
	}
}

// requests runs the statements that instances and subscribers of every version send, until stop is called. stop returns the
// longest time of a statement, and their number.
func requests(t *testing.T, db *bun.DB) (stop func() (longest time.Duration, count int64)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var longest, count atomic.Int64
	var work sync.WaitGroup
	for _, statement := range []string{
		`WITH placed AS (
			INSERT INTO orders (id, customer_id, amount_minor, currency, status, version, created_at, updated_at)
			VALUES (gen_random_uuid(), gen_random_uuid(), 1, 'USD', 'created', 1, now(), now()) RETURNING id
		) INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', id, 1, 't', 'orders.x', '{}' FROM placed`,
		"SELECT * FROM orders LIMIT 10",
		"SELECT * FROM outbox ORDER BY position LIMIT 10",
		"UPDATE outbox_cursor SET position = position + 1",
		"INSERT INTO inbox SELECT 'emails', gen_random_uuid(), 'order', 'x', 1, 1, now()",
	} {
		work.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				_, err := db.ExecContext(t.Context(), statement)
				if took := int64(time.Since(began)); took > longest.Load() {
					longest.Store(took)
				}
				count.Add(1)
				if err != nil {
					t.Errorf("a request failed while the database was migrated: %v", err)
					return
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	return func() (time.Duration, int64) {
		cancel()
		work.Wait()
		return time.Duration(longest.Load()), count.Load()
	}
}

// TestMigrationsUnderLoad checks how long a request waits while a database with many rows is upgraded. The migrations of the
// earlier version, which lock tables while they build indexes, run on the same machine for comparison. So a busy machine does
// not change the result.
func TestMigrationsUnderLoad(t *testing.T) {
	measure := func(version int64, migrate func(db *bun.DB) error) time.Duration {
		db := legacyDatabase(t, version)
		load(t, db, version)
		stop := requests(t, db)
		began := time.Now()
		require.NoError(t, migrate(db))
		took := time.Since(began)
		longest, count := stop()
		t.Logf("from version %d: migrated in %v, during %d requests, of which one took %v at the most", version, took, count, longest)
		require.Positive(t, count)
		return longest
	}
	ours := func(db *bun.DB) error { return postgres.MigrateUp(t.Context(), db, quiet) }
	before := func(db *bun.DB) error {
		_, err := earlier(t, db).Up(t.Context())
		return err
	}
	held := measure(5, before)
	require.Less(t, measure(5, ours), held/2)
	require.Less(t, measure(7, ours), held/2)
}
