package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
)

// manyLetters inserts 5,000 letters behind one dead letter, 1,200 aggregates with a dead letter and a waiting one, 3,000
// letters that are due in an hour, and 10,000 applied events.
func manyLetters(t *testing.T, h *harness) {
	t.Helper()
	const insert = `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version,
		position, subject, headers, payload, due_at)
	SELECT 'emails', gen_random_uuid(), `
	exec(t, h.others, insert+`CASE WHEN n = 1 THEN 'dead' ELSE 'waiting' END, '', 0, 'order', 'hot', n, n, 's', '{}', 'x', now()
		FROM generate_series(1, 5001) AS n`)
	exec(t, h.others, insert+`CASE WHEN v = 1 THEN 'dead' ELSE 'waiting' END, '', 0, 'order', 'a' || n, v, 10000 + 2 * n + v, 's', '{}', 'x', now()
		FROM generate_series(1, 1200) AS n, generate_series(1, 2) AS v`)
	exec(t, h.others, insert+`'retrying', '', 0, 'order', 'r' || n, 1, 20000 + n, 's', '{}', 'x', now() + interval '1 hour'
		FROM generate_series(1, 3000) AS n`)
	exec(t, h.others, `INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, sequence)
		SELECT 'emails', gen_random_uuid(), 'order', 'b' || n, 1, n, n FROM generate_series(1, 10000) AS n`)
	exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT event_id, 'order', aggregate_id, 1, 't', 's', '{}' FROM inbox`)
	exec(t, h.others, "ANALYZE")
}

// TestCostOfLetters checks that the statements that copies send all the time do not scan or sort a whole table, and do not
// filter many rows.
func TestCostOfLetters(t *testing.T) {
	h := newHarness(t)
	manyLetters(t, h)
	ids := pgdialect.Array([]string{entry(1).ID, "unreadable-1"})
	for name, c := range map[string]struct {
		statement string
		args      []any
		want      string // a pattern in the plan
	}{
		"head":        {postgres.HeadStatement, []any{"emails", "1000", pgdialect.Array([]string{"t", "u"}), "handler"}, `Index Cond: .*state = 'retrying'::text\) AND \(due_at <= statement_timestamp`},
		"letters":     {postgres.LettersStatement, []any{"emails", "order", "hot", 1, 500}, `Index Scan using dead_letters_of on dead_letters letter .*rows=500 `},
		"promote":     {postgres.PromoteHeadStatement, []any{"emails", "order", "hot"}, `dead_letters_of`},
		"promoteAll":  {postgres.PromoteHeadsStatement, []any{"emails", 0, postgres.HeadsAtOnce}, `CTE Scan on looked`},
		"forgettable": {postgres.ForgettableStatement, []any{"emails", "S", 1, 100, 400}, `inbox_applied on inbox .*rows=400 `},
		"forget":      {postgres.ForgetStatement, []any{"emails", "S", ids, 1, 1}, `inbox_pkey`},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, h.others.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
				var lines []string
				err := tx.NewRaw("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "+c.statement, c.args...).Scan(ctx, &lines)
				require.NoError(t, err)
				plan := strings.Join(lines, "\n")
				require.Regexp(t, c.want, plan)
				require.NotRegexp(t, `Seq Scan on (dead_letters|inbox|outbox)\b`, plan)
				require.NotRegexp(t, `Rows Removed by Filter: \d{4}`, plan)
				require.NotRegexp(t, `rows=[1-9]\d{3}`, plan)
				return nil
			}))
		})
	}
}

// TestManyHeadsArePromoted checks letters that are stored as waiting, although the dead letter before them is gone. PromoteHeads
// promotes them in small groups until none is left.
func TestManyHeadsArePromoted(t *testing.T) {
	h := newHarness(t)
	manyLetters(t, h)
	exec(t, h.others, "DELETE FROM dead_letters WHERE state = 'dead'")
	const missed = 1201
	in := newInbox(h.db)
	noted := 0
	for range 1000 {
		now, err := in.PromoteHeads(t.Context(), emails)
		require.NoError(t, err)
		require.LessOrEqual(t, now, postgres.HeadsAtOnce)
		if noted += now; noted == missed {
			break
		}
	}
	require.Equal(t, missed, noted)
	require.Equal(t, missed, count(t, h, "SELECT count(*) FROM dead_letters WHERE state = 'retrying' AND due_at <= now()"))
	require.Equal(t, 4999, count(t, h, "SELECT count(*) FROM dead_letters WHERE state = 'waiting'"))
}
