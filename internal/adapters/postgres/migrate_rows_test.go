package postgres_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// downTo takes the migrations of both sets back down to version.
func downTo(t *testing.T, db *bun.DB, version int64) {
	t.Helper()
	for _, set := range postgres.Sets() {
		for {
			newest, found, err := postgres.NewestMigration(t.Context(), db, quiet, set)
			require.NoError(t, err)
			if !found || newest.Version <= version {
				break
			}
			require.NotEmpty(t, newest.What, newest.Name)
			require.NoError(t, postgres.MigrateDown(t.Context(), db, quiet, set, newest.Version))
		}
	}
}

// insertAs appends an event, with the given value in one column.
func insertAs(t *testing.T, db bun.IDB, aggregate, column, value string) error {
	t.Helper()
	columns := map[string]string{
		"event_id": "gen_random_uuid()", "aggregate_type": "'order'", "aggregate_id": "'" + aggregate + "'", "aggregate_version": "1",
		"event_type": "'test.v1'", "subject": "'orders.test'", "headers": "'{}'", "payload": "'{}'", "recorded_at": "now()",
	}
	columns[column] = value
	var names, values []string
	for name, value := range columns {
		names, values = append(names, name), append(values, value)
	}
	_, err := db.ExecContext(t.Context(), "INSERT INTO outbox ("+strings.Join(names, ", ")+") OVERRIDING SYSTEM VALUE VALUES ("+
		strings.Join(values, ", ")+")")
	return err
}

// documented returns the SQL statements in a section of docs/operations.md.
func documented(t *testing.T, title string) []string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/operations.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(text), "\n### "+title+"\n")
	require.True(t, ok, title)
	section, _, _ = strings.Cut(section, "\n##")
	var statements []string
	for _, block := range strings.Split(section, "```sql\n")[1:] {
		statement, _, _ := strings.Cut(block, "```")
		statements = append(statements, statement)
	}
	require.NotEmpty(t, statements)
	return statements
}

// beforeRows is the last version of the schema that accepts rows which cannot be published.
const beforeRows = 7

// TestMigrationOfRowsThatAreThere checks the upgrade of a log whose rows break the new rules. Rows with unreadable times may
// stay, because the relay parks them. If an event id occurs twice, the migration fails and names the section to follow. After
// the repair, the migration works.
func TestMigrationOfRowsThatAreThere(t *testing.T) {
	h := newHarness(t)
	downTo(t, h.others, beforeRows)
	require.NoError(t, insertAs(t, h.others, "a", "recorded_at", "'infinity'"))
	const twice = "11111111-1111-1111-1111-111111111111"
	require.NoError(t, insertAs(t, h.others, "b", "event_id", "'"+twice+"'"))
	require.NoError(t, insertAs(t, h.others, "c", "event_id", "'"+twice+"'"))
	require.NoError(t, insertAs(t, h.others, "d", "payload", "'1'"))
	require.NoError(t, insertAs(t, h.others, "e", "event_id", "'"+twice+"'"))
	exec(t, h.others, "INSERT INTO outbox_cursor (relay, position, stream_sequence, token, updated_at) VALUES (?, 4, 4, 0, now())", relayName)

	for range 2 { // the first try leaves an invalid index behind
		err := postgres.MigrateUp(t.Context(), h.others, quiet)
		require.ErrorIs(t, err, postgres.ErrDuplicateIDs)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
		require.ErrorContains(t, err, twice)
		require.ErrorContains(t, err, "docs/operations.md")
	}
	require.NoError(t, insertAs(t, h.others, "f", "payload", "'1'"), "writers go on meanwhile")

	for _, statement := range documented(t, "Several rows of one event id") {
		exec(t, h.others, statement)
	}
	require.NoError(t, postgres.MigrateUp(t.Context(), h.others, quiet))
	require.NoError(t, h.log.Check(t.Context()))
	entries := readWhole(t, h)
	require.Len(t, entries, 5)
	for i, want := range []struct {
		position outbox.Position
		key      string
		invalid  bool
	}{{1, "a", true}, {2, "b", false}, {4, "d", false}, {5, "e", false}, {6, "f", false}} {
		require.Equal(t, want.key, entries[i].Key.ID)
		require.Equal(t, want.position, entries[i].Position)
		require.Equal(t, want.invalid, entries[i].Invalid != "")
	}
	require.Equal(t, twice, entries[1].ID, "the first keeps the id")
	require.NotEqual(t, twice, entries[3].ID, "one that is not published yet gets another")
}

// readWhole reads the log to its end.
func readWhole(t *testing.T, h *harness) (all []outbox.Entry) {
	t.Helper()
	for from := (outbox.Progress{}); ; from = all[len(all)-1].Progress() {
		page, err := h.log.After(t.Context(), from, plenty)
		require.NoError(t, err)
		if len(page.Entries) == 0 {
			return all
		}
		all = append(all, page.Entries...)
	}
}

// TestMigrationLetsWritersThrough checks an upgrade while a transaction that has appended stays open. Transactions that append
// after it do not wait for the migration.
func TestMigrationLetsWritersThrough(t *testing.T) {
	h := newHarness(t)
	downTo(t, h.others, beforeRows)
	early := transaction(t, h)
	insert(t, early, "early")
	done := make(chan error, 1)
	go func() { done <- postgres.MigrateUp(t.Context(), h.db, quiet) }()
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		_, err := h.others.ExecContext(ctx, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
			VALUES (gen_random_uuid(), 'order', gen_random_uuid()::text, 1, 't', 'orders.x', '{}')`)
		cancel()
		require.NoError(t, err, "a writer waits for the migration")
		select {
		case err := <-done:
			require.FailNow(t, "the migration did not wait", "%v", err)
		default:
		}
	}
	exec(t, early, "COMMIT")
	require.NoError(t, <-done)
	require.NoError(t, h.log.Check(t.Context()))
}

func TestOutboxIsAppendOnly(t *testing.T) {
	h := newHarness(t)
	insert(t, h.others, "a")
	for _, statement := range []string{
		"UPDATE outbox SET payload = '1'",
		"UPDATE outbox SET payload = '1' WHERE false",
		"INSERT INTO outbox OVERRIDING SYSTEM VALUE SELECT * FROM outbox WHERE false ON CONFLICT (event_id) DO UPDATE SET payload = '1'",
		"MERGE INTO outbox USING (SELECT 1) AS one ON true WHEN MATCHED THEN UPDATE SET payload = '1'",
	} {
		_, err := h.others.ExecContext(t.Context(), statement)
		require.ErrorContains(t, err, "append-only", statement)
	}
	exec(t, h.others, "SELECT FROM outbox FOR UPDATE")
	exec(t, h.others, "INSERT INTO outbox OVERRIDING SYSTEM VALUE SELECT * FROM outbox ON CONFLICT DO NOTHING")
	exec(t, h.others, "DELETE FROM outbox")
}

func TestOutboxTakesOnlyWhatCanBeRelayed(t *testing.T) {
	h := newHarness(t)
	for _, refused := range []struct{ column, value, constraint string }{
		{"recorded_at", "'infinity'", "outbox_recorded_at_check"},
		{"recorded_at", "'-infinity'", "outbox_recorded_at_check"},
		{"recorded_at", "'294276-12-31'", "outbox_recorded_at_check"},
		{"recorded_at", "'10000-01-01'", "outbox_recorded_at_check"},
		{"recorded_at", "'4713-01-01 BC'", "outbox_recorded_at_check"},
		{"recorded_at", "'0001-01-01 BC'", "outbox_recorded_at_check"},
		{"position", "0", "outbox_position_check"},
		{"position", "-1", "outbox_position_check"},
		{"aggregate_version", "0", "outbox_aggregate_version_check"},
	} {
		require.ErrorContains(t, insertAs(t, h.others, "a", refused.column, refused.value), refused.constraint, refused.value)
	}
	for i, taken := range []string{"'9999-12-30 23:59:59.999999+00'", "'0001-01-02 00:00:00+00'"} {
		require.NoError(t, insertAs(t, h.others, string(rune('a'+i)), "recorded_at", taken))
	}
	require.NoError(t, insertAs(t, h.others, "x", "event_id", "'11111111-1111-1111-1111-111111111111'"))
	require.ErrorContains(t, insertAs(t, h.others, "y", "event_id", "'11111111-1111-1111-1111-111111111111'"), "outbox_event_id")
}
