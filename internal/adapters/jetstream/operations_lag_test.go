package jetstream_test

import (
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// former creates the durable consumer that an earlier version kept for a subscriber.
func (b *broker) former(t *testing.T) natsjs.Consumer {
	t.Helper()
	consumer, err := b.admin.CreateConsumer(t.Context(), stream, natsjs.ConsumerConfig{
		Durable: subscribe, FilterSubject: "things.>", AckPolicy: natsjs.AckExplicitPolicy, MaxAckPending: 1, AckWait: time.Minute,
	})
	require.NoError(t, err)
	return consumer
}

// take gets the next event from the durable consumer of an earlier version.
func take(t *testing.T, consumer natsjs.Consumer) natsjs.Msg {
	t.Helper()
	message, err := consumer.Next(natsjs.FetchMaxWait(patience))
	require.NoError(t, err)
	return message
}

func lags(t *testing.T, consumers *jetstream.SubscriberLags) []operations.Lag {
	t.Helper()
	found, err := consumers.Lags(t.Context())
	require.NoError(t, err)
	return found
}

// TestLags checks the lags of subscribers that run an earlier version.
func TestLags(t *testing.T) {
	b := newBroker(t)
	consumers, err := jetstream.NewSubscriberLags(b.connect(), stream, subjects)
	require.NoError(t, err)
	require.Empty(t, lags(t, consumers), "there is no stream")

	r := &reading{broker: b, publisher: b.opened()}
	entries := relaytest.NewEntries(0, 3)
	r.Append(t, entries...)
	_, err = r.publisher.PublishControl(t.Context(), 3, relay.ControlMessage{Progress: entries[2].Progress()})
	require.NoError(t, err)
	require.Empty(t, lags(t, consumers), "nobody has subscribed yet")
	_, err = b.admin.CreateConsumer(t.Context(), stream, natsjs.ConsumerConfig{Durable: "strange", FilterSubject: "things.paid"})
	require.NoError(t, err)
	_, err = b.admin.CreateConsumer(t.Context(), stream, natsjs.ConsumerConfig{FilterSubject: "things.>"})
	require.NoError(t, err)

	former := b.former(t)
	first := take(t, former)
	time.Sleep(200 * time.Millisecond)
	found := lags(t, consumers)
	require.Len(t, found, 1)
	require.Greater(t, found[0].Oldest, 150*time.Millisecond)
	require.Equal(t, operations.Lag{Subscriber: subscribe, Events: 3, Oldest: found[0].Oldest}, found[0])
	require.NoError(t, first.DoubleAck(t.Context()))
	require.NoError(t, take(t, former).DoubleAck(t.Context()))
	require.EqualValues(t, 1, lags(t, consumers)[0].Events)
	require.NoError(t, take(t, former).DoubleAck(t.Context()))
	require.Equal(t, []operations.Lag{{Subscriber: subscribe}}, lags(t, consumers), "the control message is no event")

	b.Disconnect(t)
	_, err = consumers.Lags(t.Context())
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}

// TestLagOf checks the lags of subscribers whose checkpoints are in a database. Control messages and removed messages do not
// count.
func TestLagOf(t *testing.T) {
	b := newBroker(t)
	consumers, err := jetstream.NewSubscriberLags(b.connect(), stream, subjects)
	require.NoError(t, err)
	_, _, err = consumers.LagOf(t.Context(), 0)
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "there is no stream")

	r := &reading{broker: b, publisher: b.opened()}
	requireLag := func(sequence uint64, want int64) time.Duration {
		t.Helper()
		events, oldest, err := consumers.LagOf(t.Context(), sequence)
		require.NoError(t, err)
		require.Equal(t, want, events)
		require.Equal(t, want == 0, oldest == 0)
		return oldest
	}
	requireLag(0, 0)
	entries := relaytest.NewEntries(0, 5)
	r.Append(t, entries[:2]...)
	time.Sleep(200 * time.Millisecond)
	r.Append(t, entries[2:]...)
	_, err = r.publisher.PublishControl(t.Context(), 5, relay.ControlMessage{Progress: entries[4].Progress()})
	require.NoError(t, err)
	require.Greater(t, requireLag(0, 5), 200*time.Millisecond)
	old := requireLag(1, 4)
	require.Less(t, requireLag(2, 3), old-150*time.Millisecond)
	requireLag(5, 0)
	requireLag(6, 0)
	requireLag(1<<40, 0)
	b.Delete(t, 3)
	requireLag(2, 2)

	b.Disconnect(t)
	_, _, err = consumers.LagOf(t.Context(), 0)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}
