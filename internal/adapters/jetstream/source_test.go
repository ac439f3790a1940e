package jetstream_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
)

func take(t *testing.T, source *jetstream.Source, want outbox.Entry) inbox.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	delivery, err := source.Next(ctx)
	require.NoError(t, err)
	entry, err := delivery.Entry()
	require.NoError(t, err)
	require.Equal(t, want.Progress(), entry.Progress())
	return delivery
}

// waiting calls Next and returns its error when it fails.
func waiting(t *testing.T, source *jetstream.Source) <-chan error {
	failed := make(chan error, 1)
	go func() {
		_, err := source.Next(t.Context())
		failed <- err
	}()
	return failed
}

func TestSourceBeforeTheStream(t *testing.T) {
	b := newBroker(t)
	s := &sources{broker: b, publisher: b.publisher(jetstream.PublisherOptions{})}
	source := s.source(t)
	_, err := source.Next(t.Context())
	require.ErrorIs(t, err, inbox.ErrNoStream)
	_, err = s.publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	entries := outboxtest.NewEntries(0, 1)
	s.Append(t, entries...)
	require.NoError(t, take(t, source, entries[0]).Ack(t.Context()))
}

func TestSourceOverRestartsAndDeletions(t *testing.T) {
	s := newSources(t)
	source := s.source(t)
	entries := outboxtest.NewEntries(0, 3)
	s.Append(t, entries[0])
	require.NoError(t, take(t, source, entries[0]).Ack(t.Context()))

	failed := waiting(t, source)
	s.untilWaiting(t)
	s.Disconnect(t)
	requireOutage(t, <-failed)
	s.Reconnect(t)
	s.Append(t, entries[1])
	require.NoError(t, take(t, source, entries[1]).Ack(t.Context()), "continues where it was")

	failed = waiting(t, source)
	s.untilWaiting(t)
	require.NoError(t, s.admin.DeleteConsumer(t.Context(), stream, subscribe))
	requireOutage(t, <-failed)
	for _, entry := range entries[:2] { // whoever deletes the consumer starts anew; the inbox drops what was applied
		require.NoError(t, take(t, source, entry).Ack(t.Context()))
	}

	failed = waiting(t, source)
	s.untilWaiting(t)
	s.Drop(t)
	requireOutage(t, <-failed)
	_, err := source.Next(t.Context())
	require.ErrorIs(t, err, inbox.ErrNoStream)
}

func (s *sources) untilWaiting(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		consumer, err := s.admin.Consumer(t.Context(), stream, subscribe)
		return err == nil && consumer.CachedInfo().NumWaiting > 0
	}, patience, 5*time.Millisecond)
}

func TestSourceNoticesSilence(t *testing.T) {
	t.Parallel()
	s := newSources(t)
	network := newProxy(t, s.server.URL)
	nc, err := jetstream.Connect(jetstream.Options{URL: network.URL, Name: t.Name(), Logger: silent})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	source, err := jetstream.NewSource(nc, jetstream.SourceOptions{Stream: stream, Subscriber: subscribe, Logger: silent})
	require.NoError(t, err)
	failed := waiting(t, source)
	s.untilWaiting(t)
	network.MuteAfter(0, "")
	select {
	case err := <-failed:
		requireOutage(t, err)
	case <-time.After(patience):
		require.Fail(t, "waits on a connection that is half open")
	}
}

func TestSubscriberIDs(t *testing.T) {
	for _, id := range []string{"", "a b", "a.b", "a*", "a>", "ü", strings.Repeat("x", 65)} {
		_, err := jetstream.NewSource(nil, jetstream.SourceOptions{Stream: stream, Subscriber: id, Logger: silent})
		require.Equal(t, fault.Invalid, fault.KindOf(err), id)
	}
}

// TestNoEcho : a connection does not hear itself, but gets what it published once the stream delivers it.
func TestNoEcho(t *testing.T) {
	b := newBroker(t)
	nc := b.connect()
	echo, err := nc.SubscribeSync("orders.>")
	require.NoError(t, err)
	publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: stream, Logger: silent})
	require.NoError(t, err)
	_, err = publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	entries := outboxtest.NewEntries(0, 20)
	_, err = publisher.Publish(t.Context(), 0, entries)
	require.NoError(t, err)
	source, err := jetstream.NewSource(nc, jetstream.SourceOptions{Stream: stream, Subscriber: subscribe, Logger: silent})
	require.NoError(t, err)
	for _, entry := range entries {
		require.NoError(t, take(t, source, entry).Ack(t.Context()))
	}
	_, err = echo.NextMsg(time.Millisecond)
	require.ErrorIs(t, err, nats.ErrTimeout)
}
