package postgres_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

// readOnly switches read-only mode on or off for new sessions of the database. With end, it also ends the current sessions.
func readOnly(t *testing.T, h *harness, on, end bool) {
	t.Helper()
	if on {
		exec(t, h.admin, "ALTER DATABASE ? SET default_transaction_read_only = on", bun.Ident(h.name))
	} else {
		exec(t, h.admin, "ALTER DATABASE ? RESET default_transaction_read_only", bun.Ident(h.name))
	}
	if end {
		exec(t, h.admin, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = ?", h.name)
	}
}

// TestReadOnlySessionsAreLeft checks a database that is read-only for a while. Sessions from that time stay read-only for good,
// so the pool closes them, and soon a write succeeds. Meanwhile reads work, and not every failed write opens new sessions.
func TestReadOnlySessionsAreLeft(t *testing.T) {
	h := newHarness(t)
	elector := h.Elector("me")
	readOnly(t, h, true, true)
	require.Eventually(t, func() bool { return h.db.PingContext(t.Context()) == nil }, 10*time.Second, 10*time.Millisecond)
	pids := make(map[int]bool)
	const phase = 2 * postgres.ReadOnlyFor
	writes := 0
	began := time.Now()
	for ; time.Since(began) < phase; writes++ {
		_, err := elector.Acquire(t.Context(), 0)
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
		require.ErrorContains(t, err, "read-only")
		var pid int
		require.NoError(t, h.db.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
		pids[pid] = true
		time.Sleep(10 * time.Millisecond)
	}
	require.LessOrEqual(t, len(pids), 2+int(time.Since(began)/postgres.ReadOnlyFor), "%d writes", writes)

	readOnly(t, h, false, false)
	began = time.Now()
	require.Eventually(t, func() bool { _, err := elector.Acquire(t.Context(), 0); return err == nil }, 10*time.Second, 10*time.Millisecond)
	t.Logf("a write succeeded %s after the database was writable", time.Since(began).Round(time.Millisecond))
}

// TestReadOnlySiblingsAreLeft checks that one refused write retires all read-only sessions of the pool.
func TestReadOnlySiblingsAreLeft(t *testing.T) {
	h := newHarness(t)
	readOnly(t, h, true, true)
	db := open(t, postgres.Options{URL: h.address, MaxOpenConns: 2})
	before := backends(t, db)
	readOnly(t, h, false, false)
	time.Sleep(postgres.ReadOnlyFor + 100*time.Millisecond)
	_, err := db.ExecContext(t.Context(), "INSERT INTO leases (name, token, expires_at) VALUES ('x', 1, now())")
	require.ErrorContains(t, err, "25006")
	require.Zero(t, shared(before, backends(t, db)))
}
