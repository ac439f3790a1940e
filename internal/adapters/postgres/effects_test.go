package postgres_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// TestEffectsReadNoTable checks that the effects of a few events cost a few rows, whatever the tables hold: with statistics of full tables, and
// with none.
func TestEffectsReadNoTable(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	sent := &statements{}
	var ids []string
	for n := range 4 {
		ids = append(ids, fmt.Sprintf("00000000-0000-4000-8000-%012d", n+1))
	}
	_, err := postgres.NewEffectReader(h.db.WithQueryHook(sent)).Effects(t.Context(), ids)
	require.NoError(t, err)
	require.Len(t, sent.queries, 1)
	exec(t, h.others, `INSERT INTO subscriber_lanes (subscriber, lane, lanes, stream, sequence, stored_ns)
		SELECT 's' || s, lane, 8, 'S', 0, 0 FROM generate_series(1, 3) AS s, generate_series(0, 7) AS lane`)
	exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'order', n::text, 1, 'a.v1', 'orders.a', '{}' FROM generate_series(1, 20000) AS n`)
	exec(t, h.others, `INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, sequence)
		SELECT 's' || s, event_id, aggregate_type, aggregate_id, 1, position, position FROM outbox, generate_series(1, 3) AS s`)
	exec(t, h.others, `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version, position, subject, headers, payload)
		SELECT subscriber, event_id::text, 'retrying', 'no stock', 1, aggregate_type, aggregate_id, 1, position, 'orders.a', '{}', '' FROM inbox`)
	for _, statistics := range []string{"none", "ANALYZE"} {
		if statistics != "none" {
			exec(t, h.others, statistics)
		}
		plan := analyzed(t, h, sent.queries[0])
		require.Less(t, plan.read(), 150.0, "statistics: %s\n%+v", statistics, plan)
	}
	found, err := postgres.NewEffectReader(h.db).Effects(t.Context(), ids)
	require.NoError(t, err)
	require.Len(t, found, 12)
	require.NotZero(t, found[11].AppliedAt)
}

// TestMissingRight checks that an error says so if the database role lacks a right.
func TestMissingRight(t *testing.T) {
	t.Parallel()
	db := open(t, postgres.Options{URL: newHarness(t).address, MaxOpenConns: 1})
	exec(t, db, "SET ROLE pg_monitor") // a role without rights to any of our tables
	_, err := postgres.NewEffectReader(db).Effects(t.Context(), []string{"00000000-0000-4000-8000-000000000001"})
	require.ErrorIs(t, err, operations.ErrNoRight)
	require.ErrorContains(t, err, "permission denied")
}
