package postgres_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// deadLetters inserts n dead letters as an earlier version wrote them, each of its own aggregate. They died one after the
// other.
func deadLetters(t *testing.T, h *harness, n int) {
	t.Helper()
	exec(t, h.others, `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version,
			position, event_type, subject, headers, payload, dead_at, due_at)
		SELECT 'emails', 'letter ' || n, 'dead', 'customer ' || n || ' is unknown', 1, 'order', n, 1, n, 't', 's', '{}', 'x',
			now() - interval '1 hour' + n * interval '1 millisecond', now() - interval '1 hour' + n * interval '1 millisecond'
		FROM generate_series(1, ?) AS n`, n)
	exec(t, h.others, "ANALYZE dead_letters")
}

// TestManyLettersAreChangedInChunks checks a command that changes many letters while it waits for a locked letter. It holds
// locks only in the current chunk. If the command is interrupted, its finished chunks stay, and it can run again.
func TestManyLettersAreChangedInChunks(t *testing.T) {
	h := newHarness(t)
	const all, chunk = 2000, 500
	deadLetters(t, h, all)
	letters := operating.UndecidedDeadLetters(newInbox(h.db), emails)
	choice := operations.Choice{Group: fault.NewFingerprint("customer 7 is unknown").ID}
	groups, err := letters.Groups(t.Context())
	require.NoError(t, err)
	require.Len(t, groups.List, 1)
	require.Equal(t, all, groups.Events)

	held, err := h.others.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer held.Rollback() //nolint:errcheck // it has ended when the test succeeds
	lock := func(tx bun.Tx, id string) error {
		return tx.QueryRowContext(t.Context(), "SELECT event_id FROM dead_letters WHERE event_id = ? FOR UPDATE NOWAIT", id).Scan(new(string))
	}
	require.NoError(t, lock(held, "letter 1200"))
	working, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := letters.Retry(working, choice)
		ended <- err
	}()
	retrying := func() int { return count(t, h, "SELECT count(*) FROM dead_letters WHERE state = 'retrying'") }
	require.Eventually(t, func() bool { return retrying() == 2*chunk }, 30*time.Second, 10*time.Millisecond)
	for _, id := range []string{"letter 1", "letter 999", "letter 1501", "letter 2000"} {
		require.NoError(t, lock(held, id))
	}
	interrupt()
	require.Error(t, <-ended)
	require.NoError(t, held.Rollback())
	require.Equal(t, 2*chunk, retrying())
	retried, err := letters.Retry(t.Context(), choice)
	require.NoError(t, err)
	require.Equal(t, all-2*chunk, retried)
	require.Equal(t, all, retrying())
}

// TestListsReadPages checks that a list of letters reads about as many letters as it shows, whether they are dead, retried or unreadable. If
// many letters wait behind one, the list reads each of them twice, but their head only once.
func TestListsReadPages(t *testing.T) {
	h := newHarness(t)
	deadLetters(t, h, 10_000)
	exec(t, h.others, `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version,
			position, subject, headers, payload, dead_at)
		SELECT CASE WHEN n <= 5000 THEN 'retried' ELSE 'stray' END, 'letter ' || n, CASE WHEN n <= 5000 THEN 'retrying' ELSE 'dead' END, '', 1,
			CASE WHEN n <= 5000 THEN 'order' END, CASE WHEN n <= 5000 THEN n::text END, CASE WHEN n <= 5000 THEN 1 END,
			CASE WHEN n <= 5000 THEN n END, 's', '{}', 'x', now()
		FROM generate_series(1, 10000) AS n`)
	exec(t, h.others, `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version,
			position, subject, headers, payload, dead_at)
		SELECT 'waiting', 'letter ' || n, CASE WHEN n = 1 THEN 'dead' ELSE 'waiting' END, '', 1, 'order', 'hot', n, n, 's', '{}', 'x', now()
		FROM generate_series(1, 10000) AS n`)
	exec(t, h.others, "VACUUM ANALYZE dead_letters")
	const limit = 101
	for subscriber, want := range map[string]int{emails: limit, "retried": limit, "stray": limit, "waiting": 1} {
		sent := &statements{}
		listed, err := newInbox(h.db.WithQueryHook(sent)).Letters(t.Context(), subscriber, limit)
		require.NoError(t, err)
		require.Len(t, listed, want, subscriber)
		require.Len(t, sent.queries, 1)
		plan := analyzed(t, h, sent.queries[0])
		if subscriber == "waiting" {
			require.Less(t, plan.read(), 25_000.0, "%+v", plan)
			continue
		}
		require.Less(t, plan.read(), 20.0*limit, "%s: %+v", subscriber, plan)
	}
}

// TestWalksReadPages checks that a page of dead letters is read from an index, however many letters there are.
func TestWalksReadPages(t *testing.T) {
	h := newHarness(t)
	deadLetters(t, h, 10_000)
	var read []struct{ Plan node }
	var plan string
	err := h.others.NewRaw("EXPLAIN (ANALYZE, FORMAT JSON) "+postgres.UndecidedStatement, "emails", fault.LongestReason, 100,
		time.Now().Add(-time.Hour+5*time.Second), "", bun.NullTime{}).Scan(t.Context(), &plan)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(plan), &read))
	require.Contains(t, plan, "dead_letters_due")
	require.NotContains(t, plan, "Seq Scan")
	require.Less(t, read[0].Plan.read(), 1000.0, plan)
}
