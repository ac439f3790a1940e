package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// setAsideGroups sets six events aside for the subscriber emails: three for one reason, two for another, and one that waits behind the
// first. It also sets an unreadable message aside.
func setAsideGroups(t *testing.T, db *bun.DB) (entries []outbox.Entry, stranger outbox.Message) {
	t.Helper()
	entries = relaytest.NewEntries(0, 6)
	var events []inbox.Event
	for i, entry := range entries {
		events = append(events, inbox.Event{Entry: entry, Suspect: i < 5})
	}
	events[5].Key, events[5].Version = entries[0].Key, 2 // waits behind events[0]
	stranger = outbox.Message{ID: "unreadable-7-abc", Subject: "orders.x"}
	setAside(t, db, append(events, inbox.Event{Entry: outbox.Entry{Message: stranger}, Unreadable: inbox.ErrUnreadable}),
		func(entry outbox.Entry) error {
			if entry.Position <= 3 {
				return fmt.Errorf("customer %d is unknown", entry.Position)
			}
			return errors.New("no address")
		})
	return entries, stranger
}

// TestSubscriberGroups checks, on a real database, that groups are shown, and that a verb changes what is chosen and nothing else.
func TestSubscriberGroups(t *testing.T) {
	address := infra.Database(t)
	db, err := postgres.Open(postgres.Options{URL: address})
	require.NoError(t, err)
	defer db.Close()
	run := func(code int, args ...string) string {
		t.Helper()
		got, stdout, stderr := command(t, []string{"DATABASE_URL=" + address}, append([]string{"subscriber"}, append(args, "--id", "emails")...)...)
		require.Equal(t, code, got, stdout+stderr)
		return stdout + withoutAudit(stderr)
	}
	entries, stranger := setAsideGroups(t, db)
	unknown := fault.NewFingerprint("customer 7 is unknown").ID

	said := run(exitClean, "dead", "--groups")
	require.Regexp(t, `(?m)^GROUP +EVENTS +BEHIND +FIRST +LAST +TYPE +EXAMPLE +REASON$`, said)
	require.Regexp(t, `(?m)^`+unknown+` +3 +1 +\d+s ago +\d+s ago +outboxie.test.happened.v1 +\S+ +customer <n> is unknown$`, said)
	require.Regexp(t, `(?m)^5917eeb97442 +2 +0 .* no address$`, said)
	require.Contains(t, said, "6 events in 3 groups.\n")
	require.Contains(t, said, "outboxie subscriber retry --id emails --group GROUP")
	var groups httpapi.FailureGroups
	require.NoError(t, json.Unmarshal([]byte(run(exitClean, "dead", "--groups", "--json")), &groups))
	require.Equal(t, unknown, groups.Groups[0].Group)
	require.Equal(t, entries[0].ID, groups.Groups[0].Example.EventID)

	said = run(exitUsage, "retry", "--group", unknown)
	require.Contains(t, said, "Chosen: 3 dead letters. Events of the same aggregates that wait behind: 1.\n")
	require.Contains(t, said, "nothing was done: repeat the command with --yes")
	require.Contains(t, run(exitUsage, "discard", "--group", "5917eeb97442"), "Chosen: 2 dead letters")
	require.Contains(t, run(exitUsage, "discard", "--aggregate", "thing/thing-4"), "Chosen: 1 dead letter. ")
	require.Contains(t, run(exitUsage, "discard", "--all", "--json"), `"chosen": 6,`)
	require.Equal(t, said[:6], run(exitUsage, "retry", "--type", "outboxie.test.happened.v1")[:6])
	require.Contains(t, run(exitClean, "retry", "--group", "0"), "There is no such dead letter. To list the groups: outboxie subscriber dead --id emails --groups\n")
	require.Contains(t, run(exitUsage, "retry", "--group", unknown, "--all"), "either --event ID or --all")
	require.Contains(t, run(exitUsage, "discard", "--group", unknown, "--event", "x"), "name the event to discard")
	require.Contains(t, run(exitUsage, "retry", "--aggregate", "x"), "is neither the UUID of an order")
	require.Contains(t, run(exitClean, "dead", "--groups"), "6 events in 3 groups.", "nothing was changed")

	require.JSONEq(t, `{"chosen":3,"behind":1,"changed":3}`, run(exitClean, "retry", "--group", unknown, "--yes", "--json"))
	require.Contains(t, run(exitClean, "retry", "--aggregate", "thing/thing-3"), "Subscriber emails retries 1 dead letter when it runs.\n", "one needs no --yes")
	require.Contains(t, run(exitClean, "discard", "--group", "5917eeb97442", "--yes"), "Discarded for subscriber emails: 1 dead letter.\n")
	require.Contains(t, run(exitClean, "retry", "--all"), "Subscriber emails retries 0 dead letters when it runs.\n")
	require.Contains(t, run(exitClean, "discard", "--all", "--yes"), "Discarded for subscriber emails: 1 dead letter.\n")
	require.Equal(t, "Subscriber emails has nothing that is dead.\n", run(exitClean, "dead", "--groups"))

	states := make(map[string]inbox.LetterState)
	for _, id := range []string{entries[0].ID, entries[1].ID, entries[2].ID, entries[3].ID, entries[4].ID, entries[5].ID, stranger.ID} {
		letter, err := postgres.NewInbox(db, postgres.InboxOptions{}).Letter(t.Context(), "emails", id)
		require.NoError(t, err)
		states[id] = letter.State
	}
	require.Equal(t, map[string]inbox.LetterState{
		entries[0].ID: inbox.Retrying, entries[1].ID: inbox.Retrying, entries[2].ID: inbox.Retrying, entries[3].ID: inbox.Retrying,
		entries[4].ID: inbox.Discarded, entries[5].ID: inbox.Waiting, stranger.ID: inbox.Discarded,
	}, states)
	require.JSONEq(t, `{"chosen":1,"behind":1,"changed":1}`, run(exitClean, "discard", "--event", entries[0].ID, "--yes", "--json"))
}

// TestOutboxGroups checks the same for the parking lot as TestSubscriberGroups for dead letters.
func TestOutboxGroups(t *testing.T) {
	o := newOperators(t)
	require.Equal(t, "Nothing is parked.\n", o.run(exitClean, "parked", "--groups"))
	o.five()
	o.park(2, "its payload takes 2000000 bytes")
	o.park(3, "behind position 2 of the same aggregate")
	o.park(4, "no subject")
	o.park(5, "behind position 4 of the same aggregate")
	large, behind := fault.NewFingerprint("its payload takes 7 bytes").ID, fault.NewFingerprint("behind position 1 of the same aggregate").ID

	said := o.run(exitClean, "parked", "--groups")
	require.Regexp(t, `(?m)^`+large+` +1 +1 +3m\d+s ago +.* its payload takes <n> bytes$`, said)
	require.NotContains(t, said, behind)
	require.Contains(t, said, "2 events in 2 groups.\n")
	require.Contains(t, said, "outboxie outbox redrive --group GROUP")
	var groups httpapi.FailureGroups
	o.read(&groups, "parked", "--groups")
	require.Equal(t, 2, groups.AllGroups)

	require.Contains(t, o.run(exitUsage, "discard", "--all"), "Chosen: 2 parked events. Events of the same aggregates that wait behind: 2.\n")
	require.Contains(t, o.run(exitUsage, "redrive", "--type", "outboxie.order.created.v1", "--all"), "either --aggregate")
	require.Contains(t, o.run(exitUsage, "discard", "--position", "2", "--all"), "name the event to discard")
	require.Contains(t, o.run(exitClean, "redrive", "--group", "0", "--yes"), "There is no such parked event. To list the groups: outboxie outbox parked --groups\n")
	require.Equal(t, "parked", o.state(2), "nothing was changed")

	require.Contains(t, o.run(exitClean, "discard", "--group", large, "--yes"), "Done. Discarded: 1 event. The events behind are still parked")
	require.Equal(t, []string{"discarded", "parked", "parked"}, []string{o.state(2), o.state(3), o.state(4)})
	require.JSONEq(t, `{"chosen":1,"behind":0,"changed":1}`, o.run(exitClean, "redrive", "--group", behind, "--json"), "one needs no --yes")
	require.Equal(t, "redrive", o.state(3))
	require.Contains(t, o.run(exitClean, "redrive", "--type", "outboxie.order.paid.v1", "--aggregate", orderB), "To be redriven: 1 event, and the events behind.")
	require.Equal(t, []string{"redrive", "redrive"}, []string{o.state(4), o.state(5)})
	require.JSONEq(t, `{"chosen":0,"behind":0,"changed":0}`, o.run(exitClean, "redrive", "--all", "--json"))
}

// TestListsOfGroups checks what is said about groups that are not listed, and about events that were not looked at.
func TestListsOfGroups(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	require.NoError(t, printGroups(&out, operations.Groups{Events: 100_000, All: 101, More: true, List: []operations.Group{{
		Fingerprint: fault.Fingerprint{ID: "5917eeb97442", Pattern: "no \x1b[31maddress"}, Events: 7, First: now.Add(-time.Hour), Last: now,
		Types: []string{"a.v1", "b.v1", "c.v1"}, Example: operations.UndecidedEvent{EventID: "e1"},
	}}}, now, "none", "more"))
	require.Contains(t, out.String(), "a.v1 (+2)")
	require.NotContains(t, out.String(), "\x1b")
	require.Contains(t, out.String(), "100000 events in 101 groups. These are the largest 1. There are more events, which were not looked at.\nmore\n")
}

// TestDecisionsThatFail checks that no command claims a change if the database does not answer.
func TestDecisionsThatFail(t *testing.T) {
	var out bytes.Buffer
	p := &program{stdout: &out}
	away := fault.New(fault.Unavailable, "away", "away")
	for _, pile := range []failingUndecided{{count: away}, {change: away}} {
		err := p.decide(context.Background(), choice{group: "x", yes: true}, pile, decision{thing: "thing", change: pile.Retry})
		require.ErrorIs(t, err, away)
	}
	require.Empty(t, out.String())
}

type failingUndecided struct {
	operations.UndecidedEventsAdmin
	count, change error
}

func (f failingUndecided) Count(context.Context, operations.Choice) (operations.ChoiceCount, error) {
	return operations.ChoiceCount{Events: 1}, f.count
}

func (f failingUndecided) Retry(context.Context, operations.Choice) (int, error) { return 0, f.change }
