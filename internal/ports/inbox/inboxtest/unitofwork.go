package inboxtest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

// Total is what a customer ordered in one currency, as one subscriber has counted it.
type Total struct{ AmountMinor, Orders int64 }

// UnitOfWorkHarness is a store in which nothing was applied. It serves at least 16 transactions at once.
type UnitOfWorkHarness interface {
	outboxtest.Outages
	UnitOfWork() inbox.UnitOfWork
	FailNextCommit(t *testing.T) // of a transaction that applies an event
	// Total is what was committed; the zero Total when there is nothing.
	Total(t *testing.T, subscriber string, customer order.CustomerID, currency order.Currency) Total
}

// TestUnitOfWork runs the contract of inbox.UnitOfWork and inbox.Totals. Each call of open gives an empty store.
func TestUnitOfWork(t *testing.T, open func(t *testing.T) UnitOfWorkHarness) {
	for name, test := range map[string]func(t *testing.T, f fixture){
		"an event is applied once":                    once,
		"each subscriber applies it":                  onceForEach,
		"totals are counted by customer and currency": onceTotals,
		"of concurrent copies one applies":            onceConcurrently,
		"copies wait for the first":                   onceWaits,
		"an error keeps nothing":                      onceFailure,
		"a panic keeps nothing and goes on":           oncePanic,
		"a failing commit is an error":                onceFailingCommit,
		"a context that has ended begins nothing":     onceEnded,
		"a context that ends keeps nothing":           onceEndedDuring,
		"a lost connection is an outage":              onceOutage,
		"a transaction is dead when Once returns":     onceDead,
	} {
		t.Run(name, func(t *testing.T) { test(t, newFixture(open(t))) })
	}
}

// fixture is an event that counts an amount for a customer.
type fixture struct {
	UnitOfWorkHarness
	entry    outbox.Entry
	customer order.CustomerID
	amount   order.Money
}

const subscriber = "billing's ?0"

var errMine = errors.New("mine")

func newEntry(position outbox.Position) outbox.Entry {
	message := outboxtest.NewMessage("order's ?", 7)
	return outbox.Entry{Message: message, Position: position, RecordedAt: time.Now()}
}

func newFixture(h UnitOfWorkHarness) fixture {
	customer := order.CustomerID(newEntry(1).ID) // any UUID
	return fixture{UnitOfWorkHarness: h, entry: newEntry(40), customer: customer, amount: order.NewMoney(10050, "USD")}
}

func (f fixture) add(ctx context.Context, tx inbox.Tx) error {
	return tx.Totals.Add(ctx, f.customer, f.amount)
}

func (f fixture) once(ctx context.Context, fn func(ctx context.Context, tx inbox.Tx) error) (bool, error) {
	return f.UnitOfWork().Once(ctx, subscriber, f.entry, fn)
}

// requireApplicable requires that nothing of the event was kept, and that it can be applied now.
func (f fixture) requireApplicable(t *testing.T) {
	t.Helper()
	f.requireTotal(t, subscriber, Total{})
	applied, err := f.once(t.Context(), f.add)
	require.NoError(t, err)
	require.True(t, applied)
	f.requireTotal(t, subscriber, Total{10050, 1})
}

func (f fixture) requireTotal(t *testing.T, subscriber string, want Total) {
	t.Helper()
	require.Equal(t, want, f.Total(t, subscriber, f.customer, f.amount.Currency()))
}

func once(t *testing.T, f fixture) {
	f.requireApplicable(t)
	for range 3 {
		applied, err := f.once(t.Context(), func(context.Context, inbox.Tx) error {
			require.Fail(t, "it ran again")
			return nil
		})
		require.NoError(t, err)
		require.False(t, applied)
	}
	f.requireTotal(t, subscriber, Total{10050, 1})

	f.entry = newEntry(41) // of the same aggregate and version: the id decides
	applied, err := f.once(t.Context(), func(context.Context, inbox.Tx) error { return nil })
	require.NoError(t, err)
	require.True(t, applied, "an event without an effect is applied as well")
	applied, err = f.once(t.Context(), f.add)
	require.NoError(t, err)
	require.False(t, applied)
	f.requireTotal(t, subscriber, Total{10050, 1})
}

func onceForEach(t *testing.T, f fixture) {
	for _, name := range []string{subscriber, "shipping", "Shipping"} {
		applied, err := f.UnitOfWork().Once(t.Context(), name, f.entry, f.add)
		require.NoError(t, err)
		require.True(t, applied)
	}
	for _, name := range []string{subscriber, "shipping", "Shipping"} {
		f.requireTotal(t, name, Total{10050, 1})
	}
}

func onceTotals(t *testing.T, f fixture) {
	other := order.CustomerID(newEntry(1).ID)
	for position := range 3 {
		f.entry = newEntry(outbox.Position(position) + 1)
		applied, err := f.once(t.Context(), func(ctx context.Context, tx inbox.Tx) error {
			return errors.Join(f.add(ctx, tx), f.add(ctx, tx),
				tx.Totals.Add(ctx, f.customer, order.NewMoney(7, "JPY")),
				tx.Totals.Add(ctx, other, order.NewMoney(1<<60, "USD")))
		})
		require.NoError(t, err)
		require.True(t, applied)
	}
	f.requireTotal(t, subscriber, Total{6 * 10050, 6})
	require.Equal(t, Total{21, 3}, f.Total(t, subscriber, f.customer, "JPY"))
	require.Equal(t, Total{3 << 60, 3}, f.Total(t, subscriber, other, "USD"))
	require.Zero(t, f.Total(t, subscriber, other, "JPY"))
}

func onceConcurrently(t *testing.T, f fixture) {
	const copies, events = 16, 10
	for position := range outbox.Position(events) {
		f.entry = newEntry(position + 1)
		var ran, applied atomic.Int64
		failures := make(chan error, copies)
		var start, all sync.WaitGroup
		start.Add(1)
		for range copies {
			all.Go(func() {
				start.Wait()
				first, err := f.once(t.Context(), func(ctx context.Context, tx inbox.Tx) error {
					ran.Add(1)
					return f.add(ctx, tx)
				})
				failures <- err
				if first {
					applied.Add(1)
				}
			})
		}
		start.Done()
		all.Wait()
		close(failures)
		for err := range failures {
			require.NoError(t, err)
		}
		require.Equal(t, int64(1), ran.Load())
		require.Equal(t, int64(1), applied.Load())
	}
	f.requireTotal(t, subscriber, Total{events * 10050, events})
}

// onceWaits : a second copy waits; it applies the event when the first gives up, and has nothing to do when it commits.
func onceWaits(t *testing.T, f fixture) {
	type result struct {
		applied bool
		err     error
	}
	for _, answer := range []error{errMine, nil} {
		f.entry = newEntry(f.entry.Position + 1)
		before := f.Total(t, subscriber, f.customer, f.amount.Currency())
		second := make(chan result, 1)
		_, err := f.once(t.Context(), func(ctx context.Context, tx inbox.Tx) error {
			go func() {
				applied, err := f.once(t.Context(), f.add)
				second <- result{applied, err}
			}()
			impatient, cancel := context.WithTimeout(ctx, soon)
			defer cancel()
			applied, err := f.once(impatient, f.add)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.False(t, applied)
			require.Empty(t, second)
			return errors.Join(f.add(ctx, tx), answer)
		})
		require.ErrorIs(t, err, answer)
		select {
		case got := <-second:
			require.Equal(t, result{applied: answer != nil}, got)
		case <-time.After(patience):
			require.Fail(t, "the second copy waits for ever")
		}
		f.requireTotal(t, subscriber, Total{before.AmountMinor + 10050, before.Orders + 1})
	}
}

func onceFailure(t *testing.T, f fixture) {
	applied, err := f.once(t.Context(), func(ctx context.Context, tx inbox.Tx) error {
		require.NoError(t, f.add(ctx, tx))
		f.requireTotal(t, subscriber, Total{}) // nobody sees what is not committed
		return errMine
	})
	require.Equal(t, errMine, err, "as fn returned it")
	require.False(t, applied)
	f.requireApplicable(t)
}

func oncePanic(t *testing.T, f fixture) {
	for range 30 { // each of which would keep its connection and its locks
		require.PanicsWithValue(t, "mine", func() {
			_, _ = f.once(t.Context(), func(ctx context.Context, tx inbox.Tx) error {
				require.NoError(t, f.add(ctx, tx))
				panic("mine")
			})
		})
	}
	f.requireApplicable(t)
}

func onceFailingCommit(t *testing.T, f fixture) {
	f.FailNextCommit(t)
	ran := false
	applied, err := f.once(t.Context(), func(ctx context.Context, tx inbox.Tx) error {
		ran = true
		return f.add(ctx, tx)
	})
	require.Error(t, err)
	require.True(t, ran)
	require.False(t, applied)
	f.requireApplicable(t)
}

func onceEnded(t *testing.T, f fixture) {
	ended, end := context.WithCancel(t.Context())
	end()
	applied, err := f.once(ended, func(context.Context, inbox.Tx) error {
		require.Fail(t, "it ran")
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, applied)
	f.requireApplicable(t)
}

func onceEndedDuring(t *testing.T, f fixture) {
	for _, early := range []bool{true, false} {
		ctx, end := context.WithCancel(t.Context())
		applied, err := f.once(ctx, f.disturbed(end, early))
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, applied)
		end()
	}
	f.requireApplicable(t)
}

// disturbed adds, and is disturbed before it or else before the commit.
func (f fixture) disturbed(disturb func(), early bool) func(ctx context.Context, tx inbox.Tx) error {
	return func(ctx context.Context, tx inbox.Tx) error {
		if early {
			disturb()
		} else {
			defer disturb()
		}
		return f.add(ctx, tx)
	}
}

func onceOutage(t *testing.T, f fixture) {
	requireOutage := func(applied bool, err error) {
		t.Helper()
		require.Equal(t, fault.Unavailable, fault.KindOf(err), "%v", err)
		require.False(t, applied)
	}
	for _, early := range []bool{true, false} {
		requireOutage(f.once(t.Context(), f.disturbed(func() { f.Disconnect(t) }, early)))
		requireOutage(f.once(t.Context(), f.add))
		f.Reconnect(t)
	}
	f.requireApplicable(t)
}

func onceDead(t *testing.T, f fixture) {
	var left inbox.Tx
	for _, answer := range []error{errMine, nil} {
		_, err := f.once(t.Context(), func(_ context.Context, tx inbox.Tx) error {
			left = tx
			return answer
		})
		require.Equal(t, answer, err)
		require.Error(t, f.add(t.Context(), left))
	}
	f.requireTotal(t, subscriber, Total{})
}
