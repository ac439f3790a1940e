package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestOutboxStatusShowsSubscribers checks what the status of the relay says about subscribers.
func TestOutboxStatusShowsSubscribers(t *testing.T) {
	o := newOperators(t)
	o.lead()
	o.five() // the relay has saved sequence 7
	o.exec(`INSERT INTO subscriber_lanes (subscriber, lane, lanes, stream, sequence, stored_ns, revision, moved_at)
		VALUES ('emails', 0, 1, '1', 4, 1, 1, now() - interval '2 hours 30 seconds'), ('shop', 0, 1, '1', 7, 1, 1, now() - interval '2 hours')`)
	o.exec("INSERT INTO subscriber_copies (subscriber, instance, seen_at) VALUES ('emails', 'one', now() + interval '1 minute')")
	o.exec("INSERT INTO subscribers (subscriber, handler, paused_at, missed) VALUES ('shop', 'webhook', now() - interval '3 hours 30 seconds', 5)")
	said := o.run(exitClean, "status")
	require.Contains(t, said, `
SUBSCRIBER  STATE             MESSAGES BEHIND  RATE   COPIES  DEAD  MISSED
emails      stalled for 2h0m  3                0.0/s  1       0     0
shop        paused for 3h0m   0                0.0/s  0       0     5
For details: outboxie subscriber status
`)
	var shown httpapi.OutboxStatus
	o.read(&shown, "status")
	require.Len(t, *shown.Subscribers, 2)
	emails, shop := (*shown.Subscribers)[0], (*shown.Subscribers)[1]
	require.Equal(t, []any{"emails", httpapi.SubscriberState("working"), uint64(3), 1}, []any{emails.Subscriber, emails.State, *emails.MessagesBehind, emails.Copies})
	require.InDelta(t, 7200, *emails.StalledSeconds, 600)
	require.Equal(t, []any{"shop", httpapi.SubscriberState("paused"), int64(5)}, []any{shop.Subscriber, shop.State, shop.MissedMessages})
	require.Nil(t, shop.StalledSeconds)

	o.exec("ALTER TABLE subscribers RENAME TO hidden")
	require.Contains(t, o.run(exitClean, "status"), "The subscribers cannot be read: ")
	shown = httpapi.OutboxStatus{}
	o.read(&shown, "status")
	require.Nil(t, shown.Subscribers)
}

func TestOutboxStatus(t *testing.T) {
	o := newOperators(t)
	said := o.run(exitClean, "status")
	require.True(t, strings.HasPrefix(said, "nobody leads\n"), said)
	require.Contains(t, said, "outboxie serve")
	require.Regexp(t, `(?m)^relayed +nothing yet$`, said)
	require.Regexp(t, `(?m)^stream +none yet$`, said)
	var shown httpapi.OutboxStatus
	o.read(&shown, "status")
	none, nobody := []httpapi.HaltedInstance{}, &[]httpapi.SubscriberSummary{}
	require.Equal(t, httpapi.OutboxStatus{State: "leaderless", Relay: "ORDERS", Now: shown.Now, HaltedInstances: none, NextPosition: 1, Subscribers: nobody}, shown)

	o.lead()
	o.five()
	o.park(3, "too large")
	o.exec("DELETE FROM outbox WHERE position = 1")
	o.exec("UPDATE outbox_cursor SET purged_to = 1")
	said = o.run(exitClean, "status")
	require.True(t, strings.HasPrefix(said, "relaying\n"), said)
	for _, line := range []string{
		`relay    ORDERS`, `now      \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`, `leader   api-1, for 3h12m \(token 3\)`,
		`log      up to position 5, removed by retention up to 1`, `relayed  up to position 1, saved 0s ago`,
		`stream   ORDERS, up to sequence 7`, `backlog  3 events, the oldest from \d+s ago`,
		`parked   1 event of 1 aggregate: outboxie outbox parked`,
	} {
		require.Regexp(t, "(?m)^"+line+"$", said)
	}
	require.NotContains(t, said, "SUBSCRIBER", "there is none")
	shown = httpapi.OutboxStatus{}
	o.read(&shown, "status")
	require.NotNil(t, shown.SavedAt)
	require.NotNil(t, shown.OldestUnpublishedAt)
	require.Equal(t, "api-1", shown.Leader.Holder)
	require.Equal(t, httpapi.OutboxStatus{
		State: "relaying", Relay: "ORDERS", Now: shown.Now, Leader: shown.Leader, Position: 1, SavedAt: shown.SavedAt, Stream: "ORDERS",
		StreamSequence: 7, LastPosition: 5, PurgedTo: 1, Unpublished: 3, OldestUnpublishedAt: shown.OldestUnpublishedAt, ParkedEvents: 1, ParkedAggregates: 1,
		HaltedInstances: none,
		NextPosition:    6, Subscribers: nobody,
	}, shown)

	o.requireMisdirected()

	o.rewrite("recorded_at = recorded_at - interval '1 minute'")
	require.Contains(t, o.run(exitClean, "status"), "relaying\n", "it comes on")
	o.exec("UPDATE outbox_cursor SET updated_at = now() - interval '1 minute'")
	require.Regexp(t, `^stuck: the leader has made no progress for 1m\d+s\n`, o.run(exitClean, "status"))

	store := postgres.NewCursorStore(o.db, "ORDERS", "ORDERS")
	for range 3 { // the leader takes over again and again, and publishes nothing
		cursor, err := store.Load(t.Context())
		require.NoError(t, err)
		_, err = store.Save(t.Context(), relay.WriteFence{Token: 3, Revision: cursor.Revision}, cursor)
		require.NoError(t, err)
	}
	require.Regexp(t, `^stuck: the leader has made no progress for 1m\d+s\n`, o.run(exitClean, "status"))
}

// requireMisdirected checks that the status names an instance that is halted while another one leads.
func (o *operators) requireMisdirected() {
	o.Helper()
	misdirected := postgres.NewInstanceHalts(o.db, "ORDERS", "api-2")
	require.NoError(o, misdirected.Record(o.Context(), relay.NewHalt(relay.HaltStreamMissing, "the stream is gone")))
	said := o.run(exitClean, "status")
	require.True(o, strings.HasPrefix(said, "relaying\n"), said)
	require.Regexp(o, `(?m)^  api-2, for 0s: stream_missing, the stream is gone$`, said)
	require.Contains(o, said, "Others publish. So look at these instances' settings first")
	var shown httpapi.OutboxStatus
	o.read(&shown, "status")
	require.Len(o, shown.HaltedInstances, 1)
	require.Equal(o, httpapi.HaltedInstance{
		Instance: "api-2", Reason: "stream_missing", Detail: "the stream is gone", Since: shown.HaltedInstances[0].Since,
	}, shown.HaltedInstances[0])
	require.NoError(o, misdirected.Record(o.Context(), nil))
	require.NotContains(o, o.run(exitClean, "status"), "api-2")
}

const orderOfNobody = "01a208ab-0000-7000-8000-00000000000c"

// TestOutboxStatusOfASequenceThatWentBack checks that the status finds this state in the database, whatever a relay has
// reported, and that the status counts the misplaced events.
func TestOutboxStatusOfASequenceThatWentBack(t *testing.T) {
	o := newOperators(t)
	o.five()
	o.lead()
	o.exec("UPDATE outbox_cursor SET position = 5, purged_to = 4")
	o.exec("DELETE FROM outbox WHERE position <= 4")
	require.True(t, strings.HasPrefix(o.run(exitClean, "status"), "relaying\n"))
	o.exec("ALTER TABLE outbox ALTER COLUMN position RESTART")
	said := o.run(exitClean, "status")
	require.True(t, strings.HasPrefix(said, "set back: the sequence of outbox.position went back\n"), said)
	for _, says := range []string{"gives out position 1 next; the highest so far is 5; 0 events misplaced", "\n    outboxie outbox adopt\n"} {
		require.Contains(t, said, says)
	}
	o.record(o.db, orderOfNobody, 1, "outboxie.order.created.v1")
	o.record(o.db, orderOfNobody, 2, "outboxie.order.paid.v1")
	o.exec("SELECT setval('outbox_position_seq', 5)")
	said = o.run(exitClean, "status")
	require.True(t, strings.HasPrefix(said, "set back"), said)
	require.Regexp(t, `(?m)^backlog +2 events misplaced below the relay's position: outboxie outbox adopt$`, said)
	var shown httpapi.OutboxStatus
	o.read(&shown, "status")
	require.Equal(t, httpapi.OutboxStatusState("set_back"), shown.State)
	require.EqualValues(t, 2, shown.Misplaced)
	require.EqualValues(t, 6, shown.NextPosition)
	require.Regexp(t, `(?m)^1 .* misplaced .*`+orderOfNobody, o.run(exitClean, "list"))
	require.Regexp(t, `(?m)^5 .* published .*`+orderB, o.run(exitClean, "list"))
	o.exec("UPDATE outbox_cursor SET halt_reason = 'sequence_behind', halt_detail = 'x', halted_at = now()")
	said = o.run(exitClean, "status")
	require.Contains(t, said, "halted: sequence_behind")
	require.Regexp(t, `(?m)^backlog +2 events misplaced`, said)
}

func TestOutboxStatusOfAnotherStream(t *testing.T) {
	o := newOperators(t)
	o.lead()
	code, said, _ := command(t, []string{"DATABASE_URL=" + o.address, "STREAM_NAME=OTHER"}, "outbox", "status")
	require.Equal(t, exitClean, code)
	require.Regexp(t, `(?m)^relay +OTHER$`, said)
	require.Regexp(t, `(?m)^leader +nobody$`, said)
}

func TestOutboxStatusOfAHaltedRelay(t *testing.T) {
	o := newOperators(t)
	o.five()
	o.lead()
	o.exec("UPDATE outbox_cursor SET halt_reason = 'tail_gone', halt_detail = 'the message at 7\n\x1b[31mis gone', halted_at = now() - interval '12 minutes 3 seconds'")
	said := o.run(exitClean, "status")
	require.Regexp(t, `^halted: tail_gone, for 12m\d+s\n\n  the message at 7 \\u001b\[31mis gone\n  The end of the stream was deleted`, said)
	require.Contains(t, said, "\n    outboxie outbox adopt\n")
	require.NotContains(t, said, "\x1b")
	var shown httpapi.OutboxStatus
	o.read(&shown, "status")
	require.Equal(t, httpapi.OutboxStatusStateHalted, shown.State)
	require.Equal(t, httpapi.OutboxHalt{
		Reason: string(relay.HaltTailGone), Detail: "the message at 7\n\x1b[31mis gone", Meaning: wording.HaltMeaning(relay.HaltTailGone), Since: shown.Halt.Since,
	}, *shown.Halt)

	o.exec("UPDATE outbox_cursor SET halt_reason = 'of the future'")
	require.Contains(t, o.run(exitClean, "status"), "halted: of the future")
}

func TestOutboxStatusNamesAnOpenWriter(t *testing.T) {
	o := newOperators(t)
	o.lead()
	o.five()
	writer, err := o.db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer writer.Rollback() //nolint:errcheck // it may have been ended
	o.record(writer, orderB, 3, "outboxie.order.shipped.v1")
	require.Eventually(t, func() bool { return strings.HasPrefix(o.run(exitClean, "status"), "waiting for an open transaction (") },
		20*time.Second, 100*time.Millisecond)
	said := o.run(exitClean, "status")
	require.Regexp(t, `\(\d+s old\)\n\n  pid \d+ \(billing\), idle in transaction, last statement:\n    INSERT INTO outbox`, said)
	end := regexp.MustCompile(`SELECT pg_terminate_backend\(\d+\);`).FindString(said)
	require.NotEmpty(t, end)
	var shown httpapi.OutboxStatus
	o.read(&shown, "status")
	require.Equal(t, httpapi.OutboxStatusStateWaiting, shown.State)
	require.Equal(t, "idle in transaction", shown.OpenWriter.State)

	o.exec("UPDATE outbox_cursor SET position = 5")
	said = o.run(exitClean, "status")
	require.True(t, strings.HasPrefix(said, "relaying\n"), "nothing waits for it: %s", said)
	require.Contains(t, said, "A transaction that has written the outbox is still open")

	o.exec(end)
	require.Eventually(t, func() bool { return !strings.Contains(o.run(exitClean, "status"), "transaction") },
		20*time.Second, 10*time.Millisecond, "what it says ends the transaction")
}

// TestStatusOfWriters checks when an open transaction is reported. A busy service always has an open transaction.
func TestStatusOfWriters(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		writer operations.OpenTransaction
		oldest time.Duration // of the backlog
		says   string
	}{
		"prepared":           {operations.OpenTransaction{Prepared: "it's", Since: now.Add(-73 * time.Hour)}, 0, "waiting for an open transaction (3d1h old)\n\n  prepared transaction 'it''s'. To end it"},
		"for a moment":       {operations.OpenTransaction{Session: 7, Since: now.Add(-time.Second / 2)}, time.Minute, "stuck: "},
		"of unknown age":     {operations.OpenTransaction{Session: 7}, time.Minute, "waiting for an open transaction (of unknown age)\n"},
		"perhaps not so old": {operations.OpenTransaction{Session: 7}, time.Second, "relaying\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var text strings.Builder
			require.NoError(t, printStatus(&text, operations.RelayStatus{
				Now: now, Leader: &operations.Leader{}, Unpublished: 1, Oldest: now.Add(-c.oldest), SavedAt: now.Add(-c.oldest), OldestTransaction: &c.writer,
			}))
			require.True(t, strings.HasPrefix(text.String(), c.says), text.String())
		})
	}
}
