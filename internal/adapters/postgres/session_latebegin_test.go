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

// TestTransactionOpensWithItsFirstStatement checks that BEGIN is not sent before the first statement, whatever that statement
// is and whether it succeeds. Afterwards the connection is free.
func TestTransactionOpensWithItsFirstStatement(t *testing.T) {
	address := infra.Database(t)
	watch := open(t, postgres.Options{URL: address, ApplicationName: "watch"})
	db := open(t, postgres.Options{URL: address, ApplicationName: "late", MaxOpenConns: 1})
	exec(t, db, "CREATE TABLE numbers (n int PRIMARY KEY)")
	requireState := func(state string) {
		t.Helper()
		require.Eventually(t, func() bool {
			var found string
			err := watch.QueryRowContext(t.Context(), "SELECT state FROM pg_stat_activity WHERE application_name = 'late'").Scan(&found)
			return err == nil && found == state
		}, 10*time.Second, 5*time.Millisecond)
	}
	count := func() (n int) {
		require.NoError(t, watch.QueryRowContext(t.Context(), "SELECT count(*) FROM numbers").Scan(&n))
		return n
	}
	for name, first := range map[string]func(ctx context.Context, tx bun.Tx, n int) error{
		"query": func(ctx context.Context, tx bun.Tx, n int) error {
			var text sql.NullString
			var number int
			var yes bool
			err := tx.QueryRowContext(ctx, "INSERT INTO numbers VALUES (?) RETURNING n, NULL::text, n = ?", n, n).Scan(&number, &text, &yes)
			if err == nil {
				require.Equal(t, []any{n, false, true}, []any{number, text.Valid, yes})
			}
			return err
		},
		"exec": func(ctx context.Context, tx bun.Tx, n int) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO numbers VALUES (?)", n)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			exec(t, watch, "TRUNCATE numbers")
			begin := func(ctx context.Context) bun.Tx {
				tx, err := db.BeginTx(postgres.WithLateBegin(ctx), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
				require.NoError(t, err)
				requireState("idle")
				return tx
			}
			require.NoError(t, begin(t.Context()).Commit(), "nothing was sent")
			require.NoError(t, begin(t.Context()).Rollback(), "nothing was sent")

			tx := begin(t.Context())
			require.NoError(t, first(t.Context(), tx, 1))
			requireState("idle in transaction")
			require.Zero(t, count())
			require.NoError(t, first(t.Context(), tx, 2))
			require.NoError(t, tx.Commit())
			require.Equal(t, 2, count())

			tx = begin(t.Context())
			require.NoError(t, first(t.Context(), tx, 3))
			require.NoError(t, tx.Rollback())
			require.Equal(t, 2, count())

			tx = begin(t.Context())
			require.ErrorContains(t, first(t.Context(), tx, 1), "23505")
			requireState("idle in transaction (aborted)")
			require.Error(t, tx.Commit(), "it was rolled back")

			ctx, cancel := context.WithCancel(t.Context())
			tx = begin(ctx)
			require.NoError(t, first(ctx, tx, 3))
			cancel()
			requireState("idle")
			require.Equal(t, 2, count())
		})
	}
}
