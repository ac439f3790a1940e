package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// failing is a handler that fails.
type failing func(entry outbox.Entry) error

func (f failing) Handle(_ context.Context, _ inbox.Tx, entry outbox.Entry) error { return f(entry) }

func (failing) Name() string    { return "test" }
func (failing) Types() []string { return nil }
func (failing) External() bool  { return false }

func (failing) Applied(context.Context, outbox.Entry) {}

// setAside makes dead letters of the subscriber emails: from suspect events for which handle fails, and from unreadable messages.
func setAside(t *testing.T, db *bun.DB, events []inbox.Event, handle failing) {
	t.Helper()
	letters := postgres.NewInbox(db, postgres.InboxOptions{})
	require.NoError(t, letters.CreateLanes(t.Context(), "emails", 1, "the stream", inbox.StreamPosition{}))
	view, err := letters.Heartbeat(t.Context(), "emails", "copy")
	require.NoError(t, err)
	batch := inbox.Batch{From: view.Lanes[0], To: inbox.StreamPosition{Sequence: uint64(len(events))}, Events: events}
	_, err = letters.Apply(t.Context(), "emails", batch, handle, func(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
		return inbox.Failure{Cause: err, Limit: 1}, nil
	})
	require.NoError(t, err)
}

// TestSubscriberCommands checks that an error names the mistake, and that the exit code tells a wrong command line from a
// failed command.
func TestSubscriberCommands(t *testing.T) {
	address := infra.Database(t)
	db, err := postgres.Open(postgres.Options{URL: address})
	require.NoError(t, err)
	defer db.Close()
	letters := postgres.NewInbox(db, postgres.InboxOptions{})
	entries := relaytest.NewEntries(0, 2)
	entries[1].Key, entries[1].Version = entries[0].Key, 2
	setAside(t, db, []inbox.Event{
		{Entry: entries[0], Suspect: true},
		{Entry: entries[1]},
		{Entry: outbox.Entry{Message: outbox.Message{ID: "unreadable-7-abc", Subject: "orders.x"}}, Unreadable: inbox.ErrUnreadable},
	}, func(outbox.Entry) error { return errors.New("no address") })

	emails := []string{"--id", "emails"}
	event := func(id string, more ...string) []string { return append(append(emails, "--event", id), more...) }
	dead, waiting := entries[0].ID, entries[1].ID
	for name, test := range map[string]struct {
		verb string
		args []string
		code int
		says string
	}{
		"no verb":            {"", nil, exitUsage, "dead, retry or discard"},
		"no id":              {"dead", nil, exitUsage, "SUBSCRIBER_ID (or --id) is not set"},
		"unknown subscriber": {"dead", []string{"--id", "email"}, exitFailed, `no subscriber "email" has received an event here; known subscribers: emails`},
		"list":               {"dead", emails, exitClean, "no address"},
		"retry what":         {"retry", emails, exitUsage, "either --event ID or --all"},
		"retry too much":     {"retry", event(dead, "--all"), exitUsage, "either --event ID or --all"},
		"retry unknown":      {"retry", event("x"), exitFailed, "subscriber emails has no dead letter x; `outboxie subscriber dead --id emails` lists"},
		"retry waiting":      {"retry", event(waiting), exitFailed, "waits behind an earlier event of thing/thing-0"},
		"retry unreadable":   {"retry", event("unreadable-7-abc"), exitFailed, "can only be discarded"},
		"discard what":       {"discard", append(emails, "--yes"), exitUsage, "name the event to discard"},
		"discard unknown":    {"discard", event("x", "--yes"), exitFailed, "` lists them"},
		"discard unasked":    {"discard", event(dead), exitUsage, "version 1 of thing/thing-0, dead: no address), behind which 1 event waits; repeat the command with --yes"},
		"discard waiting":    {"discard", event(waiting), exitUsage, "thing/thing-0, waiting), behind which 0 events wait"},
		"discard unreadable": {"discard", event("unreadable-7-abc"), exitUsage, "which is not an event"},
		"unknown flag":       {"discard", []string{"--force"}, exitUsage, "unknown flag"},
	} {
		t.Run(name, func(t *testing.T) {
			args := slices.DeleteFunc(append([]string{"subscriber", test.verb}, test.args...), func(arg string) bool { return arg == "" })
			code, stdout, stderr := command(t, []string{"DATABASE_URL=" + address}, args...)
			require.Equal(t, test.code, code, stderr)
			require.Contains(t, stdout+stderr, test.says)
		})
	}
	found, err := letters.Letter(t.Context(), "emails", dead)
	require.NoError(t, err)
	require.Equal(t, inbox.Dead, found.State, "nothing of that changed anything")

	code, said, _ := command(t, []string{"DATABASE_URL=" + address}, append([]string{"subscriber", "retry"}, event(dead)...)...)
	require.Equal(t, exitClean, code, said)
	code, _, said = command(t, []string{"DATABASE_URL=" + address}, append([]string{"subscriber", "retry"}, event(dead)...)...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, said, "is being retried already")
}

func TestListsOfDeadLetters(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	entry := relaytest.NewEntries(6, 1)[0]
	entry.ID = "018f0000-0000-7000-8000-000000000001"
	entry.Payload = []byte(`{"n": 1}`)
	list := []inbox.Letter{
		{
			Entry: outbox.Entry{Message: outbox.Message{ID: "unreadable-7-abc", Subject: "orders.x", Payload: []byte{0xff}}},
			State: inbox.Dead, Error: "not ours", Attempts: 1, FirstFailedAt: now.Add(-time.Hour),
		},
		{
			Entry: entry, State: inbox.Dead, Error: "the handler panicked: no\nstack", Attempts: 10, Behind: 2,
			FirstFailedAt: now.Add(-90 * time.Second), DeadAt: now,
		},
	}
	var out bytes.Buffer
	require.NoError(t, printLetters(&out, list, "emails", now))
	require.Equal(t, `EVENT                                 POSITION  AGGREGATE      STATE  AGE     ATTEMPTS  BEHIND  ERROR
unreadable-7-abc                      -         -              dead   1h0m0s  1         0       not ours
018f0000-0000-7000-8000-000000000001  7         thing/thing-0  dead   1m30s   10        2       the handler panicked: no
`, out.String())

	out.Reset()
	listed := slices.Clone(list)
	for _, ended := range []inbox.Letter{{State: inbox.Discarded}, {State: inbox.Waiting}} {
		ended.ID = string(ended.State)
		list, listed = append(list, ended), append(listed, ended)
	}
	listed[1].Payload = nil
	listed = append(listed, inbox.Letter{Entry: outbox.Entry{Message: outbox.Message{ID: "applied meanwhile"}}})
	read := func(event string) (inbox.Letter, error) {
		at := slices.IndexFunc(list, func(letter inbox.Letter) bool { return letter.ID == event })
		if at < 0 {
			return inbox.Letter{}, inbox.ErrNoLetter
		}
		return list[at], nil
	}
	require.NoError(t, printLettersJSON(&out, listed, read))
	require.JSONEq(t, `[
		{"event_id": "unreadable-7-abc", "state": "dead", "subject": "orders.x", "error": "not ours", "attempts": 1, "behind": 0,
			"first_failed_at": "2026-11-24T11:00:00Z", "payload": "/w=="},
		{"event_id": "018f0000-0000-7000-8000-000000000001", "state": "dead", "position": 7, "aggregate_type": "thing",
			"aggregate_id": "thing-0", "aggregate_version": 7, "type": "outboxie.test.happened.v1", "subject": "things.happened",
			"error": "the handler panicked: no\nstack", "attempts": 10, "behind": 2, "first_failed_at": "2026-11-24T11:58:30Z",
			"dead_at": "2026-11-24T12:00:00Z", "payload": {"n": 1}}
	]`, out.String())

	out.Reset()
	require.NoError(t, printLettersJSON(&out, nil, read))
	require.Equal(t, "[]\n", out.String())
	failed := func(string) (inbox.Letter, error) { return inbox.Letter{}, errors.ErrUnsupported }
	require.ErrorIs(t, printLettersJSON(&out, listed, failed), errors.ErrUnsupported)
	out.Reset()
	require.NoError(t, printLetters(&out, slices.Repeat(list[:1], maxListed+1), "emails", now))
	require.Equal(t, maxListed+2, bytes.Count(out.Bytes(), []byte("\n")))
	require.Contains(t, out.String(), "the first 1000; there are more")
}

// TestAdviceOfASubscriberThatStops checks that an operator learns what to do about a subscriber that stops before lost messages, or that runs
// with another handler.
func TestAdviceOfASubscriberThatStops(t *testing.T) {
	require.Equal(t, "to go on without them, start once with SUBSCRIBER_ON_LOSS=continue, or run: "+
		"outboxie subscriber skip --id emails --to sequence:12 --yes", engine.LossAdvice("emails", 12))
	err := engine.WithRemedy(inbox.ErrOtherHandler.With("subscriber emails has the handler totals"), "emails")
	require.ErrorIs(t, err, inbox.ErrOtherHandler)
	require.ErrorContains(t, err, "leave --handler (SUBSCRIBER_HANDLER) out, or take another id")
}
