package postgres_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// bound is the time limit of a statement in these tests.
const bound = time.Second

// TestTheRelaysStatementsAreBounded checks that a database that does not answer cannot hold the relay while its lease is
// renewed.
func TestTheRelaysStatementsAreBounded(t *testing.T) {
	s := newScene(t)
	s.harness.log.SetStatementTimeout(bound)
	s.cursors.SetStatementTimeout(bound)
	s.parking.SetStatementTimeout(bound)
	retention := postgres.NewRetention(s.db, relayName)
	retention.SetStatementTimeout(bound)
	calls := s.revisionFenced()
	calls["Purge"] = func(ctx context.Context) error {
		_, err := retention.Purge(ctx, s.term.Token, time.Hour, 1000)
		return err
	}
	calls["Load"] = func(ctx context.Context) error {
		_, err := s.cursors.Load(ctx)
		return err
	}
	calls["After"] = func(ctx context.Context) error {
		_, err := s.harness.log.After(ctx, outbox.Progress{}, plenty)
		return err
	}
	calls["Due"] = func(ctx context.Context) error {
		_, _, err := s.parking.Due(ctx, s.log[7].Position, plenty)
		return err
	}
	before := s.everything(t)
	stuck := transaction(t, s.harness)
	exec(t, stuck, "LOCK TABLE outbox_cursor, outbox_parked IN ACCESS EXCLUSIVE MODE")
	answers := make(map[string]chan error)
	for name, call := range calls {
		answer := make(chan error, 1)
		answers[name] = answer
		go func() { answer <- call(t.Context()) }()
	}
	for name, answer := range answers {
		err := eventually(t, answer)
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%s: %v", name, err)
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
	}
	for name, call := range calls {
		ended, end := context.WithCancel(t.Context())
		time.AfterFunc(bound/20, end)
		err := call(ended)
		require.ErrorIs(t, err, context.Canceled, name)
		require.NotErrorIs(t, err, context.DeadlineExceeded, name)
	}
	waiting := []string{"none was counted"} // until Postgres has noticed it, too
	require.Eventually(t, func() bool {
		err := s.db.NewRaw(`SELECT state || ' since ' || state_change || ': ' || query FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(t.Context(), &waiting)
		return err == nil && len(waiting) == 0
	}, beginTimeout, 10*time.Millisecond, "these still wait: %v", &waiting)
	exec(t, stuck, "COMMIT")
	require.Equal(t, before, s.everything(t), "what was given up takes no effect; should Postgres hear of it too late, the fence is there")
}

// TestAStatementWithoutAClientEnds checks that Postgres ends a statement whose connection was closed without a request to cancel it, as after
// kill -9. It may hold locks for which others wait.
func TestAStatementWithoutAClientEnds(t *testing.T) {
	h := newHarness(t)
	stuck := transaction(t, h)
	exec(t, stuck, "LOCK TABLE outbox_cursor IN ACCESS EXCLUSIVE MODE")
	db := open(t, postgres.Options{URL: h.address, ApplicationName: "closed"})
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	var socket net.Conn
	require.NoError(t, conn.Raw(func(opened any) (err error) {
		socket, err = postgres.Hijack(opened)
		return err
	}))
	query, err := (&pgproto3.Query{String: "BEGIN; LOCK TABLE outbox IN EXCLUSIVE MODE; TABLE outbox_cursor"}).Encode(nil)
	require.NoError(t, err)
	_, err = socket.Write(query)
	require.NoError(t, err)
	waiting := func() (n int) {
		require.NoError(t, h.others.NewRaw("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'closed' AND wait_event_type = 'Lock'").Scan(t.Context(), &n))
		return n
	}
	require.Eventually(t, func() bool { return waiting() == 1 }, beginTimeout, 10*time.Millisecond)
	require.NoError(t, socket.Close())
	require.Eventually(t, func() bool { return waiting() == 0 }, beginTimeout, 10*time.Millisecond)
}

// TestTheLogWaitsForLongerThanAStatementMayTake checks that After waits for open transactions beyond the time limit of a
// statement.
func TestTheLogWaitsForLongerThanAStatementMayTake(t *testing.T) {
	h := newHarness(t)
	h.log.SetStatementTimeout(bound)
	early := transaction(t, h)
	first := insert(t, early, "first")
	second := insert(t, h.others, "second")
	answer := readWaiting(t, h)
	require.Eventually(t, func() bool { return h.log.OldestWait() > bound*5/4 }, beginTimeout, 10*time.Millisecond)
	exec(t, early, "COMMIT")
	requireRead(t, answer, first, second)
}
