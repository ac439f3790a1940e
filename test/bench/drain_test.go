package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/infra"
)

const batchSize = 1000

// measureDrain lets the relay drain a backlog. Then it sends the same messages from memory, as raw batches. It repeats both in turns, each into
// a new stream.
func measureDrain(t *testing.T, size scale) []figure {
	t.Helper()
	database, broker := infra.Database(t), infra.Broker(t)
	fill(t, database, size.events, 0)
	requireDurable(t, database)
	nc, err := nats.Connect(broker)
	require.NoError(t, err)
	defer nc.Close()
	js, err := natsjs.New(nc)
	require.NoError(t, err)

	var relayed, raw, single []float64
	for round := range size.rounds {
		name := "RELAY" + strconv.Itoa(round)
		relayed = append(relayed, perSecond(size.events, drain(t, database, broker, name, size.events, setup(t))))
		messages := readStream(t, js, name, size.events)
		require.NoError(t, js.DeleteStream(t.Context(), name))

		rawStream(t, js, fmt.Sprintf("RAW-%d", round), func() {
			raw = append(raw, perSecond(size.events, timed(func() { publishBatches(t, js, messages) })))
		})
		if round == size.rounds-1 {
			rawStream(t, js, "SINGLE", func() {
				single = append(single, perSecond(size.singles, publishSingly(t, js, messages[:size.singles])))
			})
		}
	}
	measured := fmt.Sprintf("%.0f events/s", median(relayed))
	return []figure{
		{
			name: fmt.Sprintf("drain of a backlog of %d, 300-byte bodies", size.events), measured: measured,
			floor: fmt.Sprintf("the same messages from memory, atomic batches of %d: %.0f/s", batchSize, median(raw)),
			ratio: pairwise(relayed, raw), unit: "%", goal: 0.75,
		},
		{
			name: "the same", measured: measured, floor: fmt.Sprintf("single synchronous publishes: %.0f/s", single[0]),
			ratio: median(relayed) / single[0], unit: "x", goal: 15,
		},
	}
}

// fill makes the backlog: 1,000 orders whose events take turns, with bodies of 300 bytes and the headers of an order that was placed without a
// collector; sampledPerMille of a thousand events have a sampled trace.
func fill(t *testing.T, database string, events, sampledPerMille int) {
	t.Helper()
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `
		INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload)
		SELECT gen_random_uuid(), 'order', lpad((n % 1000)::text, 8, '0') || '-0000-7000-8000-000000000000', n / 1000 + 1,
			'outboxie.order.created.v1', 'orders.created',
			jsonb_build_object('traceparent', '00-' || md5(n::text) || '-' || left(md5(n::text), 16) ||
				CASE WHEN n % 1000 < $2 THEN '-01' ELSE '-00' END),
			json_build_object('n', lpad(n::text, 7, '0'), 'body', repeat('x', 270))
		FROM generate_series(0, $1 - 1) AS n`, events, sampledPerMille)
	require.NoError(t, err)
	for _, statement := range []string{"ANALYZE outbox", "CHECKPOINT"} {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	var shortest, longest int
	require.NoError(t, db.QueryRowContext(t.Context(),
		"SELECT min(octet_length(payload::text)), max(octet_length(payload::text)) FROM outbox").Scan(&shortest, &longest))
	require.Equal(t, []int{300, 300}, []int{shortest, longest})
}

// requireDurable fails if a server may lose what it acknowledged: its figures would be worth nothing.
func requireDurable(t *testing.T, database string) {
	t.Helper()
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	var fsync, commit string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT current_setting('fsync'), current_setting('synchronous_commit')").Scan(&fsync, &commit))
	require.Equal(t, []string{"on", "on"}, []string{fsync, commit})
}

// setup returns the telemetry of `serve`, with the settings of the environment.
func setup(t *testing.T) *telemetry.Telemetry {
	t.Helper()
	tel, err := telemetry.Setup(t.Context(), telemetry.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) }) // spans that are still in its queues are not measured
	return tel
}

// drain runs a relay as `serve` does, until everything is published, and returns how long that took. This time includes the election and the
// take-over, but not connecting and creating the stream.
func drain(t *testing.T, database, broker, name string, events int, tel *telemetry.Telemetry) time.Duration {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	db, err := postgres.Open(postgres.Options{URL: database})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.PingContext(t.Context()))
	nc, err := jetstream.Connect(jetstream.Options{URL: broker, Name: name, Logger: quiet})
	require.NoError(t, err)
	defer nc.Close()
	publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: name, Subjects: "orders.>", Source: "/outboxie/orders", Logger: quiet})
	require.NoError(t, err)
	_, err = publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	const ttl = 3 * time.Second
	notifier := memory.NewNotifier()
	ports := telemetry.TraceRelay(tel.TracerProvider(), name, telemetry.Source{Instance: "bench", Broker: nc.ConnectedAddr}, telemetry.RelayPorts{
		Log: postgres.NewLog(db, name, quiet), Cursors: postgres.NewCursorStore(db, name, name),
		Publisher: publisher, Elector: postgres.NewElector(db, name, "bench", ttl), Retention: postgres.NewRetention(db, name),
	})
	ports = telemetry.MeasureRelay(tel.MeterProvider(), name, ports)
	r := relaying.New(relaying.Ports{
		Log: ports.Log, Cursors: ports.Cursors, Elector: ports.Elector, Publisher: ports.Publisher, Liveness: jetstream.NewLiveness(nc, name, quiet),
		Parking: postgres.NewParking(db, name), Retention: ports.Retention, Notifier: notifier, Listener: notifier,
	}, relaying.Options{
		LeaseTTL: ttl, Poll: 500 * time.Millisecond, Batch: relay.ReadLimit{Count: batchSize, Bytes: 4 << 20},
	}, quiet)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	taken := timed(func() {
		go func() { ended <- r.Run(ctx) }()
		for began := time.Now(); r.Status().Sequence < uint64(events); time.Sleep(time.Millisecond) {
			require.Less(t, time.Since(began), waitTimeout, "the relay: %+v", r.Status())
		}
	})
	stop()
	require.NoError(t, <-ended)
	return taken
}

// readStream returns the stream's messages as they were before the broker and the batch added their headers. It holds
// each event once, in order.
func readStream(t *testing.T, js natsjs.JetStream, name string, events int) []*nats.Msg {
	t.Helper()
	consumer, err := js.OrderedConsumer(t.Context(), name, natsjs.OrderedConsumerConfig{})
	require.NoError(t, err)
	delivered, err := consumer.Messages()
	require.NoError(t, err)
	defer delivered.Stop()
	messages := make([]*nats.Msg, 0, events)
	for len(messages) < events {
		message, err := delivered.Next(natsjs.NextMaxWait(waitTimeout))
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(len(messages)+1), message.Headers().Get("Outbox-Position"))
		messages = append(messages, &nats.Msg{Subject: message.Subject(), Header: plain(message.Headers()), Data: message.Data()})
	}
	stream, err := js.Stream(t.Context(), name)
	require.NoError(t, err)
	require.EqualValues(t, events, stream.CachedInfo().State.LastSeq)
	return messages
}

func plain(header nats.Header) nats.Header {
	kept := make(nats.Header, len(header))
	for name, values := range header {
		if !strings.HasPrefix(name, "Nats-") {
			kept[name] = values
		}
	}
	return kept
}

// rawStream creates a stream like the relay's, calls do, and deletes the stream. Its name was never used before: the broker may still be
// removing the files of a stream that was deleted.
func rawStream(t *testing.T, js natsjs.JetStream, name string, do func()) {
	t.Helper()
	_, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: name, Subjects: []string{"orders.>"}, AllowAtomicPublish: true})
	require.NoError(t, err)
	do()
	require.NoError(t, js.DeleteStream(t.Context(), name))
}

// publishBatches sends one batch after the other, and asks only for the last acknowledgement of each batch, which is the fastest way.
func publishBatches(t *testing.T, js natsjs.JetStream, messages []*nats.Msg) {
	t.Helper()
	for first := 0; first < len(messages); first += batchSize {
		batch := messages[first:min(first+batchSize, len(messages))]
		_, err := jetstreamext.PublishMsgBatch(t.Context(), js, batch, jetstreamext.BatchFlowControl{AckFirst: false})
		require.NoError(t, err)
	}
}

func publishSingly(t *testing.T, js natsjs.JetStream, messages []*nats.Msg) time.Duration {
	t.Helper()
	for _, message := range messages {
		message.Header = plain(message.Header)
	}
	return timed(func() {
		for _, message := range messages {
			_, err := js.PublishMsg(t.Context(), message)
			require.NoError(t, err)
		}
	})
}
