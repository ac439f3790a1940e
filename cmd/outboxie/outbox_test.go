package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/test/infra"
)

const (
	orderA = "01a208ab-0000-7000-8000-00000000000a"
	orderB = "01a208ab-0000-7000-8000-00000000000b"
)

// operators is a database that the commands look at.
type operators struct {
	*testing.T
	address string
	db      *bun.DB
}

func newOperators(t *testing.T) *operators {
	t.Helper()
	o := &operators{T: t, address: infra.Database(t)}
	db, err := postgres.Open(postgres.Options{URL: o.address, ApplicationName: "billing"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	o.db = db
	return o
}

func (o *operators) exec(statement string, args ...any) {
	o.Helper()
	_, err := o.db.ExecContext(o.Context(), statement, args...)
	require.NoError(o, err)
}

// rewrite updates rows of the outbox. The schema forbids that, so rewrite disables the trigger.
func (o *operators) rewrite(set string) {
	o.Helper()
	require.NoError(o, o.db.RunInTx(o.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.ExecContext(ctx, "ALTER TABLE outbox DISABLE TRIGGER outbox_append_only; UPDATE outbox SET "+set+
			"; ALTER TABLE outbox ENABLE TRIGGER outbox_append_only")
		return err
	}))
}

// record appends an event to the log. The first event is at position 1.
func (o *operators) record(db bun.IDB, id string, version int, event string) {
	o.Helper()
	_, err := db.ExecContext(o.Context(), `
		INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload)
		VALUES (gen_random_uuid(), 'order', ?, ?, ?, 'orders.x', '{"traceparent": "00-1"}', '{"b": 1.50, "a": 2}')`, id, version, event)
	require.NoError(o, err)
}

// five records three events of one order and two of another. The relay has published the first event. The time of its cursor is in the
// future, so the relay does not look stuck in a slow test.
func (o *operators) five() {
	o.Helper()
	for version := range 3 {
		o.record(o.db, orderA, version+1, "outboxie.order.created.v1")
	}
	for version := range 2 {
		o.record(o.db, orderB, version+1, "outboxie.order.paid.v1")
	}
	o.exec(`INSERT INTO outbox_cursor (relay, position, stream, stream_created, stream_sequence, token, revision, updated_at)
		VALUES ('ORDERS', 1, 'ORDERS', 'x', 7, 3, 9, clock_timestamp() + interval '1 hour')`)
}

func (o *operators) lead() {
	o.Helper()
	o.exec(`INSERT INTO leases (name, holder, token, acquired_at, expires_at)
		VALUES ('ORDERS', 'api-1', 3, now() - interval '3 hours 12 minutes', now() + interval '1 hour')`)
}

func (o *operators) park(position int, reason string) {
	o.Helper()
	o.exec(`INSERT INTO outbox_parked (position, event_id, aggregate_type, aggregate_id, event_type, reason, state, parked_at)
		SELECT position, event_id, aggregate_type, aggregate_id, event_type, ?, 'parked', now() - interval '3 minutes 12 seconds'
		FROM outbox WHERE position = ?`, reason, position)
}

func (o *operators) state(position int) (state string) {
	o.Helper()
	require.NoError(o, o.db.NewRaw("SELECT state FROM outbox_parked WHERE position = ?", position).Scan(o.Context(), &state))
	return state
}

// run runs a command, requires an exit code, and returns the whole output.
func (o *operators) run(code int, args ...string) string {
	o.Helper()
	got, stdout, stderr := command(o.T, []string{"DATABASE_URL=" + o.address}, append([]string{"outbox"}, args...)...)
	require.Equal(o, code, got, stdout+stderr)
	return stdout + withoutAudit(stderr)
}

// read runs a command with --json and decodes its answer.
func (o *operators) read(into any, args ...string) {
	o.Helper()
	decoder := json.NewDecoder(strings.NewReader(o.run(exitClean, append(args, "--json")...)))
	decoder.DisallowUnknownFields()
	require.NoError(o, decoder.Decode(into))
}

func TestOutboxList(t *testing.T) {
	o := newOperators(t)
	require.Equal(t, "No such events.\n", o.run(exitClean, "list"))
	list := []httpapi.OutboxEvent{}
	o.read(&list, "list")
	require.NotNil(t, list)
	require.Empty(t, list)

	o.five()
	o.park(4, "too large")
	o.rewrite("recorded_at = recorded_at - interval '2 hours' WHERE position <= 2")
	said := o.run(exitClean, "list")
	lines := strings.Split(said, "\n")
	require.Regexp(t, `^POSITION +RECORDED +AGE +STATE +TYPE +VERSION +AGGREGATE +EVENT$`, lines[0])
	require.Regexp(t, `^5 +\S+Z +\d+s +unpublished +outboxie.order.paid.v1 +2 +order/`+orderB+` +[0-9a-f-]{36}$`, lines[1])
	require.Regexp(t, `^4 +\S+ +\d+s +parked `, lines[2])
	require.Regexp(t, `^1 +\S+ +2h0m +published +outboxie.order.created.v1 +1 `, lines[5])
	require.Len(t, lines, 7)
	require.Contains(t, o.run(exitClean, "list", "--limit=2"), "These are the newest 2")

	positions := func(args ...string) (found []int64) {
		var list []httpapi.OutboxEvent
		o.read(&list, append([]string{"list"}, args...)...)
		for _, listed := range list {
			found = append(found, listed.Position)
		}
		return found
	}
	require.Equal(t, []int64{5, 4}, positions("--order", strings.ToUpper(orderB)))
	require.Equal(t, []int64{5, 4}, positions("--order", "order/"+orderB))
	require.Empty(t, positions("--order", "voucher/"+orderB))
	require.Equal(t, []int64{3, 2, 1}, positions("--type", "outboxie.order.created.v1"))
	require.Equal(t, []int64{5, 4, 3}, positions("--since", "1h"))
	require.Equal(t, []int64{5, 4, 3}, positions("--since", time.Now().Add(-time.Hour).Format(time.RFC3339)))
	require.Equal(t, []int64{5, 3, 2}, positions("--state", "unpublished"))
	require.Equal(t, []int64{4}, positions("--state", "parked"))
	require.Equal(t, []int64{1}, positions("--state", "published"))
	require.Empty(t, positions("--state", "misplaced", "--order", orderB))
	require.Equal(t, []int64{5}, positions("--limit", "1"))

	o.read(&list, "list", "--order", orderB)
	require.Equal(t, httpapi.OutboxEvent{
		Position: 4, EventID: list[1].EventID, State: "parked", Reason: list[1].Reason, AggregateType: "order", AggregateID: orderB, AggregateVersion: 1,
		Type: "outboxie.order.paid.v1", Subject: "orders.x", RecordedAt: list[1].RecordedAt, Headers: &map[string]string{"traceparent": "00-1"},
		Payload: list[1].Payload,
	}, list[1])
	require.Equal(t, "too large", *list[1].Reason)
	require.JSONEq(t, `{"b": 1.50, "a": 2}`, string(list[1].Payload))
	require.Equal(t, time.UTC, list[1].RecordedAt.Location())
}

func TestOutboxParked(t *testing.T) {
	o := newOperators(t)
	require.Equal(t, "Nothing is parked.\n", o.run(exitClean, "parked"))
	var shown httpapi.ParkedEvents
	o.read(&shown, "parked")
	require.Equal(t, httpapi.ParkedEvents{Events: []httpapi.ParkedEvent{}}, shown)

	o.five()
	o.park(2, "too\nlarge")
	o.park(3, "behind position 2 of the same aggregate")
	o.park(5, "no subject")
	said := o.run(exitClean, "parked")
	lines := strings.Split(said, "\n")
	require.Regexp(t, `^POSITION +PARKED +STATE +TYPE +AGGREGATE +EVENT +REASON$`, lines[0])
	require.Regexp(t, `^2 +3m\d+s ago +parked +outboxie.order.created.v1 +order/`+orderA+` +[0-9a-f-]{36} +too large$`, lines[1])
	require.Contains(t, said, "\n3 events of 2 aggregates waiting in all.\n")
	require.Contains(t, said, "outboxie outbox redrive")
	require.Contains(t, said, "outboxie outbox discard")
	require.Contains(t, o.run(exitClean, "parked", "--limit", "1"), "3 events of 2 aggregates waiting in all. Not shown: 2 (--limit).")

	o.read(&shown, "parked", "--limit", "1")
	require.Len(t, shown.Events, 1)
	event := shown.Events[0]
	require.Equal(t, httpapi.ParkedEvents{Waiting: 3, Aggregates: 2, Events: []httpapi.ParkedEvent{{
		Position: 2, EventID: event.EventID, AggregateType: "order", AggregateID: orderA, Type: "outboxie.order.created.v1",
		State: "parked", Reason: "too\nlarge", ParkedAt: event.ParkedAt, ChangedAt: event.ChangedAt,
	}}}, shown)
	require.Equal(t, time.UTC, event.ParkedAt.Location())
}

func TestOutboxRedrive(t *testing.T) {
	o := newOperators(t)
	require.Contains(t, o.run(exitClean, "redrive", "--all"), "Nothing is parked.")
	o.five()
	o.park(2, "too large")
	o.park(3, "behind it")
	o.park(4, "too large")
	require.Contains(t, o.run(exitFailed, "redrive", "--aggregate", "voucher/7"), "no event of voucher/7 is parked; `outboxie outbox parked` lists")
	require.Contains(t, o.run(exitClean, "redrive", "--aggregate", orderA), "To be redriven: 2 events. The leader does it within a second")
	require.Equal(t, []string{"redrive", "redrive", "parked"}, []string{o.state(2), o.state(3), o.state(4)})
	require.Contains(t, o.run(exitFailed, "redrive", "--aggregate", "order/"+orderA), "no event of order/"+orderA+" is parked")
	require.Contains(t, o.run(exitClean, "redrive", "--all"), "To be redriven: 1 event.")
	require.Equal(t, "redrive", o.state(4))
}

func TestOutboxDiscard(t *testing.T) {
	o := newOperators(t)
	o.five()
	o.park(2, "too large")
	o.park(3, "behind it")
	said := o.run(exitUsage, "discard", "--position", "2")
	for _, part := range []string{
		"type       outboxie.order.created.v1\n", "aggregate  order/" + orderA + ", version 2\n", "parked     too large\n",
		"version 2 of order/" + orderA + " never reaches any subscriber", "outboxie outbox redrive --aggregate order/" + orderA,
		"nothing was done: repeat the command with --yes",
	} {
		require.Contains(t, said, part)
	}
	require.Equal(t, "parked", o.state(2))

	require.Contains(t, o.run(exitClean, "discard", "--position", "2", "--yes"), "Done. The event at position 2 is discarded")
	require.Equal(t, []string{"discarded", "parked"}, []string{o.state(2), o.state(3)})
	for _, yes := range []string{"--yes=true", "--yes=false"} {
		require.Contains(t, o.run(exitFailed, "discard", "--position", "2", yes), "the event at position 2 is discarded, not parked; `outboxie outbox parked` lists")
		require.Contains(t, o.run(exitFailed, "discard", "--position", "1", yes), "the event at position 1 is published, not parked")
		require.Contains(t, o.run(exitFailed, "discard", "--position", "9", yes), "position 9")
	}

	o.exec("DELETE FROM outbox WHERE position = 3")
	require.Contains(t, o.run(exitFailed, "discard", "--position", "3"), "the log has no event at position 3")
	o.run(exitClean, "discard", "--position", "3", "--yes")
	require.Equal(t, "discarded", o.state(3), "also what was deleted by hand")
}

func TestOutboxUsage(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"no verb":           {nil, "needs status, list, parked, redrive, discard or adopt"},
		"unknown verb":      {[]string{"fix"}, `unknown command "fix"`},
		"unknown flag":      {[]string{"status", "--all"}, "unknown flag"},
		"argument":          {[]string{"parked", "now"}, "unknown command"},
		"no database":       {[]string{"status"}, "DATABASE_URL is not set"},
		"limit of none":     {[]string{"list", "--limit", "0"}, "from 1 to 1000"},
		"limit of all":      {[]string{"parked", "--limit", "1000000"}, "from 1 to 1000"},
		"no number":         {[]string{"parked", "--limit", "all"}, `--limit is "all"; it must be a whole number`},
		"no order":          {[]string{"list", "--order", "7"}, `"7" is neither the UUID of an order nor`},
		"empty order":       {[]string{"list", "--order", ""}, `"" is neither`},
		"no time":           {[]string{"list", "--since", "yesterday"}, `"yesterday" is neither how long ago`},
		"in the future":     {[]string{"list", "--since", "-1h"}, `"-1h" is neither`},
		"no state":          {[]string{"list", "--state", "lost"}, `"lost" is no state of an event: it must be one of unpublished, published,`},
		"empty state":       {[]string{"list", "--state", ""}, `"" is no state of an event`},
		"redrive what":      {[]string{"redrive"}, "either --aggregate TYPE/ID (or an order's ID) or --all"},
		"redrive too much":  {[]string{"redrive", "--all", "--aggregate", orderA}, "either --aggregate"},
		"redrive no id":     {[]string{"redrive", "--aggregate", "order/"}, `"order/" is neither`},
		"discard what":      {[]string{"discard", "--yes"}, "--position N"},
		"discard which one": {[]string{"discard", "--position", "0"}, "--position N"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := command(t, nil, append([]string{"outbox"}, test.args...)...)
			require.Equal(t, exitUsage, code, stdout+stderr)
			require.Contains(t, stderr, test.says)
		})
	}
}

func TestOutboxWithoutTables(t *testing.T) {
	o := newOperators(t)
	o.exec("DROP TABLE outbox_parked, outbox_cursor, outbox")
	for _, args := range [][]string{
		{"status"}, {"list"}, {"parked"}, {"redrive", "--all"}, {"discard", "--position", "1"}, {"discard", "--position", "1", "--yes"},
	} {
		require.Contains(t, o.run(exitFailed, args...), "run `outboxie migrate up`", args)
	}
}

func TestAge(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": -time.Hour, "7s": 7900 * time.Millisecond, "3m12s": 192 * time.Second, "5h0m": 5*time.Hour + 59*time.Second,
		"3d4h": 76 * time.Hour,
	} {
		require.Equal(t, want, wording.Age(d))
	}
}
