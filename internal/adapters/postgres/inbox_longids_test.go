package postgres_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
)

// TestLongestAggregateCanBeParked checks that an event can be parked if its aggregate has the longest id that the outbox's
// unique index allows.
func TestLongestAggregateCanBeParked(t *testing.T) {
	h := newHarness(t)
	var id strings.Builder
	for range 2672 {
		id.WriteByte('a' + byte(rand.IntN(26)))
	}
	for i, state := range []string{"parked", "redrive"} {
		exec(t, h.others, `INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state)
			VALUES (?, gen_random_uuid(), 'order', ?, 't', 'too large', ?)`, i+1, id.String(), state)
	}
}

// TestLettersOfEarlierProgramsAreFound checks that a letter of an earlier version, with an id of 300 bytes, can be discarded.
func TestLettersOfEarlierProgramsAreFound(t *testing.T) {
	h := newHarness(t)
	downTo(t, h.others, 11)
	id := strings.Repeat("ü", 150)
	exec(t, h.others, `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, subject, headers, payload)
		VALUES ('emails', ?, 'dead', 'e', 1, 's', '{}', 'x')`, id)
	require.NoError(t, postgres.MigrateUp(t.Context(), h.others, quiet))
	require.NoError(t, newInbox(h.db).Discard(t.Context(), "emails", id))
}
