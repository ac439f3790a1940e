// Package orderstest holds the contract suite of the driven ports of package orders. Each adapter calls TestUnitOfWork from a test of its
// own, with a Harness over its store.
package orderstest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/outboxietest/contracttest"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// Harness is a store without orders and entries. It serves at least 16 transactions at once.
type Harness interface {
	relaytest.Connection
	UnitOfWork() orders.UnitOfWork
	OrderReader() orders.OrderReader
	ExpiredKeys() orders.ExpiredKeys
	SetSequence(t *testing.T, position outbox.Position)                 // as relaytest.LogHarness does
	AgeKeys(t *testing.T, by time.Duration)                             // makes all committed claims older
	FailNextCommit(t *testing.T)                                        // fails the next commit of a transaction that saves or appends something
	Order(t *testing.T, id order.ID) (state order.Snapshot, found bool) // as it was committed last
	Entries(t *testing.T) []outbox.Entry                                // all that were committed, in order of position
}

// patience is the longest wait for something that must happen. soon is how long a test watches that something does not happen.
const (
	patience = 30 * time.Second
	soon     = 100 * time.Millisecond
)

// TestUnitOfWork checks orders.UnitOfWork, orders.Orders, orders.OrderReader, orders.Keys with orders.ExpiredKeys, and the transaction's
// relay.Appender. Each call of open returns an empty store.
func TestUnitOfWork(t *testing.T, open func(t *testing.T) Harness) {
	check := contracttest.Runner(t, open)
	check("Do commits before it returns", commit)
	check("nobody sees what is not committed", isolation)
	check("an error keeps nothing", failure)
	check("a panic keeps nothing and goes on", panics)
	check("a failing commit is an error", failingCommit)
	check("a failed statement cannot be committed over", aborted)
	check("a context that has ended begins nothing", endedBefore)
	check("a context that ends keeps nothing", endedDuring)
	check("a lost connection is an outage", outage)
	check("a connection lost midway is an outage too", outageDuring)
	check("a transaction is dead when Do returns", dead)
	check("an order comes back as it was saved", orderContent)
	check("an order that is not there is not found", orderNotFound)
	check("a second order with the same id is an error", orderExists)
	check("events must be pulled before an order is saved", orderUnpulled)
	check("orders are listed newest first", listOrder)
	check("a list is filtered", listFilter)
	check("a list is read page by page while it grows", listPages)
	check("of several savers one wins", orderRace)
	check("a saved order is locked until the end", orderLocked)
	check("a claim holds", claimHolds)
	check("the same key in another scope is another key", claimScopes)
	check("looking for a claim claims nothing", claimHeld)
	check("after a rollback the key is free", claimGivenUp)
	check("of several claimers one wins", claimRace)
	check("the second to claim waits for the first", claimWaits)
	check("an expired claim is taken over", claimExpires)
	check("expired claims are deleted in portions", claimsDeleted)
	check("several delete expired claims at once", claimsDeletedAtOnce)
	check("deleting claims fails in an outage", claimsDeletedInAnOutage)
	check("an entry comes out as it went in", appendContent)
	check("entries stand in the order given", appendOrder)
	check("positions ascend with versions", appendVersions)
	check("invalid messages are refused", appendInvalid)
	check("a version is taken once", appendVersionTaken)
	check("a taken position is ErrSequenceBehind", appendPositionTaken)
}

// work is the body of a transaction.
type work = func(ctx context.Context, tx orders.Tx) error

func newUUID() string { return relaytest.NewMessage("", 1).ID }

func newOrder(t *testing.T) *order.Order {
	t.Helper()
	amount, err := value.ParseMoney("100.50", "USD")
	require.NoError(t, err)
	// A whole number of microseconds, which is what databases keep.
	o, err := order.Place(order.ID(newUUID()), value.CustomerID(newUUID()), amount, time.Now().UTC().Truncate(time.Microsecond))
	require.NoError(t, err)
	return o
}

// save saves an order and then appends its events, as a use case does. Saving locks the order.
func save(ctx context.Context, tx orders.Tx, o *order.Order) error {
	var messages []outbox.Message
	for _, event := range o.PullEvents() {
		state := order.DataOf(event).Order
		message := relaytest.NewMessage(string(state.ID), state.Version)
		message.Key.Type = orders.AggregateType
		messages = append(messages, message)
	}
	if err := tx.Orders.Save(ctx, o); err != nil {
		return err
	}
	return tx.Outbox.Append(ctx, messages...)
}

// saving returns the body of a transaction that saves o.
func saving(o *order.Order) work {
	return func(ctx context.Context, tx orders.Tx) error { return save(ctx, tx, o) }
}

// Changes of an order, with fixed arguments.
func pay(o *order.Order, now time.Time) error {
	_, err := o.Pay("P-1", now)
	return err
}

func ship(o *order.Order, now time.Time) error {
	_, err := o.Ship("UPS", `'1Z' "?0" \`, now)
	return err
}

func cancel(o *order.Order, now time.Time) error {
	_, err := o.Cancel("слишком поздно", now)
	return err
}

// changing returns the body of a transaction that reads an order, changes it and saves it.
func changing(id order.ID, verb func(*order.Order, time.Time) error) work {
	return func(ctx context.Context, tx orders.Tx) error {
		o, err := tx.Orders.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := verb(o, time.Now()); err != nil {
			return err
		}
		return save(ctx, tx, o)
	}
}

func do(t *testing.T, h Harness, fn work) {
	t.Helper()
	require.NoError(t, h.UnitOfWork().Do(t.Context(), fn))
}

// placed commits a new order with its event, and returns the order.
func placed(t *testing.T, h Harness) order.Snapshot {
	t.Helper()
	o := newOrder(t)
	do(t, h, saving(o))
	return o.Snapshot()
}

// requireOnly requires that the store has these orders unchanged, and exactly one entry for each of them.
func requireOnly(t *testing.T, h Harness, kept ...order.Snapshot) {
	t.Helper()
	var keys, want []string
	for _, entry := range h.Entries(t) {
		keys = append(keys, entry.Key.ID)
	}
	for _, state := range kept {
		want = append(want, string(state.ID))
		stored, found := h.Order(t, state.ID)
		require.True(t, found)
		require.Equal(t, state, stored)
	}
	require.Equal(t, want, keys)
}

func requireNoOrder(t *testing.T, h Harness, id order.ID) {
	t.Helper()
	_, found := h.Order(t, id)
	require.False(t, found)
}

func commit(t *testing.T, h Harness) {
	first, second := placed(t, h), placed(t, h)
	requireOnly(t, h, first, second)
	do(t, h, func(context.Context, orders.Tx) error { return nil })
	do(t, h, changing(first.ID, pay))
	stored, _ := h.Order(t, first.ID)
	require.Equal(t, order.StatusPaid, stored.Status)
	require.Equal(t, int64(2), stored.Version)
	last := h.Entries(t)[2]
	require.Equal(t, outbox.Key{Type: orders.AggregateType, ID: string(first.ID)}, last.Key)
	require.Equal(t, int64(2), last.Version)
}

func isolation(t *testing.T, h Harness) {
	kept, o := placed(t, h), newOrder(t)
	do(t, h, func(ctx context.Context, tx orders.Tx) error {
		require.NoError(t, save(ctx, tx, o))
		require.NoError(t, changing(kept.ID, pay)(ctx, tx))
		mine, err := tx.Orders.Get(ctx, o.Snapshot().ID)
		require.NoError(t, err)
		require.Equal(t, o.Snapshot(), mine.Snapshot())
		requireOnly(t, h, kept)
		requireNoOrder(t, h, o.Snapshot().ID)
		return nil
	})
	require.Len(t, h.Entries(t), 3)
}

var errMine = errors.New("mine")

func failure(t *testing.T, h Harness) {
	kept, o := placed(t, h), newOrder(t)
	err := h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		require.NoError(t, changing(kept.ID, pay)(ctx, tx))
		require.NoError(t, save(ctx, tx, o))
		return errMine
	})
	require.Equal(t, errMine, err, "as fn returned it")
	requireOnly(t, h, kept)
	requireNoOrder(t, h, o.Snapshot().ID)
	do(t, h, changing(kept.ID, pay))
}

func panics(t *testing.T, h Harness) {
	kept, o := placed(t, h), newOrder(t)
	for range 30 { // a panic must not keep its connection or its locks
		require.PanicsWithValue(t, "mine", func() {
			_ = h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
				require.NoError(t, changing(kept.ID, pay)(ctx, tx))
				require.NoError(t, save(ctx, tx, o))
				o = newOrder(t)
				panic("mine")
			})
		})
	}
	requireOnly(t, h, kept)
	do(t, h, changing(kept.ID, pay))
}

func failingCommit(t *testing.T, h Harness) {
	kept, o := placed(t, h), newOrder(t)
	h.FailNextCommit(t)
	done := false
	err := h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		require.NoError(t, changing(kept.ID, pay)(ctx, tx))
		require.NoError(t, save(ctx, tx, o))
		done = true
		return nil
	})
	require.Error(t, err)
	require.True(t, done)
	requireOnly(t, h, kept)
	requireNoOrder(t, h, o.Snapshot().ID)
	do(t, h, changing(kept.ID, pay))
}

func aborted(t *testing.T, h Harness) {
	kept, o := placed(t, h), newOrder(t)
	err := h.UnitOfWork().Do(t.Context(), func(ctx context.Context, tx orders.Tx) error {
		require.NoError(t, save(ctx, tx, o))
		taken := relaytest.NewMessage(string(kept.ID), 1)
		taken.Key.Type = orders.AggregateType
		_ = tx.Outbox.Append(ctx, taken) // this fails, or the commit does
		return nil
	})
	require.Error(t, err)
	requireOnly(t, h, kept)
	requireNoOrder(t, h, o.Snapshot().ID)
}

func endedBefore(t *testing.T, h Harness) {
	ended, end := context.WithCancel(t.Context())
	end()
	err := h.UnitOfWork().Do(ended, func(context.Context, orders.Tx) error {
		require.Fail(t, "it ran")
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	late, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	require.ErrorIs(t, h.UnitOfWork().Do(late, saving(newOrder(t))), context.DeadlineExceeded)
	requireOnly(t, h)
}

// midway has the points at which a test disturbs a transaction.
var midway = []struct {
	name string
	step func(disturb func(), o *order.Order) work
}{
	{"before anything", func(disturb func(), o *order.Order) work {
		return func(ctx context.Context, tx orders.Tx) error {
			disturb()
			return save(ctx, tx, o)
		}
	}},
	{"between two statements", func(disturb func(), o *order.Order) work {
		return func(ctx context.Context, tx orders.Tx) error {
			if err := save(ctx, tx, o); err != nil {
				return err
			}
			disturb()
			_, err := tx.Orders.Get(ctx, o.Snapshot().ID)
			return err
		}
	}},
	{"before the commit", func(disturb func(), o *order.Order) work {
		return func(ctx context.Context, tx orders.Tx) error {
			defer disturb()
			return save(ctx, tx, o)
		}
	}},
}

func endedDuring(t *testing.T, h Harness) {
	for _, point := range midway {
		name, step := point.name, point.step
		ctx, end := context.WithCancel(t.Context())
		o := newOrder(t)
		require.ErrorIs(t, h.UnitOfWork().Do(ctx, step(end, o)), context.Canceled, name)
		requireOnly(t, h)
		requireNoOrder(t, h, o.Snapshot().ID)
		end()
	}
	placed(t, h)
}

func requireOutage(t *testing.T, err error, when string) {
	t.Helper()
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "%s: %v", when, err)
}

func outage(t *testing.T, h Harness) {
	kept := placed(t, h)
	h.Disconnect(t)
	for range 3 {
		requireOutage(t, h.UnitOfWork().Do(t.Context(), saving(newOrder(t))), "disconnected")
	}
	_, err := h.OrderReader().Get(t.Context(), kept.ID)
	requireOutage(t, err, "disconnected, reading an order")
	_, err = h.OrderReader().List(t.Context(), orders.Filter{Limit: 1})
	requireOutage(t, err, "disconnected, listing orders")
	h.Reconnect(t)
	o := newOrder(t)
	do(t, h, saving(o))
	requireOnly(t, h, kept, o.Snapshot())
}

func outageDuring(t *testing.T, h Harness) {
	for _, point := range midway {
		name, step := point.name, point.step
		o := newOrder(t)
		requireOutage(t, h.UnitOfWork().Do(t.Context(), step(func() { h.Disconnect(t) }, o)), name)
		h.Reconnect(t)
		requireOnly(t, h)
		requireNoOrder(t, h, o.Snapshot().ID)
	}
	placed(t, h)
}

func dead(t *testing.T, h Harness) {
	kept := placed(t, h)
	for _, answer := range []error{nil, errMine} {
		var left orders.Tx
		require.Equal(t, answer, h.UnitOfWork().Do(t.Context(), func(_ context.Context, tx orders.Tx) error {
			left = tx
			return answer
		}))
		_, err := left.Orders.Get(t.Context(), kept.ID)
		require.Error(t, err)
		require.NotErrorIs(t, err, orders.ErrOrderNotFound)
		o := newOrder(t)
		o.PullEvents()
		require.Error(t, left.Orders.Save(t.Context(), o))
		_, err = left.Keys.Claim(t.Context(), newClaim("k", "too late"))
		require.Error(t, err)
		require.Error(t, left.Outbox.Append(t.Context(), relaytest.NewMessage("a", 1)))
		requireNoOrder(t, h, o.Snapshot().ID)
	}
	requireOnly(t, h, kept)
}
