package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
)

// TestLongestAggregateCanBeParked parks an event with the longest id that the outbox's unique index takes.
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

// TestLettersAreFoundByTheirIndex asks for the plan of what a subscriber does with every event.
func TestLettersAreFoundByTheirIndex(t *testing.T) {
	h := newHarness(t)
	require.NoError(t, h.others.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		exec(t, tx, "SET LOCAL enable_seqscan = off")
		var plan []string
		err := tx.NewRaw("EXPLAIN "+postgres.RecordStatement, "emails", "order", "a", "11111111-1111-1111-1111-111111111111", 1, 1, "1000").Scan(ctx, &plan)
		require.NoError(t, err)
		require.Regexp(t, `dead_letters_of.*\n?.*Index Cond: .*hashtextextended.*position`, fmt.Sprint(plan))
		return nil
	}))
}

// TestLettersOfEarlierProgramsAreFound discards a letter that an earlier program has kept under an id of 300 bytes.
func TestLettersOfEarlierProgramsAreFound(t *testing.T) {
	h := newHarness(t)
	downTo(t, h.others, 11)
	id := strings.Repeat("ü", 150)
	exec(t, h.others, `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, subject, headers, payload)
		VALUES ('emails', ?, 'dead', 'e', 1, 's', '{}', 'x')`, id)
	require.NoError(t, postgres.MigrateUp(t.Context(), h.others, quiet))
	require.NoError(t, postgres.NewInbox(h.db).Discard(t.Context(), "emails", id))
}
