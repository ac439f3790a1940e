package e2e_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// oddRows are values, as SQL, that a writer can put into one column of the outbox once the checks are dropped. Those with a
// reason are parked for it. Subscribers get the others, exactly as they were recorded.
var oddRows = []struct{ column, value, parked string }{
	{"recorded_at", "'infinity'", "its recorded_at is infinite or outside of the years 1 to 9999"},
	{"recorded_at", "'-infinity'", "its recorded_at is infinite"},
	{"recorded_at", "'294276-12-31'", "its recorded_at is infinite"},
	{"recorded_at", "'10000-01-01'", "its recorded_at is infinite"},
	{"recorded_at", "'4713-01-01 BC'", "its recorded_at is infinite"},
	{"recorded_at", "'9999-12-30 23:59:59.999999+00'", ""},
	{"recorded_at", "'0001-01-02 00:00:00+00'", ""},
	{"event_id", "'00000000-0000-0000-0000-000000000000'", ""},
	{"event_type", "''", "it has no event type"},
	{"event_type", "E'\\u0001 100% \"ünï\"\\n日本'", ""},
	{"event_type", "repeat('x', 70000)", "its event type takes 70000 bytes"},
	{"aggregate_type", "''", "it has no aggregate"},
	{"aggregate_type", "E'a/b\\r\\nNats-Msg-Id: 1'", ""},
	{"aggregate_id", "''", "it has no aggregate"},
	{"aggregate_id", "repeat('ü', 40000)", "its aggregate id takes 80000 bytes"},
	{"aggregate_version", "0", "the version of its aggregate is below 1"},
	{"aggregate_version", "-1", "the version of its aggregate is below 1"},
	{"aggregate_version", "9223372036854775807", ""},
	{"subject", "''", "is not valid"},
	{"subject", "'orders.*'", "is not valid"},
	{"subject", "'orders..a'", "is not valid"},
	{"subject", "'orders.a b'", "is not valid"},
	{"subject", "E'orders.a\\r\\nPUB x 1'", "is not valid"},
	{"subject", "'orders'", "is not one of stream"},
	{"subject", "'_INBOX.x'", "is not one of stream"},
	{"subject", "'outboxie.ORDERS.notices'", "is reserved for the relay's control messages"},
	{"subject", "'orders.' || repeat('x', 3000)", "is longer than"},
	{"subject", "'orders.ünï.日本'", ""},
	{"headers", `'{"a": 1}'`, "its headers are not an object of strings"},
	{"headers", `'["a"]'`, "its headers are not an object of strings"},
	{"headers", `'"a"'`, "its headers are not an object of strings"},
	{"headers", `'{"": "x"}'`, "has a name that NATS does not send"},
	{"headers", `'{"a b": "x"}'`, "has a name that NATS does not send"},
	{"headers", `'{"ü": "x"}'`, "has a name that NATS does not send"},
	{"headers", `'{"a\r\nNats-Msg-Id": "x"}'`, "has a name that NATS does not send"},
	{"headers", `'{"a": "x\ny"}'`, "has a line break"},
	{"headers", `'{"a": "x\rNats-Rollup: all"}'`, "has a line break"},
	{"headers", `jsonb_build_object('a', repeat('x', 70000))`, "its headers take"},
	{"headers", `'{"a": "\u0001\u007f\u0085\t-", "b": "日本 \"\\ "}'`, ""},
	{"headers", `'{"x-a": "1", "X-A": "2", "empty": "", "Status": "503", "traceparent": "none"}'`, ""},
	{"payload", `'null'`, ""},
	{"payload", `E' \n{"b" :1,\t"a": 1.50, "a": 2}\n'`, ""},
	{"payload", `'"\ud800 \u0000 \udc00"'`, ""},
	{"payload", `'[1e999999, -0, 1e-999999]'`, ""},
	{"payload", `(repeat('[', 3000) || repeat(']', 3000))::json`, ""},
	{"payload", "to_json(repeat('x', 1200000))", "the broker takes at most"},
}

// insertOdd appends an event of an aggregate of its own, with another value in one column, and returns its position.
func insertOdd(t *testing.T, db *sql.DB, aggregate, column, value string) (position int64) {
	t.Helper()
	columns := map[string]string{
		"event_id": "gen_random_uuid()", "aggregate_type": "'odd'", "aggregate_id": "'" + aggregate + "'", "aggregate_version": "1",
		"event_type": "'odd.v1'", "subject": "'orders.odd'", "payload": "'{}'",
	}
	columns[column] = value
	var names, values []string
	for name, value := range columns {
		names, values = append(names, name), append(values, value)
	}
	err := db.QueryRow("INSERT INTO outbox (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(values, ", ") + ") RETURNING position").Scan(&position)
	require.NoError(t, err, "%s %.60s", column, value)
	return position
}

// allowOdd drops the constraints that refuse odd rows.
func allowOdd(t *testing.T, db *sql.DB) {
	t.Helper()
	for _, check := range []string{
		"outbox_recorded_at_check", "outbox_aggregate_version_check", "outbox_headers_check", "outbox_aggregate_type_at_most_255_bytes",
		"outbox_aggregate_id_at_most_1024_bytes", "outbox_event_type_at_most_255_bytes", "outbox_subject_at_most_2048_bytes",
		"outbox_headers_at_most_64_kib", "outbox_payload_at_most_64_mib",
	} {
		_, err := db.Exec("ALTER TABLE outbox DROP CONSTRAINT " + check)
		require.NoError(t, err)
	}
}

// TestRowsThatCannotBeRelayed checks that the oddest values of every column, written by plain SQL before the schema refused them, hold up
// no other order: each row is delivered as recorded, or parked with the reason.
func TestRowsThatCannotBeRelayed(t *testing.T) {
	db, broker, environment, instance := serveOdd(t)
	want := make(map[int64]string)
	parked := 0
	for i, odd := range oddRows {
		want[insertOdd(t, db, fmt.Sprint(i), odd.column, odd.value)] = odd.parked
		if odd.parked != "" {
			parked++
		}
	}
	placeMany(t, instance.API(), 3)
	const orders = 3
	require.Eventually(t, func() bool { return published(t, broker) == uint64(len(oddRows)+orders) }, waitTimeout, tick, "one message or notice for each")

	reasons := make(map[int64]string)
	rows, err := db.Query("SELECT position, reason FROM outbox_parked WHERE state = 'parked'")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var position int64
		var reason string
		require.NoError(t, rows.Scan(&position, &reason))
		reasons[position] = reason
	}
	require.NoError(t, rows.Err())
	require.Len(t, reasons, parked)
	delivered := deliver(t, broker, len(oddRows)+orders-parked)
	for position, reason := range want {
		if reason != "" {
			require.Contains(t, reasons[position], reason)
			continue
		}
		requireRecorded(t, db, delivered[position], position)
	}
	requireShown(t, environment, parked)
}

// deliver reads the stream as a subscriber does, and requires this number of events.
func deliver(t *testing.T, broker string, events int) map[int64]outbox.Entry {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	nc, err := jetstream.Connect(jetstream.Options{URL: broker, Name: t.Name(), Logger: quiet})
	require.NoError(t, err)
	defer nc.Close()
	reader, err := jetstream.NewReader(nc, jetstream.ReaderOptions{Stream: "ORDERS", Subjects: "orders.>", Subscriber: "reader", Logger: quiet})
	require.NoError(t, err)
	defer reader.Close()
	messages, err := reader.Read(t.Context(), 1, inbox.ReadLimit{Count: 1000, Bytes: 64 << 20})
	require.NoError(t, err)
	delivered := make(map[int64]outbox.Entry)
	for _, message := range messages {
		if message.Event == nil { // a control message
			continue
		}
		require.NoError(t, message.Event.Unreadable, "an event was published that no subscriber can read")
		delivered[int64(message.Event.Position)] = message.Event.Entry
	}
	require.Len(t, delivered, events)
	return delivered
}

// requireRecorded compares an event that was delivered with its row.
func requireRecorded(t *testing.T, db *sql.DB, got outbox.Entry, position int64) {
	t.Helper()
	want := outbox.Entry{Position: outbox.Position(position)}
	var headers, payload string
	var micros int64
	require.NoError(t, db.QueryRow(`SELECT event_id, event_type, subject, aggregate_type, aggregate_id, aggregate_version, headers::text, payload::text,
		(extract(epoch FROM recorded_at) * 1000000)::bigint FROM outbox WHERE position = $1`, position).
		Scan(&want.ID, &want.Type, &want.Subject, &want.Key.Type, &want.Key.ID, &want.Version, &headers, &payload, &micros))
	require.NoError(t, json.Unmarshal([]byte(headers), &want.Headers))
	for name, value := range want.Headers {
		want.Headers[name] = strings.Trim(value, " ") // NATS drops spaces at both ends
	}
	if len(want.Headers) == 0 {
		want.Headers = nil
	}
	want.Payload, want.RecordedAt = []byte(payload), time.UnixMicro(micros).UTC()
	got.RecordedAt = got.RecordedAt.UTC()
	require.Equal(t, want, got)
}

// requireShown asks each command that shows events or counts them.
func requireShown(t *testing.T, environment []string, parked int) {
	t.Helper()
	for _, show := range []struct {
		says string
		args []string
	}{
		{fmt.Sprintf("%d events", parked), []string{"outbox", "status"}},
		{fmt.Sprintf("%d events", parked), []string{"outbox", "parked"}},
		{"its recorded_at is infinite", []string{"outbox", "parked", "--json"}},
		{"unknown", []string{"outbox", "list", "--limit", "100"}},
		{"its recorded_at is infinite", []string{"outbox", "list", "--limit", "100", "--json"}},
		{"unknown", []string{"outbox", "discard", "--position", "1"}},
	} {
		said, err := infra.Outboxie(t, environment, show.args...)
		if show.args[1] != "discard" { // which asks for --yes
			require.NoError(t, err, "%v", show.args)
		}
		require.Contains(t, said, show.says, "%v", show.args)
	}
}

// TestAnOddRowIsRepaired checks that an event with a time that cannot be written is parked, shown by the API, redriven in vain, and
// published after the correction in docs/operations.md; another one is discarded.
func TestAnOddRowIsRepaired(t *testing.T) {
	db, broker, environment, instance := serveOdd(t)
	order, err := infra.Place(instance.API())
	require.NoError(t, err)
	_, err = db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload, recorded_at)
		VALUES (gen_random_uuid(), 'order', $1, 2, 'outboxie.order.paid.v1', 'orders.paid', '{}', 'infinity'),
			(gen_random_uuid(), 'order', $1, 3, 'outboxie.order.shipped.v1', 'orders.shipped', '{}', now())`, order.ID)
	require.NoError(t, err)
	insertOdd(t, db, "unwanted", "recorded_at", "'-infinity'")
	placeMany(t, instance.API(), 1)
	require.Eventually(t, func() bool { return published(t, broker) == 4 }, waitTimeout, tick, "an order, two notices, and another order")

	events, err := infra.Client{Address: instance.API()}.OrderEvents(t.Context(), order.ID)
	require.NoError(t, err)
	require.Len(t, events, 3)
	require.Equal(t, "parked", events[1].Delivery)
	require.Contains(t, events[1].Reason, "its recorded_at is infinite")

	run := func(args ...string) {
		t.Helper()
		said, err := infra.Outboxie(t, environment, append([]string{"outbox"}, args...)...)
		require.NoError(t, err, said)
	}
	run("redrive", "--all")
	require.Eventually(t, func() bool { return strings.Count(instance.String(), "parked again") == 2 }, waitTimeout, tick)
	run("discard", "--position", "4", "--yes")
	_, err = db.Exec(strings.ReplaceAll(documented(t, "A parked row that has to be corrected"), "position = 42", "position = 2"))
	require.NoError(t, err)
	run("redrive", "--aggregate", "order/"+order.ID)
	require.Eventually(t, func() bool { return published(t, broker) == 8 }, waitTimeout, tick)
	require.Equal(t, []string{"1", "", "", "5", "", "", "2", "3"}, streamPositions(t, broker), "each refusal has a notice of its own")
	said, err := infra.Outboxie(t, environment, "outbox", "status")
	require.NoError(t, err)
	require.Contains(t, said, "relaying")
	require.Regexp(t, `(?m)^ *parked +none$`, said)
}

// documented returns the statement that a section of docs/operations.md tells operators to run.
func documented(t *testing.T, title string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(text), "\n### "+title+"\n")
	require.True(t, ok, title)
	_, section, _ = strings.Cut(section, "```sql\n")
	statement, _, ok := strings.Cut(section, "```")
	require.True(t, ok, title)
	return statement
}

// serveOdd starts an instance on a database whose schema takes odd rows, and waits for the stream.
func serveOdd(t *testing.T) (db *sql.DB, broker string, environment []string, instance *infra.Process) {
	t.Helper()
	database, broker := infra.Database(t), infra.Broker(t)
	environment = []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=1s"}
	db = openDB(t, database)
	allowOdd(t, db)
	instance = infra.Serve(t, "app", environment)
	instance.WaitFor("created the stream")
	return db, broker, environment, instance
}
