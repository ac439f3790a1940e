package jetstream_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// typical returns entries of the size of order events.
func typical(n int) []outbox.Entry {
	entries := relaytest.NewEntries(0, n)
	for i := range entries {
		entries[i].Payload = []byte(`{"order_id":"550e8400-e29b-41d4-a716-446655440000","customer_id":"550e8400-e29b-41d4-a716-446655440000",` +
			`"amount":"100.50","currency":"USD","status":"created","version":1,"created_at":"2026-11-23T13:05:07.123456Z"}`)
		entries[i].Headers = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	}
	return entries
}

// BenchmarkRead reads a stream to its end, in batches of several sizes.
func BenchmarkRead(b *testing.B) {
	const events = 20_000
	server := infra.NATS(b)
	nc, err := jetstream.Connect(jetstream.Options{URL: server.URL, Name: "bench", Logger: silent})
	require.NoError(b, err)
	defer nc.Close()
	publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: stream, Subjects: subjects, Source: source, Logger: silent})
	require.NoError(b, err)
	_, err = publisher.Open(b.Context(), 1)
	require.NoError(b, err)
	_, err = publisher.Publish(b.Context(), 0, typical(events))
	require.NoError(b, err)
	reader, err := jetstream.NewReader(nc, jetstream.ReaderOptions{Stream: stream, Subjects: subjects, Subscriber: subscribe, Logger: silent})
	require.NoError(b, err)
	defer reader.Close()
	for _, count := range []int{1, 10, 100, 500, 1000, 2000} {
		b.Run(strconv.Itoa(count), func(b *testing.B) {
			next, read := uint64(1), 0
			b.ReportAllocs()
			for b.Loop() {
				messages, err := reader.Read(b.Context(), next, inbox.ReadLimit{Count: count, Bytes: 8 << 20})
				require.NoError(b, err)
				read += len(messages)
				if next += uint64(len(messages)); next > events {
					next = 1
				}
			}
			b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkLoneEvent measures the time of one event from the publisher to a subscriber. One way is a notification and a direct
// get; the other way, for comparison, is an ordered consumer.
func BenchmarkLoneEvent(b *testing.B) {
	server := infra.NATS(b)
	connect := func() *nats.Conn {
		nc, err := jetstream.Connect(jetstream.Options{URL: server.URL, Name: "bench", Logger: silent})
		require.NoError(b, err)
		b.Cleanup(nc.Close)
		return nc
	}
	publisher, err := jetstream.NewPublisher(connect(), jetstream.PublisherOptions{Stream: stream, Subjects: subjects, Source: source, Logger: silent})
	require.NoError(b, err)
	info, err := publisher.Open(b.Context(), 1)
	require.NoError(b, err)
	tail, entries := info.LastSequence, typical(1)
	measure := func(b *testing.B, arrives func() error) {
		b.Helper()
		var took []time.Duration
		for b.Loop() {
			start := time.Now()
			tail, err = publisher.Publish(b.Context(), tail, entries)
			require.NoError(b, err)
			require.NoError(b, arrives())
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	}
	b.Run("published only", func(b *testing.B) { measure(b, func() error { return nil }) })
	b.Run("notification and direct get", func(b *testing.B) {
		reader, err := jetstream.NewReader(connect(), jetstream.ReaderOptions{Stream: stream, Subjects: subjects, Subscriber: subscribe, Logger: silent})
		require.NoError(b, err)
		defer reader.Close()
		measure(b, func() error {
			for {
				<-reader.Stored()
				messages, err := reader.Read(b.Context(), tail, inbox.ReadLimit{Count: 500, Bytes: 1 << 20})
				if len(messages) > 0 || err != nil {
					return err
				}
			}
		})
	})
	b.Run("ordered consumer", func(b *testing.B) {
		js, err := connect().JetStream()
		require.NoError(b, err)
		pushed, err := js.SubscribeSync("things.>", nats.OrderedConsumer(), nats.DeliverNew())
		require.NoError(b, err)
		measure(b, func() error { _, err := pushed.NextMsg(patience); return err })
	})
}

// BenchmarkPublish compares the publisher with raw atomic batches of the same payloads. The raw messages have no header but an
// id, so that a part of the difference is the cost of the headers.
func BenchmarkPublish(b *testing.B) {
	server := infra.NATS(b)
	nc, err := jetstream.Connect(jetstream.Options{URL: server.URL, Name: "bench", Logger: silent})
	require.NoError(b, err)
	defer nc.Close()
	publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: stream, Subjects: subjects, Source: source, Logger: silent})
	require.NoError(b, err)
	info, err := publisher.Open(b.Context(), 1)
	require.NoError(b, err)
	tail := info.LastSequence
	js, err := natsjs.New(nc)
	require.NoError(b, err)
	entries := typical(1000)
	for _, n := range []int{1, 4, 8, 100, 1000} {
		b.Run("publisher/"+strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				tail, err = publisher.Publish(b.Context(), tail, entries[:n])
				require.NoError(b, err)
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "msg/s")
		})
		b.Run("raw/"+strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				messages := make([]*nats.Msg, n)
				for i := range messages {
					messages[i] = &nats.Msg{
						Subject: "things.happened", Header: nats.Header{"ce-id": {entries[i].ID}}, Data: entries[i].Payload,
					}
				}
				ack, err := jetstreamext.PublishMsgBatch(b.Context(), js, messages)
				require.NoError(b, err)
				tail = ack.Sequence
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}
