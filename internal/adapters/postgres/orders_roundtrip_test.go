package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// step is a change of an order. It is nil if the order is placed.
type step func(o *order.Order, note value.Note, at time.Time) (order.Snapshot, error)

var (
	payStep  step = func(o *order.Order, note value.Note, at time.Time) (order.Snapshot, error) { return o.Pay(note, at) }
	shipStep step = func(o *order.Order, note value.Note, at time.Time) (order.Snapshot, error) {
		return o.Ship(note, note, at)
	}
	cancelStep step = func(o *order.Order, note value.Note, at time.Time) (order.Snapshot, error) { return o.Cancel(note, at) }
)

// TestEventsSurviveTheDatabase checks, for each type of event and with boundary values, that what the codec writes can be read after a trip through
// Postgres. Each event after the first is made from the order that was loaded again, as the service does. The loaded order equals the order of the
// last event, and each event of the log is decoded to the event that was encoded.
func TestEventsSurviveTheDatabase(t *testing.T) {
	notes := []value.Note{
		"", " ", "0", value.Note(strings.Repeat("𝄞", 200)), `it's "?0" \u0000 \ </script> {"a": 1}`, "e\u0301\u2028\u2029\u202e\ufeff", "null", "2026-02-30",
	}
	amounts := []value.Money{
		value.NewMoney(1, "USD"), value.NewMoney(1, "JPY"), value.NewMoney(1, "KWD"),
		value.NewMoney(value.MaxAmount, "USD"), value.NewMoney(value.MaxAmount, "JPY"), value.NewMoney(value.MaxAmount, "KWD"),
		value.NewMoney(100, "USD"), value.NewMoney(1050, "KWD"),
	}
	times := []time.Time{ // the service rounds down to microseconds
		time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 30, 8, 30, 0, 1_000, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
	}
	h := shop{newHarness(t)}
	trip := roundTrip{t: t, work: postgres.NewUnitOfWork(h.db), codec: codec.New(nil)}
	for i, note := range notes {
		for _, steps := range [][]step{{payStep, shipStep}, {payStep, cancelStep}, {cancelStep}} {
			trip.run(amounts[i%len(amounts)], note, times[i%len(times)], steps)
		}
	}

	stored := h.Entries(t)
	require.Len(t, stored, len(trip.events))
	seen := make(map[string]bool)
	for i, entry := range stored {
		decoded, err := trip.codec.Decode(entry.Message)
		require.NoError(t, err)
		require.Equal(t, trip.events[i], decoded, "%s", entry.Payload)
		seen[entry.Type] = true
	}
	for _, eventType := range orders.EventTypes() {
		require.Equal(t, strings.HasPrefix(eventType, "outboxie.order."), seen[eventType], eventType)
	}
}

// roundTrip stores orders and their events, and keeps the events as they were encoded.
type roundTrip struct {
	t      *testing.T
	work   orders.UnitOfWork
	codec  *codec.Codec
	events []order.Event
}

// run places an order, and changes it step by step, each time in a transaction of its own.
func (r *roundTrip) run(amount value.Money, note value.Note, at time.Time, steps []step) {
	r.t.Helper()
	placed, err := order.Place(newOrder(r.t).Snapshot().ID, newCustomer(), amount, at)
	require.NoError(r.t, err)
	id := placed.Snapshot().ID
	r.do(func(ctx context.Context, tx orders.Tx) error { return r.store(ctx, tx, placed) })
	for _, change := range steps {
		r.do(func(ctx context.Context, tx orders.Tx) error {
			loaded, err := tx.Orders.Get(ctx, id)
			require.NoError(r.t, err)
			require.Equal(r.t, order.DataOf(r.events[len(r.events)-1]).Order, loaded.Snapshot())
			_, err = change(loaded, note, at)
			require.NoError(r.t, err)
			return r.store(ctx, tx, loaded)
		})
	}
}

func (r *roundTrip) do(fn func(ctx context.Context, tx orders.Tx) error) {
	r.t.Helper()
	require.NoError(r.t, r.work.Do(r.t.Context(), fn))
}

func (r *roundTrip) store(ctx context.Context, tx orders.Tx, o *order.Order) error {
	event := o.PullEvents()[0]
	message, err := r.codec.Encode(event, order.Anyone())
	require.NoError(r.t, err)
	r.events = append(r.events, event)
	if err := tx.Orders.Save(ctx, o); err != nil {
		return err
	}
	return tx.Outbox.Append(ctx, message)
}
