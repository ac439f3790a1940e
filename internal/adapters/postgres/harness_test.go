package postgres_test

import (
	"context"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.MainInMemory(m) }

const (
	relayName = "ORDERS"
	underTest = "under-test" // the application name of the connections that Disconnect closes
	leaseTTL  = time.Minute
)

var quiet = slog.New(slog.DiscardHandler)

// harness is a fresh database. The adapters under test use one pool, and all other work uses another pool.
type harness struct {
	address string
	name    string
	db      *bun.DB // of the adapters under test
	others  *bun.DB // of the writers
	admin   *bun.DB // another database of the same server
	log     *postgres.Log
	cursors *postgres.CursorStore
	parking *postgres.Parking
}

var _ relaytest.RetentionHarness = (*harness)(nil)

func newHarness(t *testing.T) *harness {
	t.Helper()
	return newHarnessAt(t, infra.Database(t))
}

func newHarnessAt(t *testing.T, address string) *harness {
	t.Helper()
	server, name := split(t, address)
	h := &harness{address: address, name: name}
	h.admin = open(t, postgres.Options{URL: server, MaxOpenConns: 2})
	h.db = open(t, postgres.Options{URL: address, ApplicationName: underTest, MaxOpenConns: 20})
	h.others = open(t, postgres.Options{URL: address, ApplicationName: "others", MaxOpenConns: 40})
	h.log = postgres.NewLog(h.db, relayName, quiet)
	h.cursors = postgres.NewCursorStore(h.db, relayName, "STREAM")
	h.parking = postgres.NewParking(h.db, relayName)
	return h
}

// split returns the address of another database on the same server, and the name of the database.
func split(t *testing.T, address string) (server, name string) {
	t.Helper()
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	name = strings.TrimPrefix(parsed.Path, "/")
	parsed.Path = "/postgres"
	return parsed.String(), name
}

func open(t *testing.T, options postgres.Options) *bun.DB {
	t.Helper()
	db, err := postgres.Open(options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func exec(t *testing.T, db bun.IDB, statement string, args ...any) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statement, args...)
	require.NoError(t, err)
}

func (h *harness) Log() relay.Log                        { return h.log }
func (h *harness) Store() relay.CursorStore              { return h.cursors }
func (h *harness) Parking() relay.Parking                { return h.parking }
func (h *harness) ParkingAdmin() operations.ParkingAdmin { return h.parking }
func (h *harness) Retention() relay.Retention            { return postgres.NewRetention(h.db, relayName) }
func (h *harness) RelayRepair() operations.RelayRepair   { return h.relayAdmin() }
func (h *harness) EventLog() operations.EventLog         { return h.relayAdmin() }
func (h *harness) TTL() time.Duration                    { return leaseTTL }

func (h *harness) Elector(holder string) relay.Elector {
	return postgres.NewElector(h.db, relayName, holder, leaseTTL)
}

func (h *harness) relayAdmin() *postgres.RelayAdmin {
	return postgres.NewRelayAdmin(h.db, relayName, "STREAM")
}

// Advance moves the expiry of the lease back. That has the same effect as a later clock.
func (h *harness) Advance(t *testing.T, by time.Duration) {
	exec(t, h.others, "UPDATE leases SET expires_at = expires_at - ? * interval '1 microsecond'", by.Microseconds())
}

// Age makes the rows of the log older. That has the same effect as a later clock.
func (h *harness) Age(t *testing.T, by time.Duration) {
	rewrite(t, h.others, "recorded_at = recorded_at - ? * interval '1 microsecond'", by.Microseconds())
	exec(t, h.others, "UPDATE outbox_cursor SET passed_at = passed_at - ? * interval '1 microsecond'", by.Microseconds())
	exec(t, h.others, "UPDATE outbox_parked SET changed_at = changed_at - ? * interval '1 microsecond'", by.Microseconds())
}

func (h *harness) Purge(t *testing.T, upTo outbox.Position) {
	exec(t, h.others, `WITH deleted AS (DELETE FROM outbox WHERE position <= ?0)
		INSERT INTO outbox_cursor AS c (relay, position, stream_sequence, purged_to, token, updated_at)
		VALUES (?1, ?0, 0, ?0, 0, now())
		ON CONFLICT (relay) DO UPDATE SET purged_to = greatest(c.purged_to, excluded.purged_to)`, int64(upTo), relayName)
}

func (h *harness) LoseCommits(t *testing.T, after outbox.Position) {
	exec(t, h.others, "DELETE FROM outbox WHERE position > ?", int64(after))
}

func (h *harness) Spoil(t *testing.T, at outbox.Position) {
	exec(t, h.others, "ALTER TABLE outbox DROP CONSTRAINT IF EXISTS outbox_recorded_at_check")
	rewrite(t, h.others, "recorded_at = 'infinity' WHERE position = ?", int64(at))
}

func (h *harness) SetHeaders(t *testing.T, at outbox.Position, headers map[string]string) {
	exec(t, h.others, "ALTER TABLE outbox DROP CONSTRAINT IF EXISTS outbox_headers_at_most_64_kib")
	rewrite(t, h.others, "headers = ? WHERE position = ?", headers, int64(at))
}

// rewrite updates rows of the outbox. It has to work around the schema, which forbids updates.
func rewrite(t *testing.T, db *bun.DB, set string, args ...any) {
	t.Helper()
	require.NoError(t, db.RunInTx(t.Context(), nil, func(_ context.Context, tx bun.Tx) error {
		exec(t, tx, "ALTER TABLE outbox DISABLE TRIGGER outbox_append_only")
		exec(t, tx, "UPDATE outbox SET "+set, args...)
		exec(t, tx, "ALTER TABLE outbox ENABLE TRIGGER outbox_append_only")
		return nil
	}))
}

func (h *harness) SetSequence(t *testing.T, position outbox.Position) {
	exec(t, h.others, "SELECT setval('outbox_position_seq', ?, ?)", max(1, int64(position)), position > 0)
}

func (h *harness) Disconnect(t *testing.T) {
	exec(t, h.admin, "ALTER DATABASE ? WITH ALLOW_CONNECTIONS false", bun.Ident(h.name))
	exec(t, h.admin, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = ? AND application_name = ?",
		h.name, underTest)
}

func (h *harness) Reconnect(t *testing.T) {
	exec(t, h.admin, "ALTER DATABASE ? WITH ALLOW_CONNECTIONS true", bun.Ident(h.name))
}

func (h *harness) Begin(ctx context.Context) (relaytest.LogWriter, error) {
	tx, err := h.others.BeginTx(ctx, nil)
	return &writer{tx}, err
}

// writer inserts as any SQL program could.
type writer struct{ tx bun.Tx }

func (w *writer) Append(ctx context.Context, messages ...outbox.Message) error {
	for _, m := range messages {
		headers := m.Headers
		if headers == nil {
			headers = map[string]string{}
		}
		_, err := w.tx.ExecContext(ctx, `INSERT INTO outbox
			(event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			m.ID, m.Key.Type, m.Key.ID, m.Version, m.Type, m.Subject, headers, string(m.Payload))
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) Commit() error { return w.tx.Commit() }
func (w *writer) Rollback()     { _ = w.tx.Rollback() }
