package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// removed fills the log with events of a thousand aggregates, and returns the hole that the stream has if all their messages
// are removed.
func (h *harness) removed(t *testing.T, in *postgres.Inbox, events int) inbox.Hole {
	t.Helper()
	beginLane(t, in)
	require.NoError(t, in.Subscribe(t.Context(), emails, "suite", []string{relaytest.EventType}))
	exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload)
		SELECT gen_random_uuid(), 'order', 'order-' || n % 1000, n, ?, 'orders.created', '{}', '{"an": "event"}' FROM generate_series(1, ?) AS n`,
		relaytest.EventType, events)
	exec(t, h.others, `INSERT INTO outbox_cursor (relay, stream_created, stream_sequence, position, token, updated_at)
		VALUES (?, 'STREAM', ?, ?, 1, now())`, relayName, events, events)
	exec(t, h.others, "ANALYZE outbox")
	return inbox.Hole{Lanes: 1, Stream: "STREAM", First: 1, Last: uint64(events), LastRead: uint64(events)} //nolint:gosec // positive
}

// TestLargeHole checks a hole of 100,000 messages. Each call returns at most 500 events, in order, with few statements. That is
// also true for a lane that owns only a small part of the events.
func TestLargeHole(t *testing.T) {
	const events = 100_000
	h := newHarness(t)
	sent := &statements{}
	in := postgres.NewInbox(h.db.WithQueryHook(sent), postgres.InboxOptions{})
	whole := h.removed(t, in, events)
	limit := inbox.ReadLimit{Count: 500, Bytes: 2 << 20}
	var plan []string
	require.NoError(t, h.others.NewRaw("EXPLAIN (COSTS OFF) "+postgres.HolePageStatement,
		emails, 1, events, 20_000, events+1, pgdialect.Array([]int64{}), 0, limit.Count+1).Scan(t.Context(), &plan))
	require.NotContains(t, strings.Join(plan, "\n"), "Seq Scan on outbox o", "each call would read the whole hole")
	for _, lanes := range []int{1, 16} {
		hole := whole
		hole.Lane, hole.Lanes = lanes/2, lanes
		filled, calls, last, began := 0, 0, outbox.Position(0), time.Now()
		sent.queries = nil
		for more := true; more; calls++ {
			lost, err := in.ReadHole(t.Context(), emails, hole, limit)
			require.NoError(t, err)
			require.Zero(t, lost.LostMessages)
			require.LessOrEqual(t, len(lost.Events), limit.Count)
			for _, event := range lost.Events {
				require.Greater(t, event.Position, last)
				last = event.Position
			}
			filled += len(lost.Events)
			hole.After, more = lost.CompleteTo, lost.More
		}
		require.EqualValues(t, events, hole.After)
		t.Logf("%d lanes: %d events in %d calls, %s", lanes, filled, calls, time.Since(began).Round(time.Millisecond))
		require.LessOrEqual(t, calls, filled/limit.Count+2)
		require.LessOrEqual(t, len(sent.queries), 10*calls)
		if lanes == 1 {
			require.Equal(t, events, filled)
		}
	}
}

// purging deletes rows of the log after the first statement of a transaction that reads the log.
type purging struct{ purge func() }

func (p *purging) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }

func (p *purging) AfterQuery(_ context.Context, event *bun.QueryEvent) {
	if p.purge != nil && strings.Contains(event.Query, "outbox_cursor") {
		p.purge()
		p.purge = nil
	}
}

// TestLogIsPurgedWhileItIsAsked checks that ReadHole reads one snapshot: it still returns rows that retention removes between
// its statements.
func TestLogIsPurgedWhileItIsAsked(t *testing.T) {
	h := newHarness(t)
	during := &purging{}
	in := postgres.NewInbox(h.db.WithQueryHook(during), postgres.InboxOptions{})
	hole := h.removed(t, in, 10)
	purged := false
	during.purge = func() {
		exec(t, h.others, "DELETE FROM outbox WHERE position <= 7")
		exec(t, h.others, "UPDATE outbox_cursor SET purged_to = 7")
		purged = true
	}
	limit := inbox.ReadLimit{Count: 100, Bytes: 1 << 20}
	lost, err := in.ReadHole(t.Context(), emails, hole, limit)
	require.NoError(t, err)
	require.True(t, purged)
	require.Len(t, lost.Events, 10)
	require.Zero(t, lost.LostMessages)
	lost, err = in.ReadHole(t.Context(), emails, hole, limit)
	require.NoError(t, err)
	require.Len(t, lost.Events, 3)
	require.Equal(t, 7, lost.LostMessages)
}
