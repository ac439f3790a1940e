package postgres_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

const patience = 20 * time.Second

var plenty = outbox.Slice{Count: 1000, Bytes: 1 << 20}

// transaction is a session that can do what bun.Tx cannot.
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
	m := outboxtest.NewMessage(aggregate, 1)
	exec(t, db, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES (?, 'order', ?, 1, ?, ?, ?)`, m.ID, aggregate, m.Type, m.Subject, string(m.Payload))
	return m.ID
}

type reading struct {
	ids []string
	err error
}

// readWaiting starts to read the log from its beginning and returns when the reader waits for writers.
func readWaiting(t *testing.T, h *harness) <-chan reading {
	t.Helper()
	answer := make(chan reading, 1)
	go func() { answer <- readOnce(t.Context(), h) }()
	require.Eventually(t, func() bool { return h.log.OldestWait() > 0 }, patience, time.Millisecond)
	return answer
}

func readOnce(ctx context.Context, h *harness) reading {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	page, err := h.log.After(ctx, outbox.Progress{}, plenty)
	var ids []string
	for _, entry := range page.Entries {
		ids = append(ids, entry.ID)
	}
	return reading{ids, err}
}

// requireWaiting looks at the reader for a moment in which it would have polled several times.
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

	first := outboxtest.NewMessage("first", 1)
	done := make(chan error, 1)
	go func() { // its position is dealt, then the payload's expression stops at the gate, and only then is a row written
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
	}, patience, time.Millisecond)

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
			exec(t, holder, "SELECT 1") // its snapshot keeps the index from being finished
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

// background runs statement on a session of its own until the test ends, and returns when query counts it as running.
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
	require.Eventually(t, running, patience, time.Millisecond)
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
	requireRead(t, answer, first, second) // not beyond what was seen when the wait began
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
	exec(t, early, "PREPARE TRANSACTION ?", h.name) // while it is waited for
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
	h.log = postgres.NewLog(h.db, relay, slog.New(slog.NewTextHandler(&output, nil)))
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

func TestLogReturnsHeadersAsTheyWereStored(t *testing.T) {
	h := newHarness(t)
	stored := []map[string]string{
		{},
		{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		{"a": "", "b": "x", "c": "é世 界", "d": `{", ": ": "}`},
		{"a": ", ", "b": ": ", "{": "}", "}": "{"},
		{`quo"ted`: `back\slash`, "plain": "tab\tand line\n"},
		{"only": `\`},
	}
	for i, headers := range stored {
		exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject,
			headers, payload) VALUES (gen_random_uuid(), 'order', 'a', ?, 'type', 'subject', ?, '{}')`, i+1, headers)
	}
	page, err := h.log.After(t.Context(), outbox.Progress{}, plenty)
	require.NoError(t, err)
	require.Len(t, page.Entries, len(stored))
	for i, headers := range stored {
		require.True(t, maps.Equal(headers, page.Entries[i].Headers), "%q came back as %q", headers, page.Entries[i].Headers)
	}
}

// Large payloads are read for the slice that they are in, not for many slices before it.
func TestLogReadsLittleMorePayloadThanItReturns(t *testing.T) {
	const events, limit = 64, 2 << 20
	h := newHarness(t)
	exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', 'a', n, 'type', 'subject', to_json(repeat(md5(n::text), 31000))
		FROM generate_series(1, ?) AS n`, events) // a megabyte each, of which a hundredth is stored
	single := open(t, postgres.Options{URL: h.address, MaxOpenConns: 1}) // which can publish its own statistics
	touched := func() (blocks int) {
		exec(t, single, "SELECT pg_stat_force_next_flush()")
		require.NoError(t, single.NewRaw(`SELECT toast_blks_hit + toast_blks_read + tidx_blks_hit + tidx_blks_read
			FROM pg_statio_user_tables WHERE relname = 'outbox'`).Scan(t.Context(), &blocks))
		return blocks
	}
	before := touched()
	exec(t, single, "SELECT octet_length(payload::text) FROM outbox")
	all := touched() - before
	require.Greater(t, all, events)

	log, from := postgres.NewLog(single, relay, quiet), outbox.Progress{}
	for slice := range events / 2 {
		before := touched()
		page, err := log.After(t.Context(), from, outbox.Slice{Count: 1000, Bytes: limit})
		require.NoError(t, err)
		require.Len(t, page.Entries, 2)
		if slice > 0 {
			require.Less(t, touched()-before, all/2)
		}
		from = page.Entries[1].Progress()
	}
}

// However large the events of one part are, those behind it come in whole slices again, after a careful one.
func TestLogReadsWholeSlicesOfSmallEvents(t *testing.T) {
	h := newHarness(t)
	exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', 'a', n, 'type', 'subject', to_json(repeat('x', CASE WHEN n <= 20 THEN 100000 ELSE 10 END))
		FROM generate_series(1, 300) AS n`)
	var slices []int
	from := outbox.Progress{}
	for {
		page, err := h.log.After(t.Context(), from, outbox.Slice{Count: 100, Bytes: 1 << 20})
		require.NoError(t, err)
		if len(page.Entries) == 0 {
			break
		}
		slices, from = append(slices, len(page.Entries)), page.Entries[len(page.Entries)-1].Progress()
	}
	require.Equal(t, []int{10, 20, 41, 100, 100, 29}, slices)
}

// TestLogIsPreparedWhereTheConnectionIsDirect, and is not lost when the server has forgotten that. Of poolers see TestPgBouncer.
func TestLogIsPreparedWhereTheConnectionIsDirect(t *testing.T) {
	h := newHarness(t)
	single := open(t, postgres.Options{URL: h.address, MaxOpenConns: 1})
	log := postgres.NewLog(single, relay, quiet)
	prepared := func() (statements int) {
		require.NoError(t, single.NewRaw("SELECT count(*) FROM pg_prepared_statements").Scan(t.Context(), &statements))
		return statements
	}
	want := insert(t, h.others, "a")
	read := func() error {
		page, err := log.After(t.Context(), outbox.Progress{}, plenty)
		if err == nil {
			require.Len(t, page.Entries, 1)
			require.Equal(t, want, page.Entries[0].ID)
		}
		return err
	}
	require.NoError(t, read())
	require.Zero(t, prepared(), "before anything is known of the connection")
	for range 10 {
		require.NoError(t, read())
	}
	require.Equal(t, 1, prepared())
	exec(t, single, "DEALLOCATE ALL")
	require.Error(t, read())
	for range 3 {
		require.NoError(t, read())
	}
	require.Equal(t, 1, prepared())
}

// TestAnIdleLogIsOneStatement : of a log that is empty, or of which everything was purged, as of one that holds the row that was
// published last. What comes then is found.
func TestAnIdleLogIsOneStatement(t *testing.T) {
	h := newHarness(t)
	server := open(t, postgres.Options{URL: h.address, MaxOpenConns: 1})
	log := postgres.NewLog(server, relay, quiet)
	from := outbox.Progress{}
	read := func() []outbox.Entry {
		page, err := log.After(t.Context(), from, plenty)
		require.NoError(t, err)
		return page.Entries
	}
	transactions := func() (count int64) { // of the only connection; asking is one itself
		exec(t, server, "SELECT pg_stat_force_next_flush()")
		require.NoError(t, h.admin.NewRaw("SELECT xact_commit FROM pg_stat_database WHERE datname = ?", h.name).Scan(t.Context(), &count))
		return count
	}
	requireOneEach := func() {
		t.Helper()
		require.Empty(t, read())
		before := transactions()
		for range 10 {
			require.Empty(t, read())
		}
		require.EqualValues(t, 10+1, transactions()-before)
	}
	requireOneEach()
	insert(t, server, "a")
	from = read()[0].Progress()
	requireOneEach()
	exec(t, server, "DELETE FROM outbox")
	exec(t, server, `INSERT INTO outbox_cursor (relay, position, stream_sequence, purged_to, token, updated_at)
		VALUES (?1, ?0, 0, ?0, 0, now())`, int64(from.Position), relay)
	requireOneEach()
	insert(t, server, "b")
	require.Len(t, read(), 1)
}

// TestLogKeepsItsPlan : for a table about which Postgres knows everything, it would rather make one for each read; for a small
// one, scan it; for a large one, reckon with all that follows, and compile the statement.
func TestLogKeepsItsPlan(t *testing.T) {
	const jitAbove = 100_000 // cost, Postgres' default
	for _, size := range []struct {
		rows    int
		analyze bool
		belief  float64 // how many rows Postgres is made to believe in, if any
	}{{10, false, 0}, {1000, false, 0}, {1000, true, 0}, {20_000, false, 0}, {20_000, true, 0}, {20_000, true, 1e9}} {
		t.Run(fmt.Sprintf("%+v", size), func(t *testing.T) {
			h := newHarness(t)
			single := open(t, postgres.Options{URL: h.address, MaxOpenConns: 1})
			exec(t, single, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
				SELECT gen_random_uuid(), 'order', 'a', n, 'type', 'subject', to_json(repeat('x', 300)) FROM generate_series(1, ?) AS n`, size.rows)
			if size.analyze {
				exec(t, single, "ANALYZE outbox")
			}
			var last string
			require.NoError(t, single.NewRaw("SELECT event_id FROM outbox WHERE position = ?", size.rows-1).Scan(t.Context(), &last))
			log, from := postgres.NewLog(single, relay, quiet), outbox.Progress{Position: outbox.Position(size.rows - 1), EventID: last}
			for range 20 {
				page, err := log.After(t.Context(), from, plenty)
				require.NoError(t, err)
				require.Len(t, page.Entries, 1)
			}
			var name string
			var kept int
			require.NoError(t, single.NewRaw("SELECT name, generic_plans FROM pg_prepared_statements").Scan(t.Context(), &name, &kept))
			require.Greater(t, kept, 10)
			if size.belief > 0 {
				exec(t, single, "UPDATE pg_class SET reltuples = ? WHERE relname = 'outbox'", size.belief)
			}
			var plan []string
			require.NoError(t, single.NewRaw("EXPLAIN EXECUTE ? (1, 2)", bun.Ident(name)).Scan(t.Context(), &plan))
			require.NotContains(t, strings.Join(plan, "\n"), "Seq Scan on outbox o")
			cost := regexp.MustCompile(`cost=.*\.\.(\d+)`).FindStringSubmatch(plan[0])
			require.NotNil(t, cost, plan)
			total, err := strconv.Atoi(cost[1])
			require.NoError(t, err)
			require.Less(t, total, jitAbove, plan)
		})
	}
}
