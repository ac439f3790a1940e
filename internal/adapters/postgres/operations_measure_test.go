package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func measure(t *testing.T, h *harness, known outbox.Position) operations.RelayMetrics {
	t.Helper()
	found, err := h.relayAdmin().Measure(t.Context(), known)
	require.NoError(t, err)
	return found
}

func TestMeasure(t *testing.T) {
	h := newHarness(t)
	require.Zero(t, measure(t, h, 0), "nothing was ever written")

	record(t, h, "a", 5)
	rewrite(t, h.others, "recorded_at = recorded_at - (10 - position) * interval '1 minute'")
	found := measure(t, h, 0)
	require.InDelta(t, 9*time.Minute, found.Oldest, float64(30*time.Second))
	found.Oldest = 0
	require.Equal(t, operations.RelayMetrics{Backlog: 5, Retained: 5}, found)

	elector := h.Elector("instance-1")
	term, err := elector.Acquire(t.Context(), 0)
	require.NoError(t, err)
	_, err = h.cursors.Save(t.Context(), relay.WriteFence{Token: term.Token}, relay.Cursor{Progress: outbox.Progress{Position: 2}})
	require.NoError(t, err)
	h.Purge(t, 1)
	park(t, h, 3, relay.Parked)
	park(t, h, 4, relay.Redriven)
	found = measure(t, h, 0)
	require.InDelta(t, 5*time.Minute, found.Oldest, float64(30*time.Second), "of the first that is not parked")
	found.Oldest = 0
	require.Equal(t, operations.RelayMetrics{HasLeader: true, Backlog: 3, Retained: 4, ParkedEvents: 1, ParkedAggregates: 1}, found)

	require.EqualValues(t, 1, measure(t, h, 4).Backlog, "the relay knows better than its cursor")
	require.EqualValues(t, 3, measure(t, h, 1).Backlog, "the cursor knows better than the relay")
	found = measure(t, h, 5)
	require.Zero(t, found.Backlog)
	require.Zero(t, found.Oldest)
	require.NoError(t, elector.Resign(t.Context(), term))
	require.False(t, measure(t, h, 0).HasLeader)
}

func TestMeasureTellsOfOpenWriters(t *testing.T) {
	h := newHarness(t)
	writer, err := h.others.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer writer.Rollback() //nolint:errcheck // after a commit it does nothing
	exec(t, writer, "SELECT pg_sleep(0.3)")
	require.Zero(t, measure(t, h, 0).OldestTransaction, "it has written nothing")
	exec(t, writer, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		VALUES (gen_random_uuid(), 'order', 'w', 1, 'test.v1', 'orders.created', '1')`)
	found := measure(t, h, 0)
	require.Greater(t, found.OldestTransaction, 300*time.Millisecond)
	require.Zero(t, found.Backlog, "it has committed nothing")
	require.NoError(t, writer.Commit())
	found = measure(t, h, 0)
	require.Zero(t, found.OldestTransaction)
	require.EqualValues(t, 1, found.Backlog)
}

func TestMeasureRefusesWithoutADatabase(t *testing.T) {
	h := newHarness(t)
	h.Disconnect(t)
	_, err := h.relayAdmin().Measure(t.Context(), 0)
	require.Error(t, err)
	h.Reconnect(t)
}

// explainAnalyze runs the statement and returns its plan.
func explainAnalyze(t *testing.T, h *harness, statement string, args ...any) string {
	t.Helper()
	var plan []string
	require.NoError(t, h.others.NewRaw("EXPLAIN (ANALYZE, COSTS off, TIMING off) "+statement, args...).Scan(t.Context(), &plan))
	return strings.Join(plan, "\n")
}

// TestMeasureReadsLittle checks that a measurement reads few rows, however long backlog and parking lot are, and whatever the
// planner's statistics are.
func TestMeasureReadsLittle(t *testing.T) {
	h := newHarness(t)
	exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', n::text, 1, 'test.v1', 'orders.created', '1' FROM generate_series(1, 50000) AS n`)
	exec(t, h.others, `INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state)
		SELECT position, event_id, aggregate_type, aggregate_id, event_type, 'too large', 'parked' FROM outbox`)
	found := measure(t, h, 0)
	require.EqualValues(t, 50000, found.Backlog)
	require.EqualValues(t, operations.MaxCountedParked, found.ParkedEvents)
	requireLittle := func(statement string, args ...any) {
		plan := explainAnalyze(t, h, statement, args...)
		require.Contains(t, plan, "actual rows=")
		require.NotContains(t, plan, "actual rows=50000")
	}
	requireLittle(postgres.OldestStatement, 0)
	exec(t, h.others, "ANALYZE outbox, outbox_parked")
	requireLittle(postgres.OldestStatement, 0)
	requireLittle(postgres.MeasureStatement, relayName, operations.MaxCountedParked)
}
