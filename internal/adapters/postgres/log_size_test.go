package postgres_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// sizeConstraints refuse values that are too large to be published. Databases of earlier versions have no such constraints, and
// may hold such rows.
var sizeConstraints = []string{
	"outbox_aggregate_type_at_most_255_bytes", "outbox_aggregate_id_at_most_1024_bytes", "outbox_event_type_at_most_255_bytes",
	"outbox_subject_at_most_2048_bytes", "outbox_headers_at_most_64_kib", "outbox_payload_at_most_64_mib",
}

func dropSizeConstraints(t *testing.T, db *bun.DB) {
	t.Helper()
	for _, name := range sizeConstraints {
		exec(t, db, "ALTER TABLE outbox DROP CONSTRAINT ?", bun.Ident(name))
	}
}

const (
	megabyte = 1 << 20
	// noise is SQL for a JSON text of n*32+2 bytes that hardly compresses.
	noise = "(SELECT to_json(string_agg(md5(n::text), '')) FROM generate_series(1, %d) AS n)"
)

// largeRows are values, as SQL, that earlier versions of the schema allowed. reason is why the relay parks the row if the
// broker's limit is 1 MiB. size is the least number of bytes that reading the value would allocate, or 0 if the value is small.
var largeRows = []struct {
	name, column, value, reason string
	size                        int
}{
	{
		"a payload that compresses", "payload", "(SELECT to_json(string_agg(md5(n::text) || repeat('x', 100), '')) FROM generate_series(1, 150000) AS n)",
		"its payload takes more than ", 18 * megabyte,
	},
	{"a payload of which that is not known", "payload", fmt.Sprintf("to_json(repeat('x', %d))", 8*megabyte), "its payload takes 8388610 bytes", 8 * megabyte},
	{"a payload that does not compress", "payload", fmt.Sprintf(noise, megabyte/2), "its payload takes 16777218 bytes", 16 * megabyte},
	{"a payload just too large", "payload", fmt.Sprintf("to_json(repeat('x', %d))", megabyte-1), "its payload takes 1048577 bytes", megabyte},
	{"a payload that just fits", "payload", fmt.Sprintf("to_json(repeat('x', %d))", megabyte-2), "", 0},
	{"a payload that fits and does not compress", "payload", fmt.Sprintf(noise, 32760), "", 0},
	{"headers that compress", "headers", fmt.Sprintf("jsonb_build_object('a', repeat('x', %d))", 32*megabyte), "its headers take more than ", 32 * megabyte},
	{"headers of which that is not known", "headers", fmt.Sprintf("jsonb_build_object('a', repeat('x', %d))", 2*megabyte), "its headers take 2097161 bytes", 2 * megabyte},
	{"headers that do not compress", "headers", fmt.Sprintf("jsonb_build_object('a', "+noise+")", megabyte/16), "its headers take 2097", 2 * megabyte},
	{"headers that fit", "headers", "jsonb_build_object('a', repeat('x', 60000))", "", 0},
	{"headers that fit, and are longer as JSON", "headers", "jsonb_build_object('a', repeat(E'\\u0001', 60000))", "", 0},
	{"an event type", "event_type", fmt.Sprintf("repeat('x', %d)", 16*megabyte), "its event type takes 16777216 bytes", 16 * megabyte},
	{"a subject", "subject", fmt.Sprintf("repeat('ü', %d)", 8*megabyte), "its subject takes 16777216 bytes", 16 * megabyte},
	{"an aggregate id", "aggregate_id", "repeat('x', 200000)", "its aggregate id takes 200000 bytes", 0},
	{"an aggregate type", "aggregate_type", "repeat('x', 200000)", "its aggregate type takes 200000 bytes", 0},
	{"texts of more than the schema takes", "aggregate_id", "repeat('x', 4096)", "", 0},
}

// allocated returns how many bytes do allocates in total, also those that are freed again.
func allocated(do func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// TestWhatCanNeverBePublishedIsNotRead checks rows that are older than the size constraints, on every way in which the program
// reads the log. Values that are too large, compressed or not, are not loaded into memory. The reason names their size.
func TestWhatCanNeverBePublishedIsNotRead(t *testing.T) {
	h := newHarness(t)
	dropSizeConstraints(t, h.others)
	for _, compression := range []string{"pglz", "lz4"} {
		t.Run(compression, func(t *testing.T) {
			single := open(t, postgres.Options{URL: h.address, MaxOpenConns: 1})
			if _, err := single.ExecContext(t.Context(), "SET default_toast_compression = ?", bun.Safe(compression)); err != nil {
				t.Skipf("this server cannot compress with %s: %v", compression, err)
			}
			exec(t, single, "TRUNCATE outbox")
			log, from := postgres.NewLog(h.db, relayName, quiet), outbox.Progress{}
			for i, row := range largeRows {
				require.NoError(t, insertAs(t, single, fmt.Sprint(compression, i), row.column, row.value), row.name)
				var entries []outbox.Entry
				used := allocated(func() {
					page, err := log.After(t.Context(), from, relay.ReadLimit{Count: 100, Bytes: 4 * megabyte, Largest: megabyte})
					require.NoError(t, err, row.name)
					entries = page.Entries
				})
				require.Len(t, entries, 1, row.name)
				require.Equal(t, row.reason == "", entries[0].Invalid == "", "%s: %s", row.name, entries[0].Invalid)
				require.Contains(t, entries[0].Invalid, row.reason, row.name)
				if row.reason != "" && row.size > 0 {
					require.Less(t, used, row.size/2, row.name)
				}
				from = entries[0].Progress()
			}
			requireListedSmall(t, h)
		})
	}
}

// requireListedSmall checks that no value that is too large is loaded into memory: not by a list of the log, with or without
// payloads, and not by reads of the parking lot.
func requireListedSmall(t *testing.T, h *harness) {
	t.Helper()
	const enough = 12 * megabyte // enough for several copies of the values that fit, but too little for one value that does not fit
	for _, payloads := range []bool{false, true} {
		var found []operations.ListedEvent
		used := allocated(func() {
			var err error
			found, err = h.relayAdmin().List(t.Context(), operations.EventFilter{Limit: 100, Payloads: payloads})
			require.NoError(t, err)
		})
		require.Len(t, found, len(largeRows))
		require.Less(t, used, enough)
		for i, item := range found {
			row := largeRows[len(largeRows)-1-i]
			require.NotEmpty(t, item.Type, row.name)
			require.NotEmpty(t, item.Subject, row.name)
			require.NotEmpty(t, item.Key.Type+item.Key.ID, row.name)
			require.Less(t, len(item.Type)+len(item.Subject)+len(item.Key.String()), 9000, row.name)
			if row.column != "payload" && row.reason != "" {
				require.Contains(t, item.Invalid, row.reason, row.name)
			}
			if row.column == "payload" && row.reason != "" && payloads {
				require.NotEmpty(t, item.Omitted, row.name)
			}
		}
	}
	exec(t, h.others, "TRUNCATE outbox_parked")
	exec(t, h.others, `INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state)
		SELECT position, event_id, aggregate_type, aggregate_id, event_type, 'too large', 'redrive' FROM outbox`)
	for i := range largeRows {
		var due []outbox.Entry
		used := allocated(func() {
			waiting, err := h.parking.Waiting(t.Context(), 100)
			require.NoError(t, err)
			require.Len(t, waiting, len(largeRows)-i)
			due, _, err = h.parking.Due(t.Context(), 1<<40, relay.ReadLimit{Count: 100, Bytes: 4 * megabyte, Largest: megabyte})
			require.NoError(t, err)
		})
		require.Len(t, due, 1)
		require.Less(t, used, enough, largeRows[i].name)
		require.Equal(t, largeRows[i].reason == "", due[0].Invalid == "", largeRows[i].name)
		require.Contains(t, due[0].Invalid, largeRows[i].reason, largeRows[i].name)
		exec(t, h.others, "DELETE FROM outbox_parked WHERE position = ?", int64(due[0].Position))
	}
}

// TestOutboxTakesNothingTooLarge checks that the schema refuses values that are one byte larger than the domain allows, and
// that the error names the limit.
func TestOutboxTakesNothingTooLarge(t *testing.T) {
	h := newHarness(t)
	fits := map[string]string{
		"aggregate_type": "repeat('x', 255)", "aggregate_id": "repeat('x', 1024)", "event_type": "repeat('x', 255)",
		"subject": "'orders.' || repeat('x', 2041)", "headers": "jsonb_build_object('a', repeat('x', 65519))",
	} // without the largest payload, which takes seconds to store
	tooLarge := map[string]string{
		"aggregate_type": "repeat('x', 256)", "aggregate_id": "repeat('x', 1025)", "event_type": "repeat('x', 256)",
		"subject": "'orders.' || repeat('x', 2042)", "headers": "jsonb_build_object('a', repeat('x', 65520))",
		"payload": fmt.Sprintf("to_json(repeat('x', %d))", outbox.MaxPayload-1),
	}
	for column, value := range tooLarge {
		require.ErrorContains(t, insertAs(t, h.others, "a "+column, column, value), "outbox_"+column+"_at_most_")
		if fits[column] == "" {
			continue
		}
		require.NoError(t, insertAs(t, h.others, "a "+column, column, fits[column]))
	}
}

// TestOutboxTakesNothingTooLargeFromATable checks values that are copied, compressed, from another table. The constraints must
// use their real size, not their stored size.
func TestOutboxTakesNothingTooLargeFromATable(t *testing.T) {
	h := newHarness(t)
	exec(t, h.others, "CREATE TABLE staging (payload json, headers jsonb)")
	exec(t, h.others, "INSERT INTO staging VALUES (to_json(repeat('x', ?)), jsonb_build_object('a', repeat('x', 65520)))", outbox.MaxPayload-1)
	for _, column := range []string{"payload", "headers"} {
		value := "(SELECT " + column + " FROM staging)"
		require.ErrorContains(t, insertAs(t, h.others, "a "+column, column, value), "outbox_"+column+"_at_most_")
	}
	exec(t, h.others, "UPDATE staging SET payload = to_json(repeat('x', ?)), headers = jsonb_build_object('a', repeat('x', 65519))", 1<<20)
	for _, column := range []string{"payload", "headers"} {
		require.NoError(t, insertAs(t, h.others, "a "+column, column, "(SELECT "+column+" FROM staging)"))
	}
}

// TestSchemaTakesWhatTheDomainTakes checks that the schema accepts messages of the largest sizes that the domain allows, except
// for the payload.
func TestSchemaTakesWhatTheDomainTakes(t *testing.T) {
	h := newHarness(t)
	message := outbox.Message{
		ID: "11111111-1111-1111-1111-111111111111", Type: strings.Repeat("t", outbox.MaxType), Subject: strings.Repeat("s", outbox.MaxSubject),
		Key:     outbox.Key{Type: strings.Repeat("t", outbox.MaxAggregateType), ID: noisyText(outbox.MaxAggregateID)},
		Version: 1, Headers: map[string]string{}, Payload: []byte(`{}`),
	}
	for i := range 100 {
		message.Headers[fmt.Sprint("name-", i)] = strings.Repeat(`"`, 600)
	}
	message.Headers["rest"] = ""
	message.Headers["rest"] = strings.Repeat("x", outbox.MaxHeaders-8-outbox.HeadersSize(message.Headers))
	require.NoError(t, message.Validate())
	writer, err := h.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, writer.Append(t.Context(), message))
	require.NoError(t, writer.Commit())
	page, err := h.log.After(t.Context(), outbox.Progress{}, plenty)
	require.NoError(t, err)
	require.Len(t, page.Entries, 1)
	require.Equal(t, message, page.Entries[0].Message)
}

// noisyText returns text that hardly compresses.
func noisyText(size int) string {
	var text strings.Builder
	for state := uint64(88172645463325252); text.Len() < size; {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		text.WriteByte(byte('!' + state%90))
	}
	return text.String()
}

// TestRealignNamesAnEventThatTheSchemaRefuses checks a repair that has to move an event which is older than a constraint and
// breaks it. The event cannot be inserted again, so the error names it. After the event is corrected, the repair works.
func TestRealignNamesAnEventThatTheSchemaRefuses(t *testing.T) {
	h := newHarness(t)
	const constraint = "outbox_event_type_at_most_255_bytes"
	exec(t, h.others, "ALTER TABLE outbox DROP CONSTRAINT ?", bun.Ident(constraint))
	require.NoError(t, insertAs(t, h.others, "a", "event_type", "repeat('x', 256)"))
	exec(t, h.others, "ALTER TABLE outbox ADD CONSTRAINT ? CHECK (octet_length(event_type) <= 255) NOT VALID", bun.Ident(constraint))
	exec(t, h.others, "INSERT INTO outbox_cursor (relay, position, stream_sequence, purged_to, token, updated_at) VALUES (?, 4, 4, 4, 0, now())", relayName)
	var id string
	require.NoError(t, h.others.NewRaw("SELECT event_id FROM outbox").Scan(t.Context(), &id))

	_, err := h.relayAdmin().Realign(t.Context(), operations.Realignment{Position: 4})
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	require.ErrorContains(t, err, id)
	require.ErrorContains(t, err, constraint)
	require.ErrorContains(t, err, "docs/operations.md")

	exec(t, h.others, `WITH gone AS (DELETE FROM outbox RETURNING *)
		INSERT INTO outbox OVERRIDING SYSTEM VALUE SELECT position, event_id, aggregate_type, aggregate_id, aggregate_version, 'test.v1', subject,
			headers, payload, recorded_at FROM gone`)
	moved, err := h.relayAdmin().Realign(t.Context(), operations.Realignment{Position: 4})
	require.NoError(t, err)
	require.EqualValues(t, 1, moved)
}
