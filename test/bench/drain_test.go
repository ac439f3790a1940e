package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"go.opentelemetry.io/otel/metric"
	nometer "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/relay"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// drainFigures are rates in events per second, one of each round.
type drainFigures struct {
	relay, unmeasured, raw []float64
	single                 float64
	settings               string
}

const (
	rounds    = 3
	batchSize = 1000
)

// measureDrain lets the relay drain a backlog, with and without metrics, then sends the very messages that it sent as raw
// batches, from memory, and so on in turns, each into a new stream.
func measureDrain(t *testing.T, size scale) drainFigures {
	t.Helper()
	database, broker := infra.Database(t), infra.Broker(t)
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	fill(t, db, size.events)
	nc, err := nats.Connect(broker)
	require.NoError(t, err)
	defer nc.Close()
	js, err := natsjs.New(nc)
	require.NoError(t, err)

	figures := drainFigures{settings: settings(t, db)}
	for round := range rounds {
		name := "UNMEASURED" + strconv.Itoa(round)
		rate := perSecond(size.events, drain(t, database, broker, name, size.events, nometer.NewMeterProvider()))
		figures.unmeasured = append(figures.unmeasured, rate)
		require.NoError(t, js.DeleteStream(t.Context(), name))

		name = "RELAY" + strconv.Itoa(round)
		rate = perSecond(size.events, drain(t, database, broker, name, size.events, meters(t)))
		figures.relay = append(figures.relay, rate)
		messages := readStream(t, js, name, size.events)
		require.NoError(t, js.DeleteStream(t.Context(), name))

		rawStream(t, js, fmt.Sprintf("RAW-%d", round), func() {
			figures.raw = append(figures.raw, perSecond(size.events, timed(func() { publishBatches(t, js, messages) })))
		})
		if round == rounds-1 {
			rawStream(t, js, "SINGLE", func() { figures.single = perSecond(size.singles, publishSingly(t, js, messages[:size.singles])) })
		}
	}
	return figures
}

// fill makes the backlog: 1,000 orders whose events take turns, with bodies of 300 bytes and the headers of an order
// that was placed without a collector.
func fill(t *testing.T, db *sql.DB, events int) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), `
		INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, headers, payload)
		SELECT gen_random_uuid(), 'order', lpad((n % 1000)::text, 8, '0') || '-0000-7000-8000-000000000000', n / 1000 + 1,
			'outboxie.order.created.v1', 'orders.created',
			jsonb_build_object('traceparent', '00-' || md5(n::text) || '-' || left(md5(n::text), 16) || '-00'),
			json_build_object('n', lpad(n::text, 7, '0'), 'body', repeat('x', 270))
		FROM generate_series(0, $1 - 1) AS n`, events)
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

func settings(t *testing.T, db *sql.DB) string {
	t.Helper()
	var version, fsync, commit string
	require.NoError(t, db.QueryRowContext(t.Context(),
		"SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')").
		Scan(&version, &fsync, &commit))
	return fmt.Sprintf("Postgres %s with fsync %s and synchronous_commit %s; NATS with sync_interval always, in the process that measures",
		version, fsync, commit)
}

// meters are those of `serve`.
func meters(t *testing.T) metric.MeterProvider {
	t.Helper()
	tel, err := telemetry.Setup(t.Context(), telemetry.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tel.Shutdown(context.Background())) })
	return tel.MeterProvider()
}

// drain runs a relay as `serve` does, until everything is published, and returns how long that took: campaign and
// take-over included, connecting and the creation of the stream not.
func drain(t *testing.T, database, broker, name string, events int, mp metric.MeterProvider) time.Duration {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	db, err := postgres.Open(postgres.Options{URL: database})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.PingContext(t.Context()))
	nc, err := jetstream.Connect(jetstream.Options{URL: broker, Name: name, Logger: quiet})
	require.NoError(t, err)
	defer nc.Close()
	publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: name, Logger: quiet})
	require.NoError(t, err)
	_, err = publisher.Open(t.Context(), true)
	require.NoError(t, err)
	const ttl = 3 * time.Second
	bell := memory.NewBell()
	traced := telemetry.TraceRelay(noop.NewTracerProvider(), name, telemetry.RelayPorts{
		Log: postgres.NewLog(db, name, quiet), Cursors: postgres.NewCursorStore(db, name, name),
		Publisher: publisher, Elector: postgres.NewElector(db, name, "bench", ttl),
	})
	r := relay.New(relay.Ports{
		Log: traced.Log, Cursors: traced.Cursors, Elector: traced.Elector,
		Publisher: telemetry.MeasurePublisher(mp, name, traced.Publisher),
		Parking:   postgres.NewParking(db, name), Retention: postgres.NewRetention(db, name), Waker: bell, Alarm: bell,
	}, relay.Options{
		LeaseTTL: ttl, Poll: 500 * time.Millisecond, Slice: outbox.Slice{Count: batchSize, Bytes: 4 << 20},
	}, quiet)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	taken := timed(func() {
		go func() { ended <- r.Run(ctx) }()
		for began := time.Now(); r.Status().Sequence < uint64(events); time.Sleep(time.Millisecond) {
			require.Less(t, time.Since(began), patience, "the relay: %+v", r.Status())
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
		message, err := delivered.Next(natsjs.NextMaxWait(patience))
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

// rawStream does something with a stream like the relay's in place.
// Its name was never used before: the broker may still be removing the files of a stream that was deleted.
func rawStream(t *testing.T, js natsjs.JetStream, name string, do func()) {
	t.Helper()
	_, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: name, Subjects: []string{"orders.>"}, AllowAtomicPublish: true})
	require.NoError(t, err)
	do()
	require.NoError(t, js.DeleteStream(t.Context(), name))
}

// publishBatches has one batch under way at a time, and asks for no acknowledgement but the last, which is the fastest.
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

// timed starts from a heap without garbage, so that nobody pays for what was done before.
func timed(do func()) time.Duration {
	runtime.GC()
	began := time.Now()
	do()
	return time.Since(began)
}

// ratios compares each drain with what was done right before or after it, so that a machine that slows down slows both.
func (f drainFigures) ratios(with []float64) []float64 {
	ratios := make([]float64, len(f.relay))
	for i := range ratios {
		ratios[i] = f.relay[i] / with[i]
	}
	return ratios
}

func perSecond(events int, taken time.Duration) float64 { return float64(events) / taken.Seconds() }

func (f drainFigures) print(w io.Writer, size scale) {
	relayed, raw := median(f.relay), median(f.raw)
	fmt.Fprintf(w, "%s\n\n", f.settings)
	fmt.Fprintf(w, "A backlog of %d events\tmedian\t%s\n", size.events, "the rounds, events/s")
	fmt.Fprintf(w, "  drained by the relay\t%.0f\t%.0f\n", relayed, f.relay)
	fmt.Fprintf(w, "  the same without metrics\t%.0f\t%.0f\n", median(f.unmeasured), f.unmeasured)
	fmt.Fprintf(w, "  raw atomic batches of %d from memory\t%.0f\t%.0f\n", batchSize, raw, f.raw)
	fmt.Fprintf(w, "  %d single synchronous publishes\t%.0f\n", size.singles, f.single)
	fmt.Fprintf(w, "  The relay has %.0f %% of the raw batches' rate (median of the rounds), and %.1f times that of single publishes.\n",
		100*median(f.ratios(f.raw)), relayed/f.single)
	fmt.Fprintf(w, "  With metrics it has %.0f %% of the rate that it has without (median of the rounds).\n", 100*median(f.ratios(f.unmeasured)))
}
