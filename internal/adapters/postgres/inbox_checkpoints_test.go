package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

const emails = "emails"

// beginLane creates the subscriber emails with one lane.
func beginLane(t *testing.T, in *postgres.Inbox) inbox.Checkpoint {
	t.Helper()
	require.NoError(t, in.CreateLanes(t.Context(), emails, 1, "STREAM", inbox.StreamPosition{}))
	return lookAt(t, in)
}

func lookAt(t *testing.T, in *postgres.Inbox) inbox.Checkpoint {
	t.Helper()
	view, err := in.Heartbeat(t.Context(), emails, "me")
	require.NoError(t, err)
	require.Len(t, view.Lanes, 1)
	return view.Lanes[0]
}

// eventOf returns an event of an aggregate. The number is its sequence, position and version.
func eventOf(sequence uint64, aggregate string) inbox.Event {
	return inbox.Event{Sequence: sequence, Entry: outbox.Entry{
		Message: relaytest.NewMessage(aggregate, int64(sequence)), Position: outbox.Position(sequence), RecordedAt: time.Now(),
	}}
}

func batchOf(from inbox.Checkpoint, events ...inbox.Event) inbox.Batch {
	last := events[len(events)-1].Sequence
	return inbox.Batch{From: from, To: inbox.StreamPosition{Sequence: last, StoredAt: time.Unix(int64(last), 1)}, Events: events}
}

// applyAll applies a batch at the lane's checkpoint, and returns the outcome. The handler fails for events that are marked as
// suspects.
func applyAll(t *testing.T, in *postgres.Inbox, events ...inbox.Event) inbox.Outcome {
	t.Helper()
	suspects := make(map[string]bool)
	for _, event := range events {
		suspects[event.ID] = event.Suspect
	}
	handler := handlerFunc(func(_ context.Context, _ inbox.Tx, entry outbox.Entry) error {
		if suspects[entry.ID] {
			return errors.New("it fails")
		}
		return nil
	})
	outcome, err := in.Apply(t.Context(), emails, batchOf(lookAt(t, in), events...), handler, thrice)
	require.NoError(t, err)
	return outcome
}

// thrice makes an event dead at its third failure. After earlier failures, the event is tried again in an hour.
func thrice(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
	return inbox.Failure{Cause: err, Limit: 3, Wait: time.Hour}, nil
}

var ignore = handlerFunc(func(context.Context, inbox.Tx, outbox.Entry) error { return nil })

// TestFrozenCopyFreesItsLane checks a copy that freezes inside a transaction. After the idle timeout, another copy can use the
// lane, and the late commit of the frozen copy fails.
func TestFrozenCopyFreesItsLane(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	frozen := postgres.NewInbox(h.db, postgres.InboxOptions{IdleTimeout: 300 * time.Millisecond})
	batch := batchOf(beginLane(t, in), eventOf(1, "a"))
	customer := newCustomer()
	add := handlerFunc(func(ctx context.Context, tx inbox.Tx, _ outbox.Entry) error {
		return postgres.NewTotals().Add(ctx, tx, customer, value.NewMoney(1, "USD"))
	})
	var pause time.Duration
	_, err := frozen.Apply(t.Context(), emails, batch, handlerFunc(func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
		begun := time.Now()
		require.Eventually(t, func() bool {
			_, err := in.Apply(t.Context(), emails, batch, add, thrice)
			if err != nil {
				require.ErrorIs(t, err, inbox.ErrLaneMoved)
			}
			return err == nil
		}, 10*time.Second, 10*time.Millisecond)
		pause = time.Since(begun)
		return add(ctx, tx, entry)
	}), thrice)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	require.GreaterOrEqual(t, pause, 200*time.Millisecond)
	require.Equal(t, []string{fmt.Sprintf("emails %s USD 1 1", customer)}, readTotals(t, h))
}

// TestSlowHandlers checks that the handlers of a batch may together take longer than the idle timeout. If one handler alone
// takes longer, the error names its event.
func TestSlowHandlers(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{IdleTimeout: 500 * time.Millisecond})
	sleeping := func(each time.Duration) handlerFunc {
		return func(context.Context, inbox.Tx, outbox.Entry) error {
			time.Sleep(each)
			return nil
		}
	}
	batch := batchOf(beginLane(t, in), eventOf(1, "a"), eventOf(2, "b"), eventOf(3, "c"), eventOf(4, "d"), eventOf(5, "e"))
	_, err := in.Apply(t.Context(), emails, batch, sleeping(200*time.Millisecond), thrice)
	require.NoError(t, err)

	event := eventOf(6, "a")
	_, err = in.Apply(t.Context(), emails, batchOf(lookAt(t, in), event), sleeping(time.Second), thrice)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "the handler of event "+event.ID+" took 1")
	require.ErrorContains(t, err, "raise the idle timeout")
}

// TestCopiesThatAreGone checks how long a copy counts as present after its last heartbeat, and that its row is deleted later.
func TestCopiesThatAreGone(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	age := func(instance string, by time.Duration) {
		exec(t, h.others, "UPDATE subscriber_copies SET seen_at = seen_at - ? * interval '1 microsecond' WHERE instance = ?", by.Microseconds(), instance)
	}
	heartbeat := func(instance string) inbox.View {
		t.Helper()
		view, err := in.Heartbeat(t.Context(), emails, instance)
		require.NoError(t, err)
		return view
	}
	see := func(want ...string) {
		t.Helper()
		heartbeat("fresh")
		require.Equal(t, want, heartbeat("me").Copies)
	}
	const slack = 2 * time.Second // for a busy machine
	heartbeat("old")
	age("old", inbox.CopyTimeout-slack)
	see("fresh", "me", "old")
	age("old", slack)
	see("fresh", "me")
	require.Equal(t, 3, count(t, h, "SELECT count(*) FROM subscriber_copies"))
	age("old", time.Minute)
	see("fresh", "me")
	require.Equal(t, 2, count(t, h, "SELECT count(*) FROM subscriber_copies"))
	heartbeat("old")
	see("fresh", "me", "old")
}

// TestCopiesLookTogether checks that heartbeats of many copies do not block each other, even when all rows of copies are
// outdated.
func TestCopiesLookTogether(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	for range 10 {
		begun := time.Now()
		var copies sync.WaitGroup
		for i := range 12 {
			copies.Go(func() {
				if _, err := in.Heartbeat(t.Context(), emails, fmt.Sprint("copy-", i)); err != nil {
					t.Error(err)
				}
			})
		}
		copies.Wait()
		require.Less(t, time.Since(begun), 5*time.Second)
		exec(t, h.others, "UPDATE subscriber_copies SET seen_at = seen_at - interval '1 hour'")
	}
}

// TestStatementsOfABatch checks that a batch sends as many statements as a lone event, if there are no letters and no event
// comes twice.
func TestStatementsOfABatch(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	at := beginLane(t, in)
	customers := []value.CustomerID{newCustomer(), newCustomer()}
	add := handlerFunc(func(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
		return postgres.NewTotals().Add(ctx, tx, customers[entry.Position%2], value.NewMoney(1, "USD"))
	})
	for _, n := range []uint64{1, 2, 100} {
		var events []inbox.Event
		for i := range n {
			events = append(events, eventOf(at.Sequence+i+1, "a"))
		}
		sent := &statements{}
		hooked := postgres.NewInbox(h.db.WithQueryHook(sent), postgres.InboxOptions{})
		outcome, err := hooked.Apply(t.Context(), emails, batchOf(at, events...), add, thrice)
		require.NoError(t, err)
		at = outcome.Checkpoint
		require.Equal(t, []string{"BEGIN", "WITH", "INSERT", "COMMIT"}, verbs(sent.queries))
		require.Equal(t, n > 1, strings.Contains(sent.queries[1], "unnest"))
		require.Equal(t, n == 1, strings.Contains(sent.queries[2], "VALUES"))
	}
}

// verbs returns the first word of each statement.
func verbs(statements []string) []string {
	found := make([]string, len(statements))
	for i, statement := range statements {
		found[i] = strings.Fields(statement)[0]
	}
	return found
}

// TestLettersAreFoundByTheirIndex checks that the statements with which a lane asks about letters, once for each batch, use an
// index.
func TestLettersAreFoundByTheirIndex(t *testing.T) {
	h := newHarness(t)
	plan := func(statement string, args ...any) (plan string) {
		require.NoError(t, h.others.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
			exec(t, tx, "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
			var lines []string
			require.NoError(t, tx.NewRaw("EXPLAIN "+statement, args...).Scan(ctx, &lines))
			plan = strings.Join(lines, "\n")
			return nil
		}))
		return plan
	}
	take := plan(postgres.TakeStatement, emails, 0, 1, "STREAM", 1, 1, 1, "STREAM", 2, 2, nil, "5000")
	require.Regexp(t, `dead_letters_of\b`, take)
	require.Regexp(t, `subscriber_lanes_pkey\b`, take)
	held := plan(postgres.FindHeldStatement, emails, `{"order"}`, `{"a"}`)
	require.Regexp(t, `dead_letters_of.*\n?.*Index Cond: .*hashtextextended`, held)
}

// TestLaneWaitsForNoLetter checks a lane that meets a letter which another transaction has locked. The lane does not wait: it
// holds the later events of the aggregate. After the letter has ended, these events can be redelivered.
func TestLaneWaitsForNoLetter(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	beginLane(t, in)
	first := eventOf(1, "a")
	first.Suspect = true
	require.Equal(t, []inbox.Result{inbox.SetAside}, applyAll(t, in, first).Results)
	second := eventOf(2, "a")
	require.NoError(t, h.others.RunInTx(t.Context(), nil, func(_ context.Context, tx bun.Tx) error {
		exec(t, tx, "DELETE FROM dead_letters WHERE subscriber = ? AND event_id = ?", emails, first.ID)
		begun := time.Now()
		require.Equal(t, []inbox.Result{inbox.Held}, applyAll(t, in, second).Results)
		require.Less(t, time.Since(begun), 2*time.Second)
		return nil
	}))
	done, found, err := in.Redeliver(t.Context(), emails, inbox.Redelivery{Limit: 10}, ignore, thrice)
	require.NoError(t, err)
	require.True(t, found)
	require.Len(t, done.Applied, 1)
	require.Equal(t, second.ID, done.Applied[0].ID)
	require.Equal(t, []inbox.Result{inbox.Applied}, applyAll(t, in, eventOf(3, "a")).Results)
}

// TestSubscriberProgress checks the progress of subscribers that the relay's metrics show.
func TestSubscriberProgress(t *testing.T) {
	h := newHarness(t)
	in := postgres.NewInbox(h.db, postgres.InboxOptions{})
	progress, err := h.relayAdmin().Progress(t.Context())
	require.NoError(t, err)
	require.Empty(t, progress)
	for _, name := range []string{emails, "Billing's ?0", "billing"} {
		require.NoError(t, in.CreateLanes(t.Context(), name, 3, "STREAM", inbox.StreamPosition{Sequence: 10}))
	}
	view, err := in.Heartbeat(t.Context(), "billing", "me")
	require.NoError(t, err)
	_, err = in.Rewind(t.Context(), "billing", view.Lanes[1], "ANOTHER", inbox.StreamPosition{Sequence: 4})
	require.NoError(t, err)
	applyTo := inbox.Batch{From: view.Lanes[0], To: inbox.StreamPosition{Sequence: 20}}
	_, err = in.Apply(t.Context(), "billing", applyTo, ignore, thrice)
	require.NoError(t, err)
	progress, err = h.relayAdmin().Progress(t.Context())
	require.NoError(t, err)
	require.Equal(t, []operations.SubscriberProgress{
		{Subscriber: "Billing's ?0", Stream: "STREAM", Sequence: 10, Lanes: 3},
		{Subscriber: "billing", Stream: "ANOTHER", Sequence: 4, Lanes: 3},
		{Subscriber: emails, Stream: "STREAM", Sequence: 10, Lanes: 3},
	}, progress)
}
