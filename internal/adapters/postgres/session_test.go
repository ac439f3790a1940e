package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// limit is the time limit of a statement in these tests.
const limit = time.Second

func limited(t *testing.T, address string, connections int) *bun.DB {
	t.Helper()
	return open(t, postgres.Options{URL: address, MaxOpenConns: connections, StatementTimeout: limit})
}

// backends returns the process ids of the server for two connections of the pool.
func backends(t *testing.T, db *bun.DB) map[int]bool {
	t.Helper()
	found := make(map[int]bool)
	for range 2 {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		var pid int
		require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
		found[pid] = true
	}
	require.Len(t, found, 2)
	return found
}

func shared(before, after map[int]bool) (both int) {
	for pid := range before {
		if after[pid] {
			both++
		}
	}
	return both
}

// TestADeadlineRetiresTheOtherConnections checks that the pool discards its current connections if a statement misses its
// deadline, no matter who set the deadline. If the caller cancels, the other connections stay.
func TestADeadlineRetiresTheOtherConnections(t *testing.T) {
	db := limited(t, infra.Database(t), 2)
	sleep := func(ctx context.Context) error {
		_, err := db.ExecContext(ctx, "SELECT pg_sleep(30)")
		return err
	}
	t.Run("of the statement", func(t *testing.T) {
		before := backends(t, db)
		start := time.Now()
		err := sleep(t.Context())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "the database did not answer within 1s")
		require.Equal(t, fault.Unavailable, fault.KindOf(postgres.Classify(t.Context(), err)))
		require.Less(t, time.Since(start), 10*time.Second)
		require.Zero(t, shared(before, backends(t, db)))
	})
	t.Run("of the caller", func(t *testing.T) {
		before := backends(t, db)
		ctx, cancel := context.WithTimeout(t.Context(), limit/4)
		defer cancel()
		require.ErrorIs(t, sleep(ctx), context.DeadlineExceeded)
		require.Zero(t, shared(before, backends(t, db)))
	})
	t.Run("not of a caller that cancels", func(t *testing.T) {
		before := backends(t, db)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(limit/4, cancel)
		require.ErrorIs(t, sleep(ctx), context.Canceled)
		require.Equal(t, 1, shared(before, backends(t, db)))
	})
}

func TestRowsAreReadUnderTheDeadline(t *testing.T) {
	db := limited(t, infra.Database(t), 2)
	rows, err := db.QueryContext(t.Context(), "SELECT repeat('x', 20000), pg_sleep(0.05 * n) FROM generate_series(1, 1000) AS n")
	require.NoError(t, err)
	defer rows.Close()
	read := 0
	start := time.Now()
	for rows.Next() {
		read++
	}
	require.Positive(t, read)
	require.ErrorIs(t, rows.Err(), context.DeadlineExceeded)
	require.Less(t, time.Since(start), 10*time.Second)

	rows, err = db.QueryContext(t.Context(), "SELECT n FROM generate_series(1, 3) AS n")
	require.NoError(t, err)
	defer rows.Close()
	for read = 0; rows.Next(); read++ {
		require.NoError(t, rows.Scan(new(int)))
	}
	require.NoError(t, rows.Err())
	require.Equal(t, 3, read)
	types, err := db.QueryContext(t.Context(), "SELECT 1::int8 AS n")
	require.NoError(t, err)
	defer types.Close()
	columns, err := types.ColumnTypes()
	require.NoError(t, err)
	require.Equal(t, "INT8", columns[0].DatabaseTypeName())
	require.NoError(t, types.Err())
}

// TestTransactionsEndByThemselves checks that a transaction ends in time if BEGIN, COMMIT or ROLLBACK gets no answer. The work
// between the statements has no time limit.
func TestTransactionsEndByThemselves(t *testing.T) {
	for step, run := range map[string]func(t *testing.T, db *bun.DB, silence func()) error{
		"BEGIN": func(t *testing.T, db *bun.DB, silence func()) error {
			exec(t, db, "SELECT 1")
			silence()
			return db.RunInTx(t.Context(), nil, func(context.Context, bun.Tx) error { return nil })
		},
		"COMMIT": func(t *testing.T, db *bun.DB, silence func()) error {
			return db.RunInTx(t.Context(), nil, func(context.Context, bun.Tx) error {
				time.Sleep(limit * 5 / 4)
				silence()
				return nil
			})
		},
		"ROLLBACK": func(t *testing.T, db *bun.DB, silence func()) error {
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			silence()
			return tx.Rollback()
		},
	} {
		t.Run(step, func(t *testing.T) {
			proxy, address, _ := newProxy(t)
			start := time.Now()
			err := run(t, limited(t, address, 2), func() {
				proxy.Silence()
				start = time.Now()
			})
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Less(t, time.Since(start), limit+slack)
		})
	}
}

// TestATransactionThatIsGivenUpIsRolledBack checks that a transaction whose context ends is rolled back, and that its
// connection is used again.
func TestATransactionThatIsGivenUpIsRolledBack(t *testing.T) {
	db := limited(t, infra.Database(t), 1)
	var before, after int
	exec(t, db, "CREATE TABLE kept (n int)")
	ctx, cancel := context.WithCancel(t.Context())
	err := db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		require.NoError(t, tx.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&before))
		_, err := tx.ExecContext(ctx, "INSERT INTO kept VALUES (1)")
		require.NoError(t, err)
		cancel()
		return nil
	})
	require.Error(t, err) // database/sql reports context.Canceled or, after its own rollback, sql.ErrTxDone; classify joins both
	require.ErrorIs(t, postgres.Classify(ctx, err), context.Canceled)
	var kept int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT pg_backend_pid(), (SELECT count(*) FROM kept)").Scan(&after, &kept))
	require.Equal(t, before, after)
	require.Zero(t, kept)
}

// TestTheWaitForAConnectionEnds checks that the wait for a connection has its own limit while all connections are in use. The
// wait is not taken off the statement's time.
func TestTheWaitForAConnectionEnds(t *testing.T) {
	db := limited(t, infra.Database(t), 1)
	type settings struct{ Name string }
	waits := map[string]func(ctx context.Context) error{
		"exec":  func(ctx context.Context) error { _, err := db.ExecContext(ctx, "SELECT 1"); return err },
		"query": func(ctx context.Context) error { return db.QueryRowContext(ctx, "SELECT 1").Scan(new(int)) },
		"raw":   func(ctx context.Context) error { return db.NewRaw("SELECT 1").Scan(ctx, new(int)) },
		"a model": func(ctx context.Context) error {
			return db.NewSelect().Table("leases").Column("name").Scan(ctx, &[]settings{})
		},
		"a change": func(ctx context.Context) error {
			_, err := db.NewDelete().Table("leases").Where("true").Exec(ctx)
			return err
		},
		"begin": func(ctx context.Context) error {
			return db.RunInTx(ctx, nil, func(context.Context, bun.Tx) error { return errors.New("it ran") })
		},
	}
	err := db.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		for name, wait := range waits {
			start := time.Now()
			err := wait(t.Context())
			require.ErrorIs(t, err, postgres.ErrBusy, name)
			require.Less(t, time.Since(start), limit+slack, name)
			ended, cancel := context.WithCancel(t.Context())
			time.AfterFunc(limit/20, cancel)
			err = wait(ended)
			require.ErrorIs(t, err, context.Canceled, name)
			require.NotErrorIs(t, err, postgres.ErrBusy, name)
		}
		_, err := tx.ExecContext(ctx, "SELECT 1")
		return err
	})
	require.NoError(t, err, "the transaction around took longer than a wait may, or a statement")

	busy := make(chan error, 1)
	held := make(chan struct{})
	go func() {
		busy <- db.RunInTx(t.Context(), nil, func(context.Context, bun.Tx) error {
			close(held)
			time.Sleep(limit * 3 / 4)
			return nil
		})
	}()
	<-held
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT 1 FROM pg_sleep(?)", (limit*3/4).Seconds()).Scan(new(int)),
		"a wait is not taken off the statement's time")
	require.NoError(t, <-busy)
}

// TestSomeStatementsMayTakeLonger checks that operators' statements get four times the usual time limit, and no more.
func TestSomeStatementsMayTakeLonger(t *testing.T) {
	db := limited(t, infra.Database(t), 2)
	ctx := postgres.AllowOperatorTime(t.Context())
	_, err := db.ExecContext(ctx, "SELECT pg_sleep(?)", (2 * limit).Seconds())
	require.NoError(t, err)
	start := time.Now()
	_, err = db.ExecContext(ctx, "SELECT pg_sleep(60)")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.InDelta(t, 4*limit.Seconds(), time.Since(start).Seconds(), slack.Seconds())
}

func TestNothingIsPreparedThroughDatabaseSQL(t *testing.T) {
	db := limited(t, infra.Database(t), 1)
	_, err := db.PrepareContext(t.Context(), "SELECT 1")
	require.ErrorContains(t, err, "PgBouncer")
}

// TestIsolation checks that Postgres gets the requested isolation level, as with pgx's own driver.
func TestIsolation(t *testing.T) {
	db := limited(t, infra.Database(t), 1)
	for level, want := range map[sql.IsolationLevel]string{
		sql.LevelDefault: "read committed", sql.LevelReadCommitted: "read committed", sql.LevelRepeatableRead: "repeatable read",
		sql.LevelSnapshot: "repeatable read", sql.LevelSerializable: "serializable",
	} {
		err := db.RunInTx(t.Context(), &sql.TxOptions{Isolation: level, ReadOnly: true}, func(ctx context.Context, tx bun.Tx) error {
			var got, readOnly string
			require.NoError(t, tx.QueryRowContext(ctx, "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')").
				Scan(&got, &readOnly))
			require.Equal(t, []string{want, "on"}, []string{got, readOnly})
			return nil
		})
		require.NoError(t, err)
	}
	_, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelLinearizable})
	require.Error(t, err)
}

func TestUnixSocketsAreDialed(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".s.PGSQL.5432")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer listener.Close()
	conn, err := postgres.NewDialer().DialContext(t.Context(), "unix", path)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

// TestAFollowerWithDeadConnectionsTakesOver checks that a follower whose pooled connections are dead still becomes leader soon
// after the lease has expired.
func TestAFollowerWithDeadConnectionsTakesOver(t *testing.T) {
	const ttl = 3 * time.Second
	proxy, address, _ := newProxy(t)
	db := open(t, postgres.Options{URL: address, MaxOpenConns: 2}) // as the pool of the elector
	leader := postgres.NewElector(open(t, postgres.Options{URL: address}), relayName, "leader", ttl)
	follower := postgres.NewElector(db, relayName, "follower", ttl)
	_, err := leader.Acquire(t.Context(), 0)
	require.NoError(t, err)
	died := time.Now()
	_, err = follower.Acquire(t.Context(), 0)
	require.ErrorIs(t, err, relay.ErrLeaseHeld)
	warm(t, db)
	proxy.Silence()
	require.Eventually(t, func() bool { // as often as a relay tries
		_, err = follower.Acquire(t.Context(), 0)
		return err == nil
	}, ttl+2*time.Second-time.Since(died), 500*time.Millisecond, "last answer: %v", err)
}
