package postgres_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

const beginTimeout = 20 * time.Second

var plenty = relay.ReadLimit{Count: 1000, Bytes: 1 << 20}

// transaction opens a transaction on its own session. Unlike bun.Tx, it can also be prepared.
func transaction(t *testing.T, h *harness) bun.Conn {
	t.Helper()
	conn, err := h.others.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() {
		_, _ = conn.ExecContext(context.Background(), "ROLLBACK")
		_ = conn.Close()
	})
	exec(t, conn, "BEGIN")
	return conn
}

func insert(t *testing.T, db bun.IDB, aggregate string) string {
	t.Helper()
	m := relaytest.NewMessage(aggregate, 1)
	exec(t, db, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES (?, 'order', ?, 1, ?, ?, ?)`, m.ID, aggregate, m.Type, m.Subject, string(m.Payload))
	return m.ID
}

type reading struct {
	ids []string
	err error
}

// readWaiting starts to read the log from its beginning. It returns when the reader waits for open transactions.
func readWaiting(t *testing.T, h *harness) <-chan reading {
	t.Helper()
	answer := make(chan reading, 1)
	go func() { answer <- readOnce(t.Context(), h) }()
	require.Eventually(t, func() bool { return h.log.OldestWait() > 0 }, beginTimeout, time.Millisecond)
	return answer
}

func readOnce(ctx context.Context, h *harness) reading {
	ctx, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	page, err := h.log.After(ctx, outbox.Progress{}, plenty)
	var ids []string
	for _, entry := range page.Entries {
		ids = append(ids, entry.ID)
	}
	return reading{ids, err}
}

// requireWaiting checks for a moment, in which the reader polls several times, that the reader still waits.
func requireWaiting(t *testing.T, answer <-chan reading) {
	t.Helper()
	select {
	case read := <-answer:
		require.FailNow(t, "the reader did not wait", "%+v", read)
	case <-time.After(100 * time.Millisecond):
	}
}

func requireRead(t *testing.T, answer <-chan reading, want ...string) {
	t.Helper()
	read := <-answer
	require.NoError(t, read.err)
	require.Equal(t, want, read.ids)
}

func TestLogWaitsForAPositionDealtBeforeATransactionHasAnID(t *testing.T) {
	h := newHarness(t)
	insert(t, h.others, "so that the sequence has logged its next values")
	exec(t, h.others, "DELETE FROM outbox")
	gate := transaction(t, h)
	exec(t, gate, "SELECT pg_advisory_xact_lock(1)")

	first := relaytest.NewMessage("first", 1)
	done := make(chan error, 1)
	go func() { // this insert gets its position, then its payload's expression waits at the gate, and only later the row is written
		_, err := h.others.ExecContext(t.Context(), `INSERT INTO outbox
			(event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
			VALUES (?, 'order', 'first', 1, 'type', 'subject', (SELECT '{}'::json FROM pg_advisory_xact_lock(1)))`, first.ID)
		done <- err
	}()
	require.Eventually(t, func() bool {
		var dealt int64
		var xid sql.NullString
		err := h.admin.NewRaw(`SELECT backend_xid::text FROM pg_stat_activity WHERE datname = ? AND wait_event_type = 'Lock'`,
			h.name).Scan(t.Context(), &xid)
		errSeq := h.others.NewRaw("SELECT last_value FROM outbox_position_seq").Scan(t.Context(), &dealt)
		return err == nil && errSeq == nil && !xid.Valid && dealt == 2
	}, beginTimeout, time.Millisecond)

	second := insert(t, h.others, "second")
	answer := readWaiting(t, h)
	requireWaiting(t, answer)
	exec(t, gate, "COMMIT")
	require.NoError(t, <-done)
	requireRead(t, answer, first.ID, second)
}

func TestLogDoesNotWaitForOthers(t *testing.T) {
	for name, disturb := range map[string]func(t *testing.T, h *harness){
		"a long transaction that writes other tables": func(t *testing.T, h *harness) {
			exec(t, transaction(t, h), "INSERT INTO leases (name, token, expires_at) VALUES ('other', 1, now())")
		},
		"a long reader of the outbox": func(t *testing.T, h *harness) {
			exec(t, transaction(t, h), "SELECT * FROM outbox FOR UPDATE")
		},
		"VACUUM": func(t *testing.T, h *harness) {
			background(t, h, "SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1", "VACUUM outbox",
				"SELECT count(*) FROM pg_stat_progress_vacuum WHERE datname = ?")
		},
		"CREATE INDEX CONCURRENTLY": func(t *testing.T, h *harness) {
			holder := transaction(t, h)
			exec(t, holder, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
			exec(t, holder, "SELECT 1") // its snapshot keeps CREATE INDEX from ending
			background(t, h, "SELECT 1", "CREATE INDEX CONCURRENTLY later ON outbox (recorded_at)",
				"SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = ? AND phase LIKE 'waiting for old snapshots%'")
		},
		"a writer whose savepoint was rolled back": func(t *testing.T, h *harness) {
			conn := transaction(t, h)
			exec(t, conn, "SAVEPOINT s")
			insert(t, conn, "dead")
			exec(t, conn, "ROLLBACK TO SAVEPOINT s")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			dead := transaction(t, h)
			insert(t, dead, "dead")
			exec(t, dead, "ROLLBACK")
			first := insert(t, h.others, "first")
			disturb(t, h)
			read := readOnce(t.Context(), h)
			require.NoError(t, read.err)
			require.Equal(t, []string{first}, read.ids)
		})
	}
}

// background runs statement on its own session until the test ends. It returns when query reports that the statement runs.
func background(t *testing.T, h *harness, setting, statement, query string) {
	t.Helper()
	conn, err := h.others.Conn(t.Context())
	require.NoError(t, err)
	exec(t, conn, setting)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = conn.ExecContext(ctx, statement)
	}()
	running := func() bool {
		var count int
		return h.others.NewRaw(query, h.name).Scan(t.Context(), &count) == nil && count == 1
	}
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = conn.Close()
	})
	require.Eventually(t, running, beginTimeout, time.Millisecond)
}

func TestLogDoesNotWaitForWritersThatBeganLater(t *testing.T) {
	h := newHarness(t)
	early := transaction(t, h)
	first := insert(t, early, "first")
	second := insert(t, h.others, "second")
	answer := readWaiting(t, h)
	insert(t, transaction(t, h), "later")
	exec(t, early, "COMMIT")
	requireRead(t, answer, first, second)
	require.Zero(t, h.log.OldestWait())
	count, total := h.log.Waits()
	require.EqualValues(t, 1, count)
	require.Positive(t, total)
}

func TestLogReadsSavepoints(t *testing.T) {
	h := newHarness(t)
	early := transaction(t, h)
	first := insert(t, early, "first")
	exec(t, early, "SAVEPOINT s")
	insert(t, early, "dead")
	exec(t, early, "ROLLBACK TO SAVEPOINT s")
	second := insert(t, h.others, "second")
	third := insert(t, early, "third")
	answer := readWaiting(t, h)
	exec(t, early, "COMMIT")
	requireRead(t, answer, first, second) // without third: a read ends where the log ended when the wait began
	page, err := h.log.After(t.Context(), outbox.Progress{Position: 3, EventID: second}, plenty)
	require.NoError(t, err)
	require.Len(t, page.Entries, 1)
	require.Equal(t, third, page.Entries[0].ID)
}

func TestLogWaitsForPreparedTransactions(t *testing.T) {
	h := newHarness(t)
	early := transaction(t, h)
	first := insert(t, early, "first")
	second := insert(t, h.others, "second")
	answer := readWaiting(t, h)
	exec(t, early, "PREPARE TRANSACTION ?", h.name) // while the reader waits for it
	requireWaiting(t, answer)
	exec(t, h.others, "COMMIT PREPARED ?", h.name)
	requireRead(t, answer, first, second)
}

func TestLogGoesOnWhenAWriterIsKilled(t *testing.T) {
	h := newHarness(t)
	early := transaction(t, h)
	insert(t, early, "dead")
	var pid int
	require.NoError(t, h.others.NewRaw("SELECT pg_backend_pid()").Conn(early).Scan(t.Context(), &pid))
	second := insert(t, h.others, "second")
	answer := readWaiting(t, h)
	exec(t, h.admin, "SELECT pg_terminate_backend(?)", pid)
	requireRead(t, answer, second)
}

func TestLogNamesWhoHoldsItUp(t *testing.T) {
	h := newHarness(t)
	var output bytes.Buffer
	h.log = postgres.NewLog(h.db, relayName, slog.New(slog.NewTextHandler(&output, nil)))
	h.log.WarnAfter(time.Millisecond)
	early := transaction(t, h)
	insert(t, early, "early")
	var pid int
	require.NoError(t, h.others.NewRaw("SELECT pg_backend_pid()").Conn(early).Scan(t.Context(), &pid))
	prepared := transaction(t, h)
	insert(t, prepared, "prepared")
	exec(t, prepared, "PREPARE TRANSACTION ?", h.name)
	second := insert(t, h.others, "second")

	answer := readWaiting(t, h)
	requireWaiting(t, answer)
	require.Greater(t, h.log.OldestWait(), 50*time.Millisecond)
	exec(t, early, "ROLLBACK")
	exec(t, h.others, "ROLLBACK PREPARED ?", h.name)
	requireRead(t, answer, second)
	require.Contains(t, output.String(), fmt.Sprintf("pid %d (others) idle in transaction", pid))
	require.Contains(t, output.String(), "SELECT pg_backend_pid()")
	require.Contains(t, output.String(), h.name, "the prepared transaction's name")
}

func TestLogRefusesUnsafeSettings(t *testing.T) {
	require.NoError(t, newHarness(t).log.Check(t.Context()), "the settings that Postgres has by default")
	for name, unsafe := range map[string]struct{ statement, detail string }{
		"sequence cache":     {"ALTER TABLE outbox ALTER COLUMN position SET CACHE 20", "CACHE 20"},
		"no identity":        {"ALTER TABLE outbox ALTER COLUMN position DROP IDENTITY", "identity"},
		"synchronous commit": {"ALTER DATABASE ? SET synchronous_commit = off", "synchronous_commit"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			exec(t, h.others, unsafe.statement, bun.Ident(h.name))
			err := h.log.Check(t.Context())
			require.ErrorIs(t, err, postgres.ErrUnsafe)
			require.ErrorContains(t, err, unsafe.detail)
		})
	}
}

func TestOutboxTakesOnlyHeadersOfStrings(t *testing.T) {
	h := newHarness(t)
	for _, headers := range []string{`{"a": 1}`, `{"a": null}`, `{"a": ["x"]}`, `["x"]`, `"x"`, `{"b": "ok", "a": {"x": "y"}}`} {
		_, err := h.others.ExecContext(t.Context(), `INSERT INTO outbox (event_id, aggregate_type, aggregate_id,
			aggregate_version, event_type, subject, headers, payload)
			VALUES (gen_random_uuid(), 'order', 'a', 1, 'type', 'subject', ?, '{}')`, headers)
		require.ErrorContains(t, err, "check constraint", headers)
	}
}
