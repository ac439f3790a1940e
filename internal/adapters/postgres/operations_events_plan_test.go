package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestEveryStateReadsFewEvents checks that a list of the events in one state does not read the whole log, even if only old events, or none,
// are in this state.
func TestEveryStateReadsFewEvents(t *testing.T) {
	h := newHarness(t)
	const count, limit = 50_000, 50
	exec(t, h.others, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', 'a', version, 't', 'orders.x', '{}' FROM generate_series(1, ?) AS version`, count)
	exec(t, h.others, `INSERT INTO outbox_cursor (relay, position, token, updated_at, purged_to, recorded_to, recorded_position)
		VALUES (?0, ?1, 0, now(), 2, (SELECT max(recorded_at) FROM outbox), ?1)`, relayName, count-10)
	park(t, h, 3, relay.Parked)
	park(t, h, 4, relay.Redriven)
	exec(t, h.others, "VACUUM ANALYZE outbox, outbox_parked, outbox_cursor")
	for state, want := range map[string]int{
		operations.Unpublished: 10, operations.Published: limit, operations.Misplaced: 2, string(relay.Parked): 1, string(relay.Redrive): 0,
		string(relay.Redriven): 1, string(relay.Discarded): 0,
	} {
		for _, before := range []outbox.Position{0, count / 2} {
			sent := &statements{}
			found, err := postgres.NewRelayAdmin(h.db.WithQueryHook(sent), relayName, "STREAM").List(t.Context(), operations.EventFilter{State: state, Before: before, Limit: limit})
			require.NoError(t, err)
			if before == 0 {
				require.Len(t, found, want, state)
			}
			require.Len(t, sent.queries, 1)
			plan := analyzed(t, h, sent.queries[0])
			require.Less(t, plan.read(), float64(count)/10, "%s before %d: %s\n%+v", state, before, sent.queries[0], plan)
		}
	}
}
