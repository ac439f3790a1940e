package jetstream_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.MainInMemory(m) }

const (
	stream    = "ORDERS"
	subjects  = "things.>"
	source    = "/outboxie/orders"
	maxSize   = 64 << 10 // of a message, for the broker
	patience  = 30 * time.Second
	subscribe = "billing"
)

var everything = inbox.ReadLimit{Count: 1000, Bytes: 16 << 20}

var silent = slog.New(slog.DiscardHandler)

// broker is a NATS server that tests can misconfigure, stop and start again.
type broker struct {
	t         *testing.T
	server    *infra.NATSServer
	admin     natsjs.JetStream
	conns     []*nats.Conn
	notifiers [2]*jetstream.Notifier
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{t: t, server: infra.NATS(t, func(o *embedded.NATSOptions) { o.MaxPayload = maxSize })}
	t.Cleanup(func() {
		for _, nc := range b.conns {
			nc.Close()
		}
		b.server.Stop()
	})
	admin, err := natsjs.New(b.connect())
	require.NoError(t, err)
	b.admin = admin
	return b
}

func (b *broker) connect() *nats.Conn {
	b.t.Helper()
	nc, err := jetstream.Connect(jetstream.Options{URL: b.server.URL, Name: b.t.Name(), Logger: silent})
	require.NoError(b.t, err)
	b.conns = append(b.conns, nc)
	return nc
}

func (b *broker) publisher(o jetstream.PublisherOptions) *jetstream.Publisher {
	b.t.Helper()
	o.Stream, o.Subjects, o.Source = stream, subjects, source
	if o.Logger == nil {
		o.Logger = silent
	}
	publisher, err := jetstream.NewPublisher(b.connect(), o)
	require.NoError(b.t, err)
	return publisher
}

// opened returns a publisher whose stream exists.
func (b *broker) opened() *jetstream.Publisher {
	b.t.Helper()
	publisher := b.publisher(jetstream.PublisherOptions{})
	_, err := publisher.Open(b.t.Context(), 1)
	require.NoError(b.t, err)
	return publisher
}

func (b *broker) info() *natsjs.StreamInfo {
	b.t.Helper()
	found, err := b.admin.Stream(b.t.Context(), stream)
	require.NoError(b.t, err)
	return found.CachedInfo()
}

func (b *broker) Publisher() relay.StreamRepair { return b.publisher(jetstream.PublisherOptions{}) }

func (b *broker) Finder() relay.Finder {
	finder, err := jetstream.NewFinder(b.connect(), jetstream.PublisherOptions{Stream: stream, Subjects: subjects, Source: source})
	require.NoError(b.t, err)
	return finder
}

func (b *broker) Disconnect(t *testing.T) {
	t.Helper()
	b.server.Stop()
}

func (b *broker) Reconnect(t *testing.T) {
	t.Helper()
	b.server.Start()
	b.settled(t)
}

// settled waits until every connection is up and the broker knows all subscriptions. A client that has not noticed yet
// that its connection is gone believes that it is connected, and fails to flush.
func (b *broker) settled(t *testing.T) {
	t.Helper()
	for _, nc := range b.conns {
		require.Eventually(t, func() bool { return nc.IsConnected() && nc.FlushTimeout(time.Second) == nil }, patience, time.Millisecond)
	}
}

func (b *broker) AppendForeign(t *testing.T) {
	t.Helper()
	_, err := b.admin.Publish(t.Context(), "things.stray", []byte("hello"))
	require.NoError(t, err)
}

func (b *broker) Delete(t *testing.T, sequence uint64) {
	t.Helper()
	found, err := b.admin.Stream(t.Context(), stream)
	require.NoError(t, err)
	require.NoError(t, found.DeleteMsg(t.Context(), sequence))
}

func (b *broker) Drop(t *testing.T) {
	t.Helper()
	require.NoError(t, b.admin.DeleteStream(t.Context(), stream))
}

// Misconfigure switches acknowledgements off, and lets a subject be transformed.
func (b *broker) Misconfigure(t *testing.T) (repair func()) {
	t.Helper()
	before := b.info().Config
	config := before
	config.NoAck, config.SubjectTransform = true, &natsjs.SubjectTransformConfig{Source: "things.*", Destination: "elsewhere.{{wildcard(1)}}"}
	_, err := b.admin.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	return func() {
		_, err := b.admin.UpdateStream(t.Context(), before)
		require.NoError(t, err)
	}
}

func (b *broker) TooLarge() int          { return maxSize }
func (b *broker) ForeignSubject() string { return "vouchers.created" }

// Stored reads all events of the stream, as a consumer without a filter does. Control messages cannot be read as events.
func (b *broker) Stored(t *testing.T) []outbox.Entry {
	t.Helper()
	var entries []outbox.Entry
	consumer, err := b.admin.OrderedConsumer(t.Context(), stream, natsjs.OrderedConsumerConfig{})
	require.NoError(t, err)
	messages, err := consumer.Messages()
	require.NoError(t, err)
	defer messages.Stop()
	for left := b.info().State.Msgs; left > 0; left-- {
		message, err := messages.Next(natsjs.NextMaxWait(patience))
		require.NoError(t, err)
		entry, err := jetstream.Decode(message.Subject(), message.Headers(), message.Data())
		if err == nil {
			entries = append(entries, entry)
		}
	}
	return entries
}

// reading is a broker with a stream.
type reading struct {
	*broker
	publisher *jetstream.Publisher
	tail      uint64
}

func newReading(t *testing.T) *reading {
	t.Helper()
	b := newBroker(t)
	return &reading{broker: b, publisher: b.opened()}
}

func (r *reading) Append(t *testing.T, entries ...outbox.Entry) {
	t.Helper()
	var err error
	r.tail, err = r.publisher.Publish(t.Context(), r.tail, entries)
	require.NoError(t, err)
}

// reader is a reader with a connection of its own.
func (b *broker) reader(t *testing.T) *jetstream.Reader {
	t.Helper()
	return newReader(t, b.connect(), silent)
}

func newReader(t *testing.T, nc *nats.Conn, logger *slog.Logger) *jetstream.Reader {
	t.Helper()
	return newReaderOf(t, nc, subjects, logger)
}

func newReaderOf(t *testing.T, nc *nats.Conn, subjects string, logger *slog.Logger) *jetstream.Reader {
	t.Helper()
	reader, err := jetstream.NewReader(nc, jetstream.ReaderOptions{Stream: stream, Subjects: subjects, Subscriber: subscribe, Logger: logger})
	require.NoError(t, err)
	t.Cleanup(reader.Close)
	return reader
}

func (b *broker) Reader(t *testing.T) inbox.Stream { return b.reader(t) }

func newNotifiers(t *testing.T) *broker {
	b := newBroker(t)
	for i := range b.notifiers {
		b.notifiers[i] = jetstream.NewNotifier(b.connect(), stream, silent)
		runNotifier(t, b.notifiers[i])
	}
	require.Eventually(t, func() bool { return b.conns[1].NumSubscriptions() > 0 && b.conns[2].NumSubscriptions() > 0 },
		patience, time.Millisecond)
	b.settled(t)
	return b
}

func runNotifier(t *testing.T, notifier *jetstream.Notifier) {
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- notifier.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-stopped)
	})
}

func (b *broker) Notifier() relaytest.Notifier { return b.notifiers[0] }
func (b *broker) Other() relaytest.Notifier    { return b.notifiers[1] }
