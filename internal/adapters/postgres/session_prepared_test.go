package postgres_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestLoneEventsArePrepared checks that a connection prepares the statements for a lone event once. If Postgres has forgotten
// them, the connection works without them. A second delivery of an event is still a duplicate.
func TestLoneEventsArePrepared(t *testing.T) {
	db := open(t, postgres.Options{URL: infra.Database(t), MaxOpenConns: 1})
	in := postgres.NewInbox(db, postgres.InboxOptions{})
	at := beginLane(t, in)
	customer := newCustomer()
	add := handlerFunc(func(ctx context.Context, tx inbox.Tx, _ outbox.Entry) error {
		return postgres.NewTotals().Add(ctx, tx, customer, value.NewMoney(1, "USD"))
	})
	var last inbox.Event
	apply := func() (inbox.Outcome, error) {
		last = eventOf(at.Sequence+1, "a")
		outcome, err := in.Apply(t.Context(), emails, batchOf(at, last), add, thrice)
		if err == nil {
			at = outcome.Checkpoint
		}
		return outcome, err
	}
	requireState := func(prepared, applied int) {
		t.Helper()
		var found, total int
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'outboxie_%'),
			(SELECT sum(orders) FROM customer_totals)`).Scan(&found, &total))
		require.Equal(t, []int{prepared, applied}, []int{found, total})
	}
	for n := range 10 { // after five executions, Postgres may switch to a generic plan
		_, err := apply()
		require.NoError(t, err)
		requireState(2, n+1)
	}
	again := last
	again.Sequence++
	outcome, err := in.Apply(t.Context(), emails, batchOf(at, again), add, thrice)
	require.NoError(t, err)
	require.Equal(t, []inbox.Result{inbox.Duplicate}, outcome.Results)
	at = outcome.Checkpoint
	_, err = in.Apply(t.Context(), emails, batchOf(inbox.Checkpoint{Lanes: 1}, last), add, thrice)
	require.ErrorIs(t, err, inbox.ErrLaneMoved)

	exec(t, db, "DEALLOCATE ALL")
	_, err = apply()
	require.Error(t, err)
	_, err = apply()
	require.NoError(t, err)
	requireState(0, 11)
}
