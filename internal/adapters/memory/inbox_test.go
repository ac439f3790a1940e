package memory_test

import (
	"context"
	"errors"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

const (
	billing  = "billing"
	customer = value.CustomerID("018f5e4c-0000-7000-8000-000000000001")
	created  = "1"
)

// counting is a handler that adds 5.00 for each event, unless fails returns an error for it.
type counting struct {
	fails func(ctx context.Context, entry outbox.Entry) error
}

func (c counting) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	if c.fails != nil {
		if err := c.fails(ctx, entry); err != nil {
			return err
		}
	}
	return memory.NewTotals().Add(ctx, tx, customer, value.NewMoney(500, "USD"))
}

func (counting) Name() string    { return "test" }
func (counting) Types() []string { return nil }
func (counting) External() bool  { return false }

func (counting) Applied(context.Context, outbox.Entry) {}

// retried is a failure policy that lets a failed event be tried again at once, at most three times.
func retried(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
	return inbox.Failure{Cause: err, Permanent: inbox.Permanent(err), Limit: 3}, nil
}

// begun returns an inbox with one lane before the first message, and the checkpoint of this lane.
func begun(t *testing.T) (*memory.Inbox, inbox.Checkpoint) {
	t.Helper()
	applied := memory.NewInbox()
	require.NoError(t, applied.CreateLanes(t.Context(), billing, 1, created, inbox.StreamPosition{}))
	return applied, looked(t, applied)
}

func looked(t *testing.T, applied *memory.Inbox) inbox.Checkpoint {
	t.Helper()
	view, err := applied.Heartbeat(t.Context(), billing, "here")
	require.NoError(t, err)
	require.Len(t, view.Lanes, 1)
	view.Lanes[0].Idle = 0
	return view.Lanes[0]
}

// batchOf returns a batch after a checkpoint. Its n events belong to ten aggregates.
func batchOf(from inbox.Checkpoint, n int) inbox.Batch {
	batch := inbox.Batch{From: from, To: inbox.StreamPosition{Sequence: from.Sequence + uint64(n), StoredAt: time.Now()}}
	for i, entry := range relaytest.NewEntries(outbox.Position(from.Sequence), n) {
		batch.Events = append(batch.Events, inbox.Event{Entry: entry, Sequence: from.Sequence + uint64(i) + 1})
	}
	return batch
}

func requireUnavailable(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), err.Error())
}

// TestIdleTransactionIsEnded checks that a copy that stalls loses its transaction. Another copy applies the batch, and nothing
// of the first copy's transaction is kept.
func TestIdleTransactionIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		applied, from := begun(t)
		applied.IdleTimeout = time.Second
		batch := batchOf(from, 2)
		stalled := make(chan error)
		go func() {
			_, err := applied.Apply(t.Context(), billing, batch, counting{func(context.Context, outbox.Entry) error {
				time.Sleep(time.Minute)
				return nil
			}}, retried)
			stalled <- err
		}()
		time.Sleep(time.Second / 2)
		_, err := applied.Apply(t.Context(), billing, batch, counting{}, retried)
		require.ErrorIs(t, err, inbox.ErrLaneMoved, "another transaction works on the lane")
		time.Sleep(time.Second)
		outcome, err := applied.Apply(t.Context(), billing, batch, counting{}, retried)
		require.NoError(t, err)
		require.Equal(t, []inbox.Result{inbox.Applied, inbox.Applied}, outcome.Results)
		requireUnavailable(t, <-stalled)
		require.Len(t, applied.History(billing), 2)
		require.Equal(t, memory.Total{AmountMinor: big.NewInt(1000), Orders: 2}, applied.Total(billing, customer, "USD"))
	})
}

// TestDisconnectFreesRows checks that a broken connection ends its transaction, even before the copy notices.
func TestDisconnectFreesRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		applied, from := begun(t)
		batch, broken := batchOf(from, 1), make(chan error)
		go func() {
			_, err := applied.Apply(t.Context(), billing, batch, counting{func(context.Context, outbox.Entry) error {
				time.Sleep(time.Second)
				return nil
			}}, retried)
			broken <- err
		}()
		synctest.Wait()
		applied.Disconnect()
		_, err := applied.Apply(t.Context(), billing, batch, counting{}, retried)
		requireUnavailable(t, err)
		applied.Reconnect()
		_, err = applied.Apply(t.Context(), billing, batch, counting{}, retried)
		require.NoError(t, err)
		requireUnavailable(t, <-broken)
		require.Len(t, applied.History(billing), 1)
	})
}

// TestCommitThatFailsOrIsLost checks that a failed commit keeps nothing, and that a commit whose answer is lost keeps
// everything.
func TestCommitThatFailsOrIsLost(t *testing.T) {
	applied, from := begun(t)
	batch := batchOf(from, 1)
	applied.FailNextCommit()
	_, err := applied.Apply(t.Context(), billing, batch, counting{}, retried)
	require.Error(t, err)
	require.Equal(t, from, looked(t, applied))

	applied.LoseNextCommit()
	_, err = applied.Apply(t.Context(), billing, batch, counting{}, retried)
	requireUnavailable(t, err)
	require.Equal(t, batch.To.Sequence, looked(t, applied).Sequence)
	require.Len(t, applied.History(billing), 1)
	_, err = applied.Apply(t.Context(), billing, batch, counting{}, retried)
	require.ErrorIs(t, err, inbox.ErrLaneMoved)
}

// TestRecordsWaitForEachOther checks two lanes that get the same event. The second transaction waits until the first one ends,
// and then finds a duplicate.
func TestRecordsWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		applied := memory.NewInbox()
		require.NoError(t, applied.CreateLanes(t.Context(), billing, 2, created, inbox.StreamPosition{}))
		view, err := applied.Heartbeat(t.Context(), billing, "here")
		require.NoError(t, err)
		slow := counting{func(context.Context, outbox.Entry) error { time.Sleep(time.Second); return nil }}
		first := batchOf(view.Lanes[0], 1)
		second := first
		second.From = view.Lanes[1]
		done := make(chan error)
		go func() {
			_, err := applied.Apply(t.Context(), billing, first, slow, retried)
			done <- err
		}()
		synctest.Wait()
		start := time.Now()
		outcome, err := applied.Apply(t.Context(), billing, second, counting{}, retried)
		require.NoError(t, err)
		require.Equal(t, time.Second, time.Since(start))
		require.Equal(t, []inbox.Result{inbox.Duplicate}, outcome.Results)
		require.NoError(t, <-done)
	})
}

// TestStepsOfATransaction checks that other transactions can run between the steps, and that they see no change before the
// commit.
func TestStepsOfATransaction(t *testing.T) {
	applied, from := begun(t)
	batch := batchOf(from, 1)
	var steps []string
	pause := func(_ context.Context, step string) {
		if step != "look" {
			steps = append(steps, step)
			hook := applied.OnStep
			applied.OnStep = nil
			require.Equal(t, from, looked(t, applied), step)
			applied.OnStep = hook
			require.Empty(t, applied.History(billing), step)
			require.False(t, applied.Applied(billing, batch.Events[0].ID), step)
		}
	}
	applied.OnStep = pause
	_, err := applied.Apply(t.Context(), billing, batch, counting{}, retried)
	require.NoError(t, err)
	require.Equal(t, []string{"begin", "take the lane", "read letters", "record", "handle", "flush", "move"}, steps)
	applied.OnStep = nil
	require.Len(t, applied.History(billing), 1)
}

// TestSuspectEventIsSetAside checks that a suspect event that fails does not stop its batch. Later events of its aggregate are
// held. A redelivery applies all of them in order.
func TestSuspectEventIsSetAside(t *testing.T) {
	applied, from := begun(t)
	batch := batchOf(from, 3)
	batch.Events[0].Suspect = true
	batch.Events[2].Key = batch.Events[0].Key
	poison := counting{func(_ context.Context, entry outbox.Entry) error {
		if entry.ID == batch.Events[0].ID {
			return errors.New("poison")
		}
		return nil
	}}
	outcome, err := applied.Apply(t.Context(), billing, batch, poison, retried)
	require.NoError(t, err)
	require.Equal(t, []inbox.Result{inbox.SetAside, inbox.Applied, inbox.Held}, outcome.Results)
	require.Len(t, outcome.Letters, 1)
	require.Equal(t, inbox.Retrying, outcome.Letters[0].State)

	held, err := applied.Letter(t.Context(), billing, batch.Events[2].ID)
	require.NoError(t, err)
	require.Equal(t, inbox.Waiting, held.State)
	all, err := applied.Letters(t.Context(), billing, 10)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, 1, all[0].Behind)

	_, _, err = applied.Redeliver(t.Context(), billing, inbox.Redelivery{Limit: 10}, poison, retried)
	var failed *inbox.EventError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 0, failed.Index)
	done, found, err := applied.Redeliver(t.Context(), billing, inbox.Redelivery{Limit: 10}, counting{}, retried)
	require.NoError(t, err)
	require.True(t, found)
	require.Len(t, done.Applied, 2)
	history := applied.History(billing)
	require.Equal(t, batch.Events[2].ID, history[2].ID)
	_, found, err = applied.Redeliver(t.Context(), billing, inbox.Redelivery{Limit: 10}, counting{}, retried)
	require.NoError(t, err)
	require.False(t, found)
}

// TestDiscardWaitsForTheRedelivery checks that a letter cannot be discarded while a redelivery applies it: Discard waits, and
// then finds no letter.
func TestDiscardWaitsForTheRedelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		applied, from := begun(t)
		batch := batchOf(from, 1)
		batch.Events[0].Suspect = true
		_, err := applied.Apply(t.Context(), billing, batch, counting{func(context.Context, outbox.Entry) error {
			return errors.New("poison")
		}}, retried)
		require.NoError(t, err)
		done := make(chan error)
		go func() {
			_, _, err := applied.Redeliver(t.Context(), billing, inbox.Redelivery{Limit: 1}, counting{func(context.Context, outbox.Entry) error {
				time.Sleep(time.Second)
				return nil
			}}, retried)
			done <- err
		}()
		synctest.Wait()
		_, found, err := applied.Redeliver(t.Context(), billing, inbox.Redelivery{Limit: 1}, counting{}, retried)
		require.NoError(t, err)
		require.False(t, found, "nobody else has the letter")
		require.ErrorIs(t, applied.Discard(t.Context(), billing, batch.Events[0].ID), inbox.ErrNoLetter)
		require.NoError(t, <-done)
		require.Len(t, applied.History(billing), 1)
	})
}
