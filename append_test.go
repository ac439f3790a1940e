package outboxie_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie"
)

// TestAppendFails checks that a version that is taken and an event that is invalid are refused in each kind of transaction, and that nothing of such a
// transaction is kept.
func TestAppendFails(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	w.issue(e, "1", "ada", 10)
	for name, attempt := range map[string]func(events ...outboxie.Event) error{
		"sql": func(events ...outboxie.Event) error {
			tx, err := w.db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			return errors.Join(e.Outbox().Append(t.Context(), tx, events...), tx.Rollback())
		},
		"bun": func(events ...outboxie.Event) error {
			return bun.NewDB(w.db, pgdialect.New()).RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
				return e.Outbox().Append(ctx, tx, events...)
			})
		},
		"pgx": func(events ...outboxie.Event) error {
			connection, err := pgx.Connect(t.Context(), w.database)
			require.NoError(t, err)
			defer func() { require.NoError(t, connection.Close(context.WithoutCancel(t.Context()))) }()
			return pgx.BeginFunc(t.Context(), connection, func(tx pgx.Tx) error { return e.Outbox().AppendPgx(t.Context(), tx, events...) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, attempt(event(t, "2", 1, invoice{}), event(t, "1", 1, invoice{})), outboxie.ErrVersionTaken)
			for _, wrong := range []func(e *outboxie.Event){
				func(e *outboxie.Event) { e.Payload = []byte("{") },
				func(e *outboxie.Event) { e.Version = 0 },
				func(e *outboxie.Event) { e.Type = "" },
				func(e *outboxie.Event) { e.ID = "no-uuid" },
				func(e *outboxie.Event) { e.Headers = map[string]string{"ce-id": "x"} },
			} {
				spoiled := event(t, "3", 1, invoice{})
				wrong(&spoiled)
				require.ErrorIs(t, attempt(spoiled), outboxie.ErrInvalidEvent)
			}
			var count int
			require.NoError(t, w.db.QueryRowContext(t.Context(), "SELECT count(*) FROM outbox").Scan(&count))
			require.Equal(t, 1, count)
		})
	}
}

// TestAppendNeedsReadCommitted checks that Append refuses a transaction at a higher isolation, on each driver and without a statement of its own, and
// says what to do.
func TestAppendNeedsReadCommitted(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	for level, name := range map[sql.IsolationLevel]string{sql.LevelRepeatableRead: "REPEATABLE READ", sql.LevelSerializable: "SERIALIZABLE"} {
		tx, err := w.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level})
		require.NoError(t, err)
		err = e.Outbox().Append(t.Context(), tx, event(t, "1", 1, invoice{}))
		require.NoError(t, tx.Rollback())
		require.ErrorIs(t, err, outboxie.ErrIsolation)
		require.ErrorContains(t, err, "its isolation is "+name+": roll back, and begin it at READ COMMITTED")

		connection, err := pgx.Connect(t.Context(), w.database)
		require.NoError(t, err)
		err = pgx.BeginTxFunc(t.Context(), connection, pgx.TxOptions{IsoLevel: pgx.TxIsoLevel(name)}, func(tx pgx.Tx) error {
			return e.Outbox().AppendPgx(t.Context(), tx, event(t, "1", 1, invoice{}))
		})
		require.NoError(t, connection.Close(t.Context()))
		require.ErrorIs(t, err, outboxie.ErrIsolation)
	}
	tx, err := w.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadUncommitted})
	require.NoError(t, err)
	require.NoError(t, e.Outbox().Append(t.Context(), tx, event(t, "1", 1, invoice{})), "Postgres treats it as READ COMMITTED")
	require.NoError(t, tx.Rollback())
}

// TestAppendMany checks that one call may append more events than one statement takes parameters.
func TestAppendMany(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	events := make([]outboxie.Event, 10_000)
	for i := range events {
		events[i] = event(t, "1", int64(i)+1, invoice{})
	}
	tx, err := w.db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, e.Outbox().Append(t.Context(), tx, events...))
	require.NoError(t, tx.Commit())
	var disordered, count int
	require.NoError(t, w.db.QueryRowContext(t.Context(), `SELECT count(*) FILTER (WHERE position <> aggregate_version), count(*) FROM (
		SELECT row_number() OVER (ORDER BY position) AS position, aggregate_version FROM outbox) AS o`).Scan(&disordered, &count))
	require.Zero(t, disordered)
	require.Equal(t, 10_000, count)
}
