package ordering_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

func deliveries(t *testing.T, s *fixture, id order.ID) []orders.Delivery {
	t.Helper()
	events, err := s.Events(t.Context(), order.Anyone(), id)
	require.NoError(t, err)
	var states []orders.Delivery
	for i, event := range events {
		require.EqualValues(t, i+1, event.Version, "oldest first")
		require.Equal(t, event.Delivery == orders.Published, !event.PublishedAt.IsZero())
		states = append(states, event.Delivery)
	}
	return states
}

// TestEventsTellWhereTheyAre checks that an event counts as published only if the stream holds it, whatever the cursor says. The test does
// the work of the relay.
func TestEventsTellWhereTheyAre(t *testing.T) {
	s := newFixture()
	id := s.placed(t).ID
	other := s.placed(t).ID
	for _, change := range []func(context.Context, order.ID) (order.Snapshot, error){s.pay, s.ship} {
		_, err := change(t.Context(), id)
		require.NoError(t, err)
	}
	const pending, published, passed = orders.Pending, orders.Published, orders.Passed
	require.Equal(t, []orders.Delivery{pending, pending, pending}, deliveries(t, s, id))

	log := s.log.Committed()
	_, err := s.stream.Open(t.Context(), 1)
	require.NoError(t, err)
	_, err = s.stream.Publish(t.Context(), 0, log[:3])
	require.NoError(t, err)
	require.Equal(t, []orders.Delivery{published, published, pending}, deliveries(t, s, id), "before the relay says so")
	require.Equal(t, []orders.Delivery{published}, deliveries(t, s, other))
	events, err := s.Events(t.Context(), order.Anyone(), id)
	require.NoError(t, err)
	require.Equal(t, []string{orders.TypeCreated, orders.TypePaid, orders.TypeShipped}, []string{events[0].Type, events[1].Type, events[2].Type})
	want := log[2]
	want.Payload = nil // Events does not read the payload
	require.Equal(t, want, events[1].Entry)
	require.WithinDuration(t, time.Now(), events[1].PublishedAt, time.Minute)

	s.cursors.Edit(func(cursor *relay.Cursor) { cursor.Position = log[3].Position })
	require.Equal(t, []orders.Delivery{published, published, passed}, deliveries(t, s, id), "the cursor alone proves nothing")
	s.stream.Delete(1)
	require.Equal(t, []orders.Delivery{passed, published, passed}, deliveries(t, s, id))
	s.log.Purge(log[0].Position)
	events, err = s.Events(t.Context(), order.Anyone(), id)
	require.NoError(t, err)
	require.Len(t, events, 2, "what retention has removed is not told")

	_, err = s.Events(t.Context(), order.Anyone(), "00000000-0000-7000-8000-00000000dead")
	require.ErrorIs(t, err, orders.ErrOrderNotFound)
}

func TestParkedEventsSayWhy(t *testing.T) {
	s := newFixture()
	term, err := memory.NewElector(s.lease, "leader").Acquire(t.Context(), 0)
	require.NoError(t, err)
	lot := memory.NewParking(s.cursors)
	id := s.placed(t).ID
	entry := s.log.Committed()[0]
	settle := func(tail relay.MessageMeta, sequence uint64) {
		t.Helper()
		cursor, err := s.cursors.Load(t.Context())
		require.NoError(t, err)
		_, err = lot.Reconcile(t.Context(), relay.WriteFence{Token: term.Token, Revision: cursor.Revision}, tail, sequence, true)
		require.NoError(t, err)
	}
	requireEvent := func(delivery orders.Delivery) {
		t.Helper()
		events, err := s.Events(t.Context(), order.Anyone(), id)
		require.NoError(t, err)
		require.Equal(t, delivery, events[0].Delivery)
		require.Equal(t, "too large", events[0].Reason)
	}
	settle(relay.MessageMeta{Own: true, Progress: entry.Progress(), Parked: "too large"}, 1)
	requireEvent(orders.Parked)
	_, err = lot.Redrive(t.Context(), &entry.Key)
	require.NoError(t, err)
	requireEvent(orders.Parked)

	_, err = s.stream.Open(t.Context(), 1)
	require.NoError(t, err)
	_, err = s.stream.Redrive(t.Context(), 0, entry.Progress(), []outbox.Entry{entry})
	require.NoError(t, err)
	settle(relay.MessageMeta{Own: true, Progress: entry.Progress(), Event: entry.Position, Redriven: true}, 1)
	requireEvent(orders.Published)
	s.stream.Delete(1)
	requireEvent(orders.Passed)

	id = s.placed(t).ID
	entry = s.log.Committed()[1]
	settle(relay.MessageMeta{Own: true, Progress: entry.Progress(), Parked: "too large", LastOwnSequence: 1}, 2)
	require.NoError(t, lot.Discard(t.Context(), entry.Position))
	requireEvent(orders.Discarded)
}

// silent is a broker that never answers.
type silent struct{}

func (silent) Find(ctx context.Context, _ outbox.Progress, _ uint64) (time.Time, error) {
	<-ctx.Done()
	return time.Time{}, ctx.Err()
}

// TestASilentBrokerCostsTwoSeconds checks that Events waits two seconds in all for a broker that does not answer, not for each event.
func TestASilentBrokerCostsTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFixture()
		id := s.placed(t).ID
		_, err := s.pay(t.Context(), id)
		require.NoError(t, err)
		s.cursors.Edit(func(cursor *relay.Cursor) { cursor.Position = 1 })
		s.Service = ordering.New(ordering.Ports{Work: s.uow, Orders: memory.NewOrderReader(s.uow), Notifier: s.notifier, Log: s.cursors, Finder: silent{}}, nil, nil)
		start := time.Now()
		require.Equal(t, []orders.Delivery{orders.Passed, orders.Pending}, deliveries(t, s, id))
		require.Equal(t, 2*time.Second, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.Events(ctx, order.Anyone(), id)
		require.ErrorIs(t, err, context.DeadlineExceeded, "a caller who does not wait is not answered by half")
	})
}
