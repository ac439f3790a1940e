package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// failBefore inserts the letter that an earlier version wrote for an event that failed and would be delivered again.
func failBefore(t *testing.T, h *harness, event inbox.Event) {
	t.Helper()
	exec(t, h.others, `INSERT INTO dead_letters (subscriber, event_id, state, error, attempts, aggregate_type, aggregate_id, aggregate_version,
			position, recorded_at, event_type, subject, headers, payload, first_failed_at)
		VALUES (?, ?, 'failing', 'before', 2, ?, ?, ?, ?, now(), ?, ?, '{}', '{}', '2020-01-01')`,
		emails, event.ID, event.Key.Type, event.Key.ID, event.Version, int64(event.Position), event.Type, event.Subject)
}

// recordBefore inserts the inbox row of an event as an earlier version wrote it.
func recordBefore(t *testing.T, h *harness, event inbox.Event, appliedAt any) {
	t.Helper()
	exec(t, h.others, `INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, applied_at)
		VALUES (?, ?, ?, ?, ?, ?, ?)`, emails, event.ID, event.Key.Type, event.Key.ID, event.Version, int64(event.Position), appliedAt)
}

// inboxRow returns when an event was applied, and the sequence at which a lane met the event last.
func inboxRow(t *testing.T, h *harness, event inbox.Event) (found string) {
	t.Helper()
	require.NoError(t, h.others.QueryRowContext(t.Context(), `SELECT CASE WHEN applied_at IS NULL THEN 'set aside'
		WHEN applied_at > clock_timestamp() - interval '1 minute' THEN 'now' ELSE 'before' END || ' ' || coalesce(sequence::text, 'NULL')
		FROM inbox WHERE subscriber = ? AND event_id = ?`, emails, event.ID).Scan(&found))
	return found
}

// TestFailingLettersOfBefore checks letters in the state failing, which earlier versions wrote. Such a letter ends when its
// event is applied, and changes its state when its event is set aside.
func TestFailingLettersOfBefore(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	beginLane(t, in)
	events := []inbox.Event{eventOf(1, "a"), eventOf(2, "b"), eventOf(3, "b"), eventOf(4, "c"), eventOf(5, "d"), eventOf(6, "e")}
	for _, event := range events[:5] {
		failBefore(t, h, event)
	}
	other := eventOf(9, "a")
	failBefore(t, h, other)
	recordBefore(t, h, events[3], "2020-01-01") // another copy has applied this event
	events[1].Suspect = true
	exec(t, h.others, "UPDATE dead_letters SET state = 'discarded' WHERE event_id = ?", events[4].ID)
	recordBefore(t, h, events[4], nil)

	outcome := applyAll(t, in, events...)
	require.Equal(t, []inbox.Result{inbox.Applied, inbox.SetAside, inbox.Held, inbox.Duplicate, inbox.Duplicate, inbox.Applied}, outcome.Results)
	for i, want := range []string{"now 1", "set aside 2", "set aside 3", "before 4", "set aside 5", "now 6"} {
		require.Equal(t, want, inboxRow(t, h, events[i]))
	}
	dead, err := in.Letter(t.Context(), emails, events[1].ID)
	require.NoError(t, err)
	require.Equal(t, 3, dead.Attempts, "its earlier failures count")
	require.Equal(t, inbox.Dead, dead.State)
	require.Equal(t, "it fails", dead.Error)
	require.Equal(t, 2020, dead.FirstFailedAt.Year())
	require.Equal(t, 3, outcome.Letters[0].Attempts)
	require.Equal(t, 2020, outcome.Letters[0].FirstFailedAt.Year())
	var letters []string
	require.NoError(t, h.others.NewRaw(`SELECT concat_ws(' ', position, state, attempts, error, _sequence) FROM dead_letters ORDER BY position`).
		Scan(t.Context(), &letters))
	require.Equal(t, []string{"2 dead 3 it fails 2", "3 waiting 0  3", "5 discarded 2 before", "9 failing 2 before"}, letters)
}

// TestFailingLettersOfAppliedEventsEnd checks that Redeliver removes a failing letter whose event was applied, and keeps all
// other failing letters.
func TestFailingLettersOfAppliedEventsEnd(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	applied, met, aside := eventOf(1, "a"), eventOf(2, "b"), eventOf(3, "c")
	other := applied
	other.ID = "not a UUID"
	for _, event := range []inbox.Event{applied, met, aside, other} {
		failBefore(t, h, event)
	}
	recordBefore(t, h, applied, "2020-01-01")
	recordBefore(t, h, aside, nil)
	_, found, err := in.Redeliver(t.Context(), emails, inbox.Redelivery{Limit: 1}, handlerFunc(nil), nil)
	require.NoError(t, err)
	require.False(t, found)
	_, err = in.Letter(t.Context(), emails, applied.ID)
	require.ErrorIs(t, err, inbox.ErrNoLetter)
	for _, event := range []inbox.Event{met, aside, other} {
		letter, err := in.Letter(t.Context(), emails, event.ID)
		require.NoError(t, err)
		require.Equal(t, inbox.Failing, letter.State)
	}
}

// TestFailingLettersAreLockedFirst checks that a lane waits while an operator discards a failing letter, and that lane and
// operator do not deadlock.
func TestFailingLettersAreLockedFirst(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	batch := batchOf(beginLane(t, in), eventOf(1, "a"))
	event := batch.Events[0]
	failBefore(t, h, event)
	var outcome inbox.Outcome
	applied := make(chan error, 1)
	require.NoError(t, h.others.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		exec(t, tx, "SELECT FROM dead_letters WHERE event_id = ? FOR UPDATE", event.ID)
		go func() {
			var err error
			outcome, err = in.Apply(t.Context(), emails, batch, ignore, thrice)
			applied <- err
		}()
		require.Eventually(t, func() bool {
			return count(t, h, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
		}, 30*time.Second, 5*time.Millisecond)
		if _, err := tx.ExecContext(ctx, `INSERT INTO inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position, applied_at)
			VALUES (?, ?, 'order', 'a', 1, 1, NULL)`, emails, event.ID); err != nil {
			return err
		}
		exec(t, tx, "UPDATE dead_letters SET state = 'discarded' WHERE event_id = ?", event.ID)
		return nil
	}))
	require.NoError(t, <-applied)
	require.Equal(t, []inbox.Result{inbox.Duplicate}, outcome.Results)
	require.Equal(t, "set aside 1", inboxRow(t, h, event))
}

// TestRowsOfBefore checks that a lane updates the inbox row of an earlier version with the sequence at which it meets the
// event.
func TestRowsOfBefore(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	beginLane(t, in)
	events := []inbox.Event{eventOf(1, "a"), eventOf(2, "a"), eventOf(3, "b")}
	recordBefore(t, h, events[0], "2020-01-01")
	require.Equal(t, []inbox.Result{inbox.Duplicate, inbox.Applied, inbox.Applied}, applyAll(t, in, events...).Results)
	require.Equal(t, "before 1", inboxRow(t, h, events[0]))
	for i := range events {
		events[i].Sequence += 3
	}
	again := events[1]
	again.Sequence, again.ID = 7, strings.ToUpper(again.ID)
	results := applyAll(t, in, events[0], events[1], events[2], again).Results
	require.Equal(t, []inbox.Result{inbox.Duplicate, inbox.Duplicate, inbox.Duplicate, inbox.Duplicate}, results)
	for i, want := range []string{"before 4", "now 7", "now 6"} {
		require.Equal(t, want, inboxRow(t, h, events[i]))
	}
}

// TestOrphansTakeEffect checks that an event is applied if its inbox row says that it was set aside, but no letter keeps it.
func TestOrphansTakeEffect(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	beginLane(t, in)
	events := []inbox.Event{eventOf(1, "a"), eventOf(2, "b"), eventOf(3, "b"), eventOf(4, "c")}
	for _, event := range events {
		recordBefore(t, h, event, nil)
	}
	failBefore(t, h, events[0])
	events[1].Suspect = true
	require.Equal(t, []inbox.Result{inbox.Applied, inbox.SetAside, inbox.Held, inbox.Applied}, applyAll(t, in, events...).Results)
	for i, want := range []string{"now 1", "set aside 2", "set aside 3", "now 4"} {
		require.Equal(t, want, inboxRow(t, h, events[i]))
	}
	_, err := in.Letter(t.Context(), emails, events[0].ID)
	require.ErrorIs(t, err, inbox.ErrNoLetter)
	require.Equal(t, []inbox.Result{inbox.Duplicate}, applyAll(t, in, eventAt(events[3], 5)).Results)
}

// eventAt returns the same event, stored again at another sequence.
func eventAt(event inbox.Event, sequence uint64) inbox.Event {
	event.Sequence = sequence
	return event
}
