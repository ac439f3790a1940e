package bench_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// measureDatabase measures what the relay leaves behind in Postgres, and how many statements an idle leader sends.
func measureDatabase(t *testing.T, size scale) []figure {
	t.Helper()
	server, broker := infra.Postgres(t), infra.NATS(t)
	db, err := sql.Open("pgx", server.URL)
	require.NoError(t, err)
	defer db.Close()

	start := walAt(t, db)
	fill(t, server.URL, size.events, 0)
	written := walAt(t, db) - start
	drain(t, server.URL, broker.URL, "DRAINED", size.events, setup(t))
	drained := walAt(t, db) - start - written
	var dead int64
	require.Eventually(t, func() bool { // statistics arrive late
		var inserted int64
		err := db.QueryRow("SELECT n_tup_ins, n_dead_tup + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = 'outbox'").Scan(&inserted, &dead)
		return err == nil && inserted >= int64(size.events)
	}, waitTimeout, 100*time.Millisecond)

	figures := []figure{
		{
			name: "dead, updated or deleted rows of the outbox after the drain", measured: fmt.Sprint(dead),
			ratio: float64(dead), unit: " rows", goal: 0.5, upperBound: true,
		},
		{
			name:     "WAL of an event (300-byte body)",
			measured: fmt.Sprintf("%d bytes", written/int64(size.events)),
			floor:    fmt.Sprintf("of which the relay: %d bytes", drained/int64(size.events)),
		},
		idleFigure("an idle instance and an idle subscriber together", idleTransactions(t, size.idle, true)),
	}
	if size.complete {
		figures = append(figures, idleFigure("an idle leader", idleTransactions(t, size.idle, false)))
	}
	return figures
}

func idleFigure(name string, rate float64) figure {
	return figure{name: name, measured: fmt.Sprintf("%.1f statements/s", rate), ratio: rate, unit: "/s", goal: 5, upperBound: true}
}

func walAt(t *testing.T, db *sql.DB) int64 {
	t.Helper()
	var bytes int64
	require.NoError(t, db.QueryRow("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").Scan(&bytes))
	return bytes
}

// idleTransactions returns how many transactions a second the database of an idle leader sees, with a subscriber or without. Each of their
// statements is a transaction. Autovacuum counts, too.
func idleTransactions(t *testing.T, watched time.Duration, subscriber bool) float64 {
	t.Helper()
	database, broker := infra.Database(t), infra.NATS(t)
	outside, err := sql.Open("pgx", infra.Database(t)) // another database, so that asking does not count
	require.NoError(t, err)
	defer outside.Close()
	launch(t, database, broker.URL, nil, "api,relay").WaitFor("became leader")
	if subscriber {
		plain := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker.URL, "INSTANCE_ID=idle"} // without an admin listener, as by default
		infra.Launch(t, plain, "subscribe", "--id", "emails").WaitFor("subscribed")
	}
	count := func() int64 {
		var transactions int64
		require.NoError(t, outside.QueryRow("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1",
			databaseName(t, database)).Scan(&transactions))
		return transactions
	}
	time.Sleep(12 * time.Second) // the start is over; an idle connection reports its last transactions after ten seconds
	began, before := time.Now(), count()
	time.Sleep(watched)
	return float64(count()-before) / time.Since(began).Seconds()
}
