package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestVerbsOfSubscribers checks the output of each command without a broker. A command that needs the stream says so; the others work.
func TestVerbsOfSubscribers(t *testing.T) {
	address := infra.Database(t)
	db, err := postgres.Open(postgres.Options{URL: address})
	require.NoError(t, err)
	defer db.Close()
	setAside(t, db, []inbox.Event{{Entry: relaytest.NewEntries(0, 1)[0]}}, func(outbox.Entry) error { return nil })
	require.NoError(t, postgres.NewInbox(db, postgres.InboxOptions{}).Subscribe(t.Context(), "emails", "totals", []string{"a type"}))
	environment := []string{"DATABASE_URL=" + address, fmt.Sprintf("NATS_URL=nats://127.0.0.1:%d", infra.Port(t))}
	emails := []string{"--id", "emails"}
	for _, test := range []struct {
		verb string
		args []string
		code int
		says string
	}{
		{"", nil, exitUsage, "needs status, pause, resume, rewind"},
		{"pause", nil, exitUsage, "SUBSCRIBER_ID (or --id) is not set"},
		{"pause", []string{"--id", "email"}, exitFailed, "there is no subscriber email; `outboxie subscriber status` lists the subscribers"},
		{"status", []string{"--id", "email"}, exitFailed, "there is no subscriber email"},
		{"status", nil, exitClean, "The stream cannot be asked, so no lag is known"},
		{"status", append(emails, "--json"), exitClean, `"lag_events": null`},
		{"status", emails, exitClean, `"a type"`},
		{"pause", emails, exitClean, "emails is paused. To let it go on: outboxie subscriber resume --id emails"},
		{"pause", append(emails, "--json"), exitClean, `"done": true`},
		{"status", emails, exitClean, "paused for "},
		{"resume", emails, exitClean, "emails goes on"},
		{"rewind", emails, exitUsage, "name the place: --to sequence:N"},
		{"rewind", append(emails, "--to", "12"), exitUsage, `"12" is no place in the stream`},
		{"rewind", append(emails, "--to", "start"), exitFailed, "NATS_URL says where NATS is"},
		{"skip", append(emails, "--to", "end"), exitFailed, "NATS_URL says where NATS is"},
		{"lanes", emails, exitUsage, "give the number of lanes"},
		{"lanes", append(emails, "--to", "2000"), exitUsage, "from 1 to 1024"},
		{"lanes", append(emails, "--to", "2"), exitFailed, "NATS_URL says where NATS is"},
		{"ignore", emails, exitUsage, "name the type"},
		{"ignore", append(emails, "--type", "a type"), exitUsage, "repeat the command with --yes"},
		{"ignore", append(emails, "--type", "another", "--yes"), exitFailed, "shows the types that it wants"},
		{"ignore", append(emails, "--type", "a type", "--yes"), exitClean, `type "a type" now; 0 dead letters`},
		{"ignore", append(emails, "--type", "a type", "--json"), exitUsage, `"done": false`},
		{"forget", emails, exitUsage, "repeat the command with --yes"},
		{"forget", append(emails, "--json"), exitUsage, `"done": false`},
		{"forget", []string{"--id", "email", "--yes"}, exitFailed, "outboxie: there is no subscriber email; `outboxie subscriber status`"},
		{"forget", append(emails, "--lift", "--yes"), exitUsage, "either --yes"},
		{"forget", append(emails, "--lift"), exitFailed, "there is nothing to lift"},
		{"forget", append(emails, "--yes"), exitClean, "emails is forgotten; 1 row erased"},
		{"status", emails, exitClean, "forgotten for"},
		{"pause", emails, exitFailed, "run this and start a copy: outboxie subscriber forget --lift --id emails"},
		{"forget", append(emails, "--lift", "--json"), exitClean, `"verb": "lift"`},
		{"status", nil, exitClean, "There are no subscribers."},
	} {
		args := slices.DeleteFunc(append([]string{"subscriber", test.verb}, test.args...), func(arg string) bool { return arg == "" })
		code, stdout, stderr := command(t, environment, args...)
		require.Equal(t, test.code, code, "%s: %s", args, stderr)
		require.Contains(t, stdout+stderr, test.says, args)
	}
}

// TestUnreachableDatabase checks that each command about subscribers fails when Postgres does not answer, and says which setting to look at.
func TestUnreachableDatabase(t *testing.T) {
	environment := []string{fmt.Sprintf("DATABASE_URL=postgres://me:secret@127.0.0.1:%d/x", infra.Port(t)), "SUBSCRIBER_ID=emails"}
	for _, args := range [][]string{
		{"status"},
		{"status", "--json"},
		{"pause"},
		{"resume"},
		{"rewind", "--to", "start"},
		{"skip", "--to", "end", "--yes"},
		{"lanes", "--to", "2"},
		{"ignore", "--type", "t", "--yes"},
		{"forget", "--yes"},
		{"forget", "--lift"},
		{"dead", "--groups"},
		{"retry", "--all"},
		{"discard", "--all", "--yes"},
	} {
		code, stdout, stderr := command(t, environment, append([]string{"subscriber"}, args...)...)
		require.Equal(t, exitFailed, code, args)
		require.Empty(t, stdout, args)
		require.Contains(t, stderr, "DATABASE_URL says where Postgres is", args)
		require.NotContains(t, stderr, "secret", args)
	}
}

// TestStatusOfSubscribers checks the table that people read.
func TestStatusOfSubscribers(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	emails := operations.SubscriberStatus{
		Overview: inbox.Overview{
			Subscriber: "emails", Subscription: inbox.Subscription{Handler: "totals", Types: []string{"b"}}, Copies: []string{"one", "two"}, Rate: 12.34, Dead: 1, MissedMessages: 2,
			Lanes: []inbox.Checkpoint{
				{Lane: 0, StreamPosition: inbox.StreamPosition{Sequence: 90, StoredAt: now}, Idle: time.Second}, {Lane: 1, StreamPosition: inbox.StreamPosition{Sequence: 70}, Idle: time.Minute},
			},
		},
		Lag: &operations.Lag{Events: 30, Oldest: 90 * time.Second}, MessagesBehind: []uint64{10, 30},
	}
	gone := operations.SubscriberStatus{Overview: inbox.Overview{Subscriber: "gone", Subscription: inbox.Subscription{Forgotten: now.Add(-time.Hour)}}}
	var out bytes.Buffer
	require.NoError(t, printSubscribers(&out, operations.SubscriberList{All: []operations.SubscriberStatus{emails, gone}, StreamError: errors.New("no\nanswer")}, false, now))
	require.Equal(t, `SUBSCRIBER  STATE               HANDLER  LANES  SEQUENCE  BEHIND  OLDEST  RATE    COPIES  DEAD  MISSED
emails      working             totals   2      70        30      1m30s   12.3/s  2       1     2
gone        forgotten for 1h0m  -        0      -         -       -       0.0/s   0       0     0

The stream cannot be asked, so no lag is known: no answer
`, out.String())
	out.Reset()
	require.NoError(t, printSubscribers(&out, operations.SubscriberList{All: []operations.SubscriberStatus{emails}}, true, now))
	require.Equal(t, `SUBSCRIBER  STATE    HANDLER  LANES  SEQUENCE  BEHIND  OLDEST  RATE    COPIES  DEAD  MISSED
emails      working  totals   2      70        30      1m30s   12.3/s  2       1     2

copies  one, two
types   b

LANE  SEQUENCE  STORED                MESSAGES BEHIND  MOVED
0     90        2026-11-29T12:00:00Z  10               1s ago
1     70        unknown               30               1m0s ago
`, out.String())
}
