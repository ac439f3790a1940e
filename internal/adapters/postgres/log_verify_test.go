package postgres_test

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// logRows returns how many rows TestSequenceChecksReadLittle writes. LOG_ROWS=1000000 measures a large log.
func logRows(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("LOG_ROWS"); text != "" {
		rows, err := strconv.Atoi(text)
		require.NoError(t, err)
		return rows
	}
	return 50_000
}

// TestSequenceChecksReadLittle checks that the checks of the sequence read only the newest rows, however long the log is.
func TestSequenceChecksReadLittle(t *testing.T) {
	h := newHarness(t)
	rows := logRows(t)
	const atOnce = 100_000
	for from := 1; from <= rows; from += atOnce {
		exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
			SELECT gen_random_uuid(), 'order', n::text, 1, 'test.v1', 'orders.created', to_json(repeat('x', 200)) FROM generate_series(?, ?) AS n`,
			from, min(from+atOnce-1, rows))
	}
	exec(t, h.others, "VACUUM ANALYZE outbox")
	passed := rows - 100
	exec(t, h.others, `INSERT INTO outbox_cursor (relay, position, stream_created, stream_sequence, token, revision, updated_at, recorded_position, recorded_to)
		SELECT ?0, ?1, 'x', ?1, 1, 1, now(), ?1, max(recorded_at) FROM outbox WHERE position <= ?1`, relayName, passed)
	exec(t, h.others, "INSERT INTO leases (name, holder, token, expires_at) VALUES (?, 'x', 1, now() + interval '1 hour')", relayName)
	for name, statement := range map[string]struct {
		text string
		args []any
	}{
		"at a take-over":  {postgres.VerifyStatement, []any{relayName, rows - 50, passed + 50, 0}},
		"while idle":      {postgres.VerifyStatement, []any{relayName, passed, passed, rows + 1}},
		"for an operator": {postgres.DisorderStatement, []any{relayName}},
		"with each save":  {postgres.SaveCursorStatement, []any{relayName, 1, 1, rows - 10, "ORDERS", "x", rows - 10, time.Now(), 1000000}},
	} {
		plan := explainAnalyze(t, h, statement.text, statement.args...)
		t.Logf("%s:\n%s", name, plan)
		require.Contains(t, plan, "outbox_recorded", name)
		require.NotContains(t, plan, "Seq Scan on outbox o", name)
		require.NotRegexp(t, `actual rows=[0-9]{5,}`, plan, name)
	}
}

// TestRealignWaitsForWriters checks that Realign waits for open transactions, which may already hold an old position. A
// transaction that starts to write during this wait gets a new position.
func TestRealignWaitsForWriters(t *testing.T) {
	t.Run("direct", func(t *testing.T) {
		h := newHarness(t)
		requireRealignWaits(t, h, h.relayAdmin())
	})
	t.Run("behind a pooler, where transactions are serializable", func(t *testing.T) {
		h := newHarness(t)
		exec(t, h.admin, "ALTER DATABASE ? SET default_transaction_isolation = 'serializable'", bun.Ident(h.name))
		db, err := postgres.OpenBehindPooler(postgres.Options{URL: h.address})
		require.NoError(t, err)
		defer db.Close()
		requireRealignWaits(t, h, postgres.NewRelayAdmin(db, relayName, "STREAM"))
	})
}

func requireRealignWaits(t *testing.T, h *harness, admin *postgres.RelayAdmin) {
	t.Helper()
	record(t, h, "a", 3)
	exec(t, h.others, "INSERT INTO outbox_cursor (relay, position, stream_created, stream_sequence, token, revision, updated_at, purged_to) "+
		"VALUES (?, 3, 'x', 3, 1, 1, now(), 3)", relayName)
	exec(t, h.others, "DELETE FROM outbox")
	h.SetSequence(t, 0)
	open := transaction(t, h)
	insert(t, open, "early")
	moved := make(chan int64, 1)
	go func() {
		n, err := admin.Realign(t.Context(), operations.Realignment{Position: 3})
		if err != nil {
			n = -1
		}
		moved <- n
	}()
	waiting := func(locks int) func() bool {
		return func() bool {
			var found int
			err := h.admin.NewRaw("SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database "+
				"WHERE NOT granted AND locktype = 'relation' AND datname = ?", h.name).Scan(t.Context(), &found)
			return err == nil && found == locks
		}
	}
	require.Eventually(t, waiting(1), beginTimeout, time.Millisecond)
	late := make(chan string, 1)
	go func() { late <- insert(t, h.others, "late") }()
	require.Eventually(t, waiting(2), beginTimeout, time.Millisecond)
	exec(t, open, "COMMIT")
	require.EqualValues(t, 1, <-moved)
	id := <-late
	var positions []int64
	require.NoError(t, h.others.NewRaw("SELECT position FROM outbox ORDER BY position").Scan(t.Context(), &positions))
	require.Equal(t, []int64{4, 5}, positions)
	var at outbox.Position
	require.NoError(t, h.others.NewRaw("SELECT position FROM outbox WHERE event_id = ?", id).Scan(t.Context(), &at))
	require.EqualValues(t, 5, at)
}

// TestRealignEnds checks that Realign does not wait for open transactions forever, and that it ends when its context ends.
func TestRealignEnds(t *testing.T) {
	h := newHarness(t)
	record(t, h, "a", 3)
	h.SetSequence(t, 1)
	open := transaction(t, h)
	exec(t, open, "LOCK TABLE outbox IN ROW EXCLUSIVE MODE")
	bounded, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := h.relayAdmin().Realign(bounded, operations.Realignment{})
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	began := time.Now()
	_, err = h.relayAdmin().Realign(t.Context(), operations.Realignment{})
	require.ErrorContains(t, err, "transactions that write the outbox did not end in time")
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Less(t, time.Since(began), time.Minute)
	exec(t, open, "ROLLBACK")
	_, err = h.relayAdmin().Realign(t.Context(), operations.Realignment{})
	require.NoError(t, err)
}
