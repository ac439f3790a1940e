package postgres_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// firstStatements insert a number as the first statement of a transaction.
var firstStatements = map[string]func(ctx context.Context, t *testing.T, tx bun.Tx, n int) error{
	"query": func(ctx context.Context, t *testing.T, tx bun.Tx, n int) error {
		var text sql.NullString
		var number int
		var yes bool
		err := tx.QueryRowContext(ctx, "INSERT INTO numbers VALUES (?) RETURNING n, NULL::text, n = ?", n, n).Scan(&number, &text, &yes)
		if err == nil {
			require.Equal(t, []any{n, false, true}, []any{number, text.Valid, yes})
		}
		return err
	},
	"exec": func(ctx context.Context, _ *testing.T, tx bun.Tx, n int) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO numbers VALUES (?)", n)
		return err
	},
}

// lateTransactions are transactions whose BEGIN is sent with the first statement, on a single connection.
type lateTransactions struct{ db, watch *bun.DB }

// requireState waits until the connection is in a state.
func (l lateTransactions) requireState(t *testing.T, state string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var found string
		err := l.watch.QueryRowContext(t.Context(), "SELECT state FROM pg_stat_activity WHERE application_name = 'late'").Scan(&found)
		return err == nil && found == state
	}, 10*time.Second, 5*time.Millisecond)
}

// count returns how many numbers were committed.
func (l lateTransactions) count(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, l.watch.QueryRowContext(t.Context(), "SELECT count(*) FROM numbers").Scan(&n))
	return n
}

func (l lateTransactions) begin(ctx context.Context, t *testing.T) bun.Tx {
	t.Helper()
	tx, err := l.db.BeginTx(postgres.WithLateBegin(ctx), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	require.NoError(t, err)
	l.requireState(t, "idle")
	return tx
}

// TestTransactionOpensWithItsFirstStatement checks that BEGIN is not sent before the first statement, whatever that statement
// is and whether it succeeds. Afterwards the connection is free.
func TestTransactionOpensWithItsFirstStatement(t *testing.T) {
	address := infra.Database(t)
	l := lateTransactions{
		watch: open(t, postgres.Options{URL: address, ApplicationName: "watch"}),
		db:    open(t, postgres.Options{URL: address, ApplicationName: "late", MaxOpenConns: 1}),
	}
	exec(t, l.db, "CREATE TABLE numbers (n int PRIMARY KEY)")
	for name, first := range firstStatements {
		t.Run(name, func(t *testing.T) {
			exec(t, l.watch, "TRUNCATE numbers")
			require.NoError(t, l.begin(t.Context(), t).Commit(), "nothing was sent")
			require.NoError(t, l.begin(t.Context(), t).Rollback(), "nothing was sent")

			tx := l.begin(t.Context(), t)
			require.NoError(t, first(t.Context(), t, tx, 1))
			l.requireState(t, "idle in transaction")
			require.Zero(t, l.count(t))
			require.NoError(t, first(t.Context(), t, tx, 2))
			require.NoError(t, tx.Commit())
			require.Equal(t, 2, l.count(t))

			tx = l.begin(t.Context(), t)
			require.NoError(t, first(t.Context(), t, tx, 3))
			require.NoError(t, tx.Rollback())
			require.Equal(t, 2, l.count(t))

			tx = l.begin(t.Context(), t)
			require.ErrorContains(t, first(t.Context(), t, tx, 1), "23505")
			l.requireState(t, "idle in transaction (aborted)")
			require.Error(t, tx.Commit(), "it was rolled back")

			ctx, cancel := context.WithCancel(t.Context())
			tx = l.begin(ctx, t)
			require.NoError(t, first(ctx, t, tx, 3))
			cancel()
			l.requireState(t, "idle")
			require.Equal(t, 2, l.count(t))
		})
	}
}
