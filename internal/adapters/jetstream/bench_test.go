package jetstream_test

import (
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/ports/outbox/outboxtest"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// BenchmarkPublish compares the publisher with raw atomic batches of the same payloads. The headers alone cost something:
// raw messages have none but an id.
func BenchmarkPublish(b *testing.B) {
	server := infra.NATS(b)
	nc, err := jetstream.Connect(jetstream.Options{URL: server.URL, Name: "bench", Logger: silent})
	require.NoError(b, err)
	defer nc.Close()
	publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: stream, Logger: silent})
	require.NoError(b, err)
	info, err := publisher.Open(b.Context(), 1)
	require.NoError(b, err)
	tail := info.LastSequence
	js, err := natsjs.New(nc)
	require.NoError(b, err)
	entries := outboxtest.NewEntries(0, 1000)
	payload := []byte(`{"order_id":"550e8400-e29b-41d4-a716-446655440000","customer_id":"550e8400-e29b-41d4-a716-446655440000",` +
		`"amount":"100.50","currency":"USD","status":"created","version":1,"created_at":"2026-11-23T13:05:07.123456Z"}`)
	for i := range entries {
		entries[i].Payload = payload
		entries[i].Headers = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	}
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
						Subject: "orders.created", Header: nats.Header{"ce-id": {entries[i].ID}}, Data: payload,
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
