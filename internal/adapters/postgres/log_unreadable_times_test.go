package postgres_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestCursorPassesTimesThatNobodyCanRead checks an event that is parked because its time cannot be read. A relay that takes
// over directly behind this event can save its cursor and load it again.
func TestCursorPassesTimesThatNobodyCanRead(t *testing.T) {
	for _, when := range []string{"infinity", "10000-01-01 00:00:00+00"} {
		t.Run(when, func(t *testing.T) {
			h := newHarness(t)
			term, err := h.Elector("a").Acquire(t.Context(), 0)
			require.NoError(t, err)
			record(t, h, "a", 2)
			exec(t, h.others, "ALTER TABLE outbox DROP CONSTRAINT IF EXISTS outbox_recorded_at_check")
			rewrite(t, h.others, "recorded_at = ? WHERE position = 2", when)
			fence := relay.WriteFence{Token: term.Token}
			var ids []string
			require.NoError(t, h.others.NewRaw("SELECT event_id FROM outbox ORDER BY position").Scan(t.Context(), &ids))
			progress := outbox.Progress{Position: 2, EventID: ids[1]}
			// The control message of the parked event is at the tail. The former leader has died.
			_, err = h.parking.Reconcile(t.Context(), fence, relay.MessageMeta{Own: true, Progress: progress, Parked: "its time"}, 2, false)
			require.NoError(t, err)
			fence.Revision++
			_, err = h.cursors.Save(t.Context(), fence, relay.Cursor{Progress: progress, StreamCreated: "x", StreamSequence: 2})
			require.NoError(t, err)
			cursor, err := h.cursors.Load(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 2, cursor.Position)
			// A row that appears behind the cursor is still noticed.
			require.NoError(t, verify(t, h, progress, 2))
			record(t, h, "b", 2)
			exec(t, h.others, "DELETE FROM outbox WHERE position = 1")
			h.SetSequence(t, 0)
			record(t, h, "c", 1)
			h.SetSequence(t, 10)
			require.ErrorIs(t, verify(t, h, progress, 2), relay.ErrSequenceBehind)
		})
	}
}

// TestVerifyWithABacklog checks that a relay can take over with any backlog after an outage. BACKLOG=2000000 measures a larger
// one.
func TestVerifyWithABacklog(t *testing.T) {
	rows, err := strconv.Atoi(os.Getenv("BACKLOG"))
	if err != nil {
		rows = 20_000
	}
	h := newHarness(t)
	record(t, h, "a", 100)
	var id string
	require.NoError(t, h.others.NewRaw("SELECT event_id FROM outbox WHERE position = 100").Scan(t.Context(), &id))
	exec(t, h.others, `INSERT INTO outbox_cursor (relay, position, stream_created, stream_sequence, token, revision, updated_at, recorded_position, recorded_to)
		SELECT ?, 100, 'x', 100, 1, 1, now(), 100, max(recorded_at) FROM outbox WHERE position <= 100`, relayName)
	const atOnce = 100_000
	for from := 0; from < rows; from += atOnce {
		exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
			SELECT gen_random_uuid(), 'order', n::text, 1, 'test.v1', 'orders.created', to_json(repeat('x', 200)) FROM generate_series(?, ?) AS n`,
			from+1000, from+999+min(atOnce, rows-from))
	}
	exec(t, h.others, "SELECT brin_summarize_new_values('outbox_recorded')") // as autovacuum does about once a minute
	progress := outbox.Progress{Position: 100, EventID: id}
	for range 2 {
		began := time.Now()
		err := verify(t, h, progress, 100)
		t.Logf("%d rows: verified in %v: %v", rows, time.Since(began), err)
		require.NoError(t, err)
		require.NoError(t, verify(t, h, outbox.Progress{}, 0)) // makes the log forget what it has verified
	}
	began := time.Now()
	_, err = h.relayAdmin().CheckSequence(t.Context())
	t.Logf("disorder in %v: %v", time.Since(began), err)
}

// verify calls Verify of the log, and returns only its error.
func verify(t *testing.T, h *harness, reached outbox.Progress, sequence uint64) error {
	_, err := h.log.Verify(t.Context(), reached, sequence)
	return err
}
