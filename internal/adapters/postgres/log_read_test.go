package postgres_test

import (
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

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

// TestLogReadsLittleMorePayloadThanItReturns checks that the log reads large payloads only for the page that it returns, not for
// many pages at once.
func TestLogReadsLittleMorePayloadThanItReturns(t *testing.T) {
	const events, limit = 64, 2 << 20
	h := newHarness(t)
	exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', 'a', n, 'type', 'subject', to_json(repeat(md5(n::text), 31000))
		FROM generate_series(1, ?) AS n`, events) // payloads of one megabyte, which Postgres stores in a hundredth of that
	single := open(t, postgres.Options{URL: h.address, MaxOpenConns: 1}) // a session that can flush its own statistics
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

	log, from := postgres.NewLog(single, relayName, quiet), outbox.Progress{}
	for slice := range events / 2 {
		before := touched()
		page, err := log.After(t.Context(), from, relay.ReadLimit{Count: 1000, Bytes: limit})
		require.NoError(t, err)
		require.Len(t, page.Entries, 2)
		if slice > 0 {
			require.Less(t, touched()-before, all/2)
		}
		from = page.Entries[1].Progress()
	}
}

// TestLogReadsWholeSlicesOfSmallEvents checks that the log returns full pages again after a part with large events. Only the
// pages directly after that part are smaller.
func TestLogReadsWholeSlicesOfSmallEvents(t *testing.T) {
	h := newHarness(t)
	exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', 'a', n, 'type', 'subject', to_json(repeat('x', CASE WHEN n <= 20 THEN 100000 ELSE 10 END))
		FROM generate_series(1, 300) AS n`)
	var slices []int
	from := outbox.Progress{}
	for {
		page, err := h.log.After(t.Context(), from, relay.ReadLimit{Count: 100, Bytes: 1 << 20})
		require.NoError(t, err)
		if len(page.Entries) == 0 {
			break
		}
		slices, from = append(slices, len(page.Entries)), page.Entries[len(page.Entries)-1].Progress()
	}
	require.Equal(t, []int{10, 20, 41, 100, 100, 29}, slices)
}

// TestLogIsPreparedWhereTheConnectionIsDirect checks that the log prepares its statement on a direct connection, and prepares
// it again if the server has forgotten it. TestPgBouncer covers poolers.
func TestLogIsPreparedWhereTheConnectionIsDirect(t *testing.T) {
	h := newHarness(t)
	single := open(t, postgres.Options{URL: h.address, MaxOpenConns: 1})
	log := postgres.NewLog(single, relayName, quiet)
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

// TestAnIdleLogIsOneStatement checks that a read without new events sends one statement. The log may be empty, purged, or end
// with the row that was published last. A later event is still found.
func TestAnIdleLogIsOneStatement(t *testing.T) {
	h := newHarness(t)
	server := open(t, postgres.Options{URL: h.address, MaxOpenConns: 1})
	log := postgres.NewLog(server, relayName, quiet)
	from := outbox.Progress{}
	read := func() []outbox.Entry {
		page, err := log.After(t.Context(), from, plenty)
		require.NoError(t, err)
		return page.Entries
	}
	transactions := func() (count int64) { // of the only connection; this query is itself a transaction
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
		VALUES (?1, ?0, 0, ?0, 0, now())`, int64(from.Position), relayName)
	requireOneEach()
	insert(t, server, "b")
	require.Len(t, read(), 1)
}

// TestLogKeepsItsPlan checks that Postgres keeps the generic plan of the read. Otherwise Postgres would plan each read of an
// analyzed table again, scan the whole of a small table, or compile the statement (JIT) for a large one.
func TestLogKeepsItsPlan(t *testing.T) {
	const jitAbove = 100_000 // cost, Postgres' default
	for _, size := range []struct {
		rows    int
		analyze bool
		belief  float64 // how many rows Postgres believes to be in the table; 0: its own estimate
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
			log, from := postgres.NewLog(single, relayName, quiet), outbox.Progress{Position: outbox.Position(size.rows - 1), EventID: last}
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
			require.NoError(t, single.NewRaw("EXPLAIN EXECUTE ? (1, 2, 1048576)", bun.Ident(name)).Scan(t.Context(), &plan))
			require.NotContains(t, strings.Join(plan, "\n"), "Seq Scan on outbox o")
			cost := regexp.MustCompile(`cost=.*\.\.(\d+)`).FindStringSubmatch(plan[0])
			require.NotNil(t, cost, plan)
			total, err := strconv.Atoi(cost[1])
			require.NoError(t, err)
			require.Less(t, total, jitAbove, plan)
		})
	}
}
