package subscribing_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

const (
	orderID  = order.ID("018f0000-0000-7000-8000-000000000001")
	customer = order.CustomerID("550e8400-e29b-41d4-a716-446655440000")
)

// decoderOf reads messages by their ids; what it does not know is unreadable.
type decoderOf map[string]order.Event

func (d decoderOf) Decode(message outbox.Message) (order.Event, error) {
	if event, known := d[message.ID]; known {
		return event, nil
	}
	return nil, inbox.ErrUnreadable
}

// told are the entries of events, and what reads them.
func told(events ...order.Event) ([]outbox.Entry, decoderOf) {
	entries, decoder := outboxtest.NewEntries(0, len(events)), make(decoderOf)
	for i, event := range events {
		decoder[entries[i].ID] = event
	}
	return entries, decoder
}

func placed(t *testing.T, amount string, currency order.Currency) order.Fact {
	t.Helper()
	money, err := order.ParseMoney(amount, currency)
	require.NoError(t, err)
	placed, err := order.Place(orderID, customer, money, time.Now())
	require.NoError(t, err)
	return order.Fact{Order: placed.Snapshot(), At: time.Now()}
}

func TestTotalsCountCreatedOrders(t *testing.T) {
	fact := placed(t, "100.50", "USD")
	entries, decoder := told(
		order.Created{Fact: fact}, order.Paid{Fact: fact}, order.Shipped{Fact: fact}, order.Cancelled{Fact: fact},
		order.Created{Fact: fact}, order.Created{Fact: placed(t, "700", "JPY")},
	)
	applied, logs := memory.NewInbox(), &lines{}
	totals := subscribing.NewTotals(subscriber, decoder, applied, slog.New(logs))
	for _, entry := range entries {
		require.NoError(t, totals.Handle(t.Context(), entry))
		require.True(t, applied.Applied(subscriber, entry.ID), "every event is recorded")
	}
	require.Equal(t, memory.Total{AmountMinor: 201_00, Orders: 2}, applied.Total(subscriber, customer, "USD"))
	require.Equal(t, memory.Total{AmountMinor: 700, Orders: 1}, applied.Total(subscriber, customer, "JPY"))
	require.Zero(t, applied.Total("somebody else", customer, "USD"))

	told := logs.at(slog.LevelInfo)
	require.Len(t, told, len(entries))
	for i, text := range []string{"created", "paid", "shipped", "cancelled", "created", "created"} {
		require.Equal(t, "Received order "+text+" event", told[i].text)
	}
	require.Equal(t, map[string]any{
		"subscriber": subscriber, "order_id": string(orderID), "customer_id": string(customer),
		"amount": "100.50", "currency": "USD", "position": int64(1), "event_id": entries[0].ID,
	}, told[0].attrs)
}

func TestTotalsCountAnEventOnce(t *testing.T) {
	entries, decoder := told(order.Created{Fact: placed(t, "1", "USD")})
	applied, logs := memory.NewInbox(), &lines{}
	for _, subscriber := range []string{"billing", "shipping"} {
		totals := subscribing.NewTotals(subscriber, decoder, applied, slog.New(logs))
		for range 3 {
			require.NoError(t, totals.Handle(t.Context(), entries[0]))
		}
		require.Equal(t, memory.Total{AmountMinor: 100, Orders: 1}, applied.Total(subscriber, customer, "USD"))
	}
	require.Len(t, logs.at(slog.LevelInfo), 2)
	require.Len(t, logs.at(slog.LevelDebug), 4)
}

func TestTotalsKeepNothingOfAFailure(t *testing.T) {
	entries, decoder := told(order.Created{Fact: placed(t, "1", "USD")})
	applied, logs := memory.NewInbox(), &lines{}
	totals := subscribing.NewTotals(subscriber, decoder, applied, slog.New(logs))

	require.ErrorIs(t, totals.Handle(t.Context(), outboxtest.NewEntries(0, 1)[0]), inbox.ErrUnreadable)
	applied.FailNextCommit()
	require.Error(t, totals.Handle(t.Context(), entries[0]))
	refusing := subscribing.NewTotals(subscriber, decoder, fullUnitOfWork{}, slog.New(logs))
	require.ErrorIs(t, refusing.Handle(t.Context(), entries[0]), errFull)

	require.Zero(t, applied.Total(subscriber, customer, "USD"))
	require.False(t, applied.Applied(subscriber, entries[0].ID))
	require.Empty(t, logs.all)
}

var errFull = errors.New("the total is full")

// fullUnitOfWork is a unit of work in which no total can grow.
type fullUnitOfWork struct{}

func (fullUnitOfWork) Once(
	ctx context.Context, _ string, _ outbox.Entry, fn func(ctx context.Context, tx inbox.Tx) error,
) (bool, error) {
	return false, fn(ctx, inbox.Tx{Totals: fullUnitOfWork{}})
}

func (fullUnitOfWork) Add(context.Context, order.CustomerID, order.Money) error { return errFull }

// TestLostAcknowledgementCountsOnce: the effect is there, the source does not know, and sends the event again.
func TestLostAcknowledgementCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entries, decoder := told(order.Created{Fact: placed(t, "1", "USD")}, order.Created{Fact: placed(t, "2", "USD")})
		stream, applied, logs := newStream(t), memory.NewInbox(), &lines{}
		publish(t, stream, entries...)
		totals := subscribing.NewTotals(subscriber, decoder, applied, slog.New(logs))
		stop := start(t, &faulty{Source: sourceOf(stream), ack: once()}, totals, defaults, logs)
		pass(ackWait / 2)
		require.Equal(t, memory.Total{AmountMinor: 100, Orders: 1}, applied.Total(subscriber, customer, "USD"))
		pass(ackWait)
		stop()
		require.Equal(t, memory.Total{AmountMinor: 300, Orders: 2}, applied.Total(subscriber, customer, "USD"))
		require.Len(t, logs.at(slog.LevelInfo), 2)
		require.Len(t, logs.at(slog.LevelDebug), 1)
		require.Len(t, logs.at(slog.LevelWarn), 1)
		require.Empty(t, logs.at(slog.LevelError))
	})
}

// TestCrashBetweenEffectAndAcknowledgement: the first copy dies with the event in hand, after its transaction committed.
func TestCrashBetweenEffectAndAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entries, decoder := told(order.Created{Fact: placed(t, "1", "USD")})
		stream, applied, logs := newStream(t), memory.NewInbox(), &lines{}
		publish(t, stream, entries...)
		totals := subscribing.NewTotals(subscriber, decoder, applied, slog.New(logs))
		_, err := sourceOf(stream).Next(t.Context())
		require.NoError(t, err)
		require.NoError(t, totals.Handle(t.Context(), entries[0]))

		stop := start(t, sourceOf(stream), totals, defaults, logs)
		pass(2 * ackWait)
		stop()
		require.Equal(t, memory.Total{AmountMinor: 100, Orders: 1}, applied.Total(subscriber, customer, "USD"))
		require.Len(t, logs.at(slog.LevelDebug), 1, "it came again and was dropped")
	})
}
