package jetstream_test

import (
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operating"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

func lags(t *testing.T, consumers *jetstream.Consumers) []operating.Lag {
	t.Helper()
	found, err := consumers.Lags(t.Context())
	require.NoError(t, err)
	return found
}

func TestLags(t *testing.T) {
	b := newBroker(t)
	consumers, err := jetstream.NewConsumers(b.connect(), stream)
	require.NoError(t, err)
	require.Empty(t, lags(t, consumers), "there is no stream")

	s := &sources{broker: b, publisher: b.opened()}
	source := s.source(t)
	entries := outboxtest.NewEntries(0, 3)
	s.Append(t, entries...)
	_, err = s.publisher.Notify(t.Context(), 3, outbox.Notice{Progress: entries[2].Progress()})
	require.NoError(t, err)
	require.Empty(t, lags(t, consumers), "nobody has subscribed yet")
	_, err = b.admin.CreateConsumer(t.Context(), stream, natsjs.ConsumerConfig{Durable: "strange", FilterSubject: "orders.paid"})
	require.NoError(t, err)
	_, err = b.admin.CreateConsumer(t.Context(), stream, natsjs.ConsumerConfig{FilterSubject: "orders.>"})
	require.NoError(t, err)

	first := take(t, source, entries[0])
	time.Sleep(200 * time.Millisecond)
	found := lags(t, consumers)
	require.Len(t, found, 1)
	require.Greater(t, found[0].Oldest, 150*time.Millisecond)
	require.Equal(t, operating.Lag{Subscriber: subscribe, Events: 3, Oldest: found[0].Oldest}, found[0])
	require.NoError(t, first.Ack(t.Context()))
	require.NoError(t, take(t, source, entries[1]).Ack(t.Context()))
	require.EqualValues(t, 1, lags(t, consumers)[0].Events)
	require.NoError(t, take(t, source, entries[2]).Ack(t.Context()))
	require.Equal(t, []operating.Lag{{Subscriber: subscribe}}, lags(t, consumers), "the notice is no event")

	b.Disconnect(t)
	_, err = consumers.Lags(t.Context())
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}
