package telemetry_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// stream is a fake relay.Publisher. It stores all messages, or as many as the test says.
type stream struct {
	relay.Publisher
	storesOnly int
	err        error
	in         trace.SpanContext
	got        []outbox.Entry
	at         outbox.Progress
	notice     relay.ControlMessage
}

func (s *stream) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	s.in, s.got = trace.SpanContextFromContext(ctx), batch
	if s.err != nil {
		return after + uint64(s.storesOnly), s.err
	}
	return after + uint64(len(batch)), nil
}

func (s *stream) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	s.at = at
	return s.Publish(ctx, after, batch)
}

func (s *stream) PublishControl(ctx context.Context, after uint64, notice relay.ControlMessage) (uint64, error) {
	s.notice = notice
	return s.Publish(ctx, after, make([]outbox.Entry, 1))
}

func tracePublisher(tp trace.TracerProvider, next relay.Publisher) relay.Publisher {
	return telemetry.TraceRelay(tp, "ORDERS", source, telemetry.RelayPorts{Publisher: next}).Publisher
}

func batchOf(headers ...map[string]string) []outbox.Entry {
	recordedAt := time.Now().Add(-time.Second)
	batch := make([]outbox.Entry, len(headers))
	for i, h := range headers {
		batch[i] = outbox.Entry{
			Message: message(fmt.Sprintf("e%d", i), h), Position: outbox.Position(100 + i), RecordedAt: recordedAt,
		}
	}
	return batch
}

func sampledHeaders() map[string]string { return map[string]string{"traceparent": sampledParent} }

// appends are the two ways to append events to the stream. Both are traced in the same way.
var appends = map[string]func(p relay.Publisher, ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error){
	"publish": relay.Publisher.Publish,
	"redrive": func(p relay.Publisher, ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
		return p.Redrive(ctx, after, redrivenAt, batch)
	},
}

var redrivenAt = outbox.Progress{Position: 900, EventID: "latest"}

func TestPublisherTracesBatchAndMessages(t *testing.T) {
	for name, appendTo := range appends {
		t.Run(name, func(t *testing.T) {
			next := &stream{}
			tracesBatchAndMessages(t, next, appendTo)
			require.Equal(t, name == "redrive", next.at == redrivenAt)
		})
	}
}

func tracesBatchAndMessages(
	t *testing.T, next *stream, appendTo func(relay.Publisher, context.Context, uint64, []outbox.Entry) (uint64, error),
) {
	tp, spans := record()
	ctx, _ := inSpan(tp)
	batch := batchOf(sampledHeaders(), map[string]string{"traceparent": unsampledParent}, nil,
		map[string]string{"Traceparent": sampledParent}, map[string]string{"traceparent": sampledParent[:54] + "g"})
	before := make([]outbox.Entry, len(batch))
	for i, entry := range batch {
		before[i] = entry
		before[i].Headers = maps.Clone(entry.Headers)
	}

	last, err := appendTo(tracePublisher(tp, next), ctx, 7, batch)

	require.NoError(t, err)
	require.EqualValues(t, 12, last)
	require.Equal(t, before, next.got, "the stored context travels unchanged")
	send := spans.one(t, "send ORDERS")
	require.Equal(t, trace.SpanKindClient, send.SpanKind())
	require.False(t, send.Parent().IsValid(), "a new root")
	require.Equal(t, send.SpanContext(), next.in)
	requireStoredLink(t, send)
	require.Equal(t, codes.Unset, send.Status().Code)
	require.Equal(t, map[string]any{
		"messaging.system": "nats", "messaging.operation.name": "send", "messaging.operation.type": "send",
		"messaging.destination.name": "ORDERS", "messaging.client.id": "app1",
		"server.address": "nats.example", "server.port": int64(4333), "messaging.batch.message_count": int64(5),
		"outboxie.batch.stored": int64(5),
	}, attributesOf(send))

	relay := spans.one(t, "outbox relay")
	require.Equal(t, trace.SpanKindInternal, relay.SpanKind())
	requireStoredParent(t, relay)
	require.True(t, relay.StartTime().Equal(batch[0].RecordedAt))
	require.WithinDuration(t, send.EndTime(), relay.EndTime(), time.Second)
	require.False(t, relay.EndTime().After(send.EndTime()))
	require.Len(t, relay.Links(), 1)
	require.Equal(t, send.SpanContext().SpanID(), relay.Links()[0].SpanContext.SpanID())
	require.Equal(t, map[string]any{
		"messaging.system": "nats", "messaging.destination.name": "orders.created", "messaging.message.id": "e0",
		"messaging.client.id": "app1", "outboxie.aggregate.type": "order", "outboxie.aggregate.id": "order-1", "outboxie.aggregate.version": int64(1),
		"outboxie.outbox.position": int64(100), "outboxie.stream.sequence": int64(8),
	}, attributesOf(relay))
}

func TestRelaySpanNeverEndsBeforeItStarts(t *testing.T) {
	for name, recordedAt := range map[string]time.Time{"clock ahead": time.Now().Add(time.Hour), "unknown": {}} {
		t.Run(name, func(t *testing.T) {
			tp, spans := record()
			batch := batchOf(sampledHeaders())
			batch[0].RecordedAt = recordedAt
			_, err := tracePublisher(tp, &stream{}).Publish(context.Background(), 0, batch)
			require.NoError(t, err)
			relay := spans.one(t, "outbox relay")
			require.Equal(t, relay.EndTime(), relay.StartTime())
			require.WithinDuration(t, time.Now(), relay.EndTime(), time.Minute)
		})
	}
}

func TestPublisherFailures(t *testing.T) {
	refused := &relay.RefusedError{Reason: "too large"}
	for name, c := range map[string]struct {
		err        error
		storesOnly int
		status     codes.Code
		errorType  string
		event      string
	}{
		"conflict":      {relay.ErrTailMoved, 0, codes.Unset, "tail_moved", "conflict"},
		"conflict late": {relay.ErrTailMoved, 2, codes.Unset, "tail_moved", "conflict"},
		"refused":       {refused, 1, codes.Error, "refused", "exception"},
		"outage":        {errDown, 0, codes.Error, "database_down", "exception"},
	} {
		for how, appendTo := range appends {
			t.Run(name+"/"+how, func(t *testing.T) {
				tp, spans := record()
				next := &stream{err: c.err, storesOnly: c.storesOnly}
				batch := batchOf(sampledHeaders(), sampledHeaders(), sampledHeaders())
				last, err := appendTo(tracePublisher(tp, next), context.Background(), 5, batch)

				require.Same(t, c.err, err)
				require.EqualValues(t, 5+c.storesOnly, last)
				send := spans.one(t, "send ORDERS")
				require.Equal(t, c.status, send.Status().Code)
				require.Equal(t, c.errorType, attributeOf(send, "error.type"))
				require.EqualValues(t, c.storesOnly, attributeOf(send, "outboxie.batch.stored"))
				require.Equal(t, c.event, send.Events()[0].Name)
				relayed := spans.all("outbox relay")
				require.Len(t, relayed, c.storesOnly, "only what was stored was relayed")
				for i, span := range relayed {
					require.Equal(t, fmt.Sprintf("e%d", i), attributeOf(span, "messaging.message.id"))
					require.EqualValues(t, 6+i, attributeOf(span, "outboxie.stream.sequence"))
				}
			})
		}
	}
}

// TestControlMessageIsTraced checks the span of a control message.
func TestControlMessageIsTraced(t *testing.T) {
	tp, spans := record()
	ctx, _ := inSpan(tp)
	next := &stream{}
	notice := relay.ControlMessage{Progress: outbox.Progress{Position: 100, EventID: "e0"}, Parked: "too large"}

	last, err := tracePublisher(tp, next).PublishControl(ctx, 7, notice)

	require.NoError(t, err)
	require.EqualValues(t, 8, last)
	require.Equal(t, notice, next.notice)
	span := spans.one(t, "notify ORDERS")
	require.Equal(t, []string{"notify ORDERS"}, spans.names())
	require.Equal(t, trace.SpanKindProducer, span.SpanKind())
	require.False(t, span.Parent().IsValid(), "a new root")
	require.Equal(t, span.SpanContext(), next.in)
	require.Equal(t, codes.Unset, span.Status().Code)
	require.Equal(t, map[string]any{
		"messaging.system": "nats", "messaging.operation.name": "notify", "messaging.operation.type": "send",
		"messaging.destination.name": "ORDERS", "messaging.client.id": "app1",
		"server.address": "nats.example", "server.port": int64(4333), "outboxie.outbox.position": int64(100), "outboxie.stream.sequence": int64(8),
	}, attributesOf(span))

	for err, status := range map[error]codes.Code{relay.ErrTailMoved: codes.Unset, errDown: codes.Error} {
		tp, spans = record()
		last, got := tracePublisher(tp, &stream{err: err}).PublishControl(context.Background(), 7, notice)
		require.Same(t, err, got)
		require.EqualValues(t, 7, last)
		span = spans.one(t, "notify ORDERS")
		require.Equal(t, status, span.Status().Code)
		require.Len(t, span.Events(), 1)
		require.Nil(t, attributeOf(span, "outboxie.stream.sequence"), "it was not stored")
	}
}

// TestPublisherSurvivesAnAnswerOutOfRange checks that the decorator works if an adapter returns a sequence out of range.
func TestPublisherSurvivesAnAnswerOutOfRange(t *testing.T) {
	for _, storesOnly := range []int{-3, 9} {
		tp, spans := record()
		next := &stream{err: errDown, storesOnly: storesOnly}
		_, err := tracePublisher(tp, next).Publish(context.Background(), 5, batchOf(sampledHeaders()))
		require.Same(t, errDown, err)
		require.Len(t, spans.all("outbox relay"), min(1, max(0, storesOnly)))
	}
}

func TestPublisherBoundsItsLinks(t *testing.T) {
	traced, spans := traceRelay(&driven{})
	headers := make([]map[string]string, 200)
	for i := range headers {
		headers[i] = sampledHeaders()
	}
	_, err := traced.Publisher.Publish(context.Background(), 0, batchOf(headers...))
	require.NoError(t, err)
	require.NoError(t, traced.Elector.Resign(context.Background(), relay.Term{})) // waits until all spans have ended
	require.Len(t, spans.one(t, "send ORDERS").Links(), 128)
	require.Zero(t, spans.one(t, "send ORDERS").DroppedLinks())
	require.Len(t, spans.all("outbox relay"), 200)
}

// TestUnsampledBatchLeavesNoTrace checks that a batch without a sampled order makes no span, even if the sampler samples all
// roots.
func TestUnsampledBatchLeavesNoTrace(t *testing.T) {
	for name, appendTo := range appends {
		t.Run(name, func(t *testing.T) {
			tp, spans := record()
			next := &stream{}
			last, err := appendTo(tracePublisher(tp, next), context.Background(), 5, append(unsampledBatch(2), batchOf(nil)...))
			require.NoError(t, err)
			require.EqualValues(t, 8, last)
			require.Len(t, next.got, 3)
			require.Empty(t, spans.names())
		})
	}
}

// TestRefusedMessageIsShownInItsTrace checks that a refused message gets a span with an error. Nothing else shows the refusal in its trace,
// because the message is never stored.
func TestRefusedMessageIsShownInItsTrace(t *testing.T) {
	tp, spans := record()
	batch := batchOf(sampledHeaders(), sampledHeaders())
	refused := &relay.RefusedError{Entry: batch[1], Reason: "too large"}
	_, err := tracePublisher(tp, &stream{err: refused, storesOnly: 1}).Publish(context.Background(), 5, batch)
	require.Same(t, refused, err)
	relayed := spans.all("outbox relay")
	require.Len(t, relayed, 2)
	require.Equal(t, codes.Unset, relayed[0].Status().Code)
	require.Equal(t, codes.Error, relayed[1].Status().Code)
	requireStoredParent(t, relayed[1])
	require.Equal(t, "e1", attributeOf(relayed[1], "messaging.message.id"))
	require.Equal(t, "refused", attributeOf(relayed[1], "error.type"))
	require.Nil(t, attributeOf(relayed[1], "outboxie.stream.sequence"), "it was not stored")
}

func TestRelaySpanDoesNotLinkToABatchThatNobodySees(t *testing.T) {
	tp, spans := record(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	_, err := tracePublisher(tp, &stream{}).Publish(context.Background(), 0, batchOf(sampledHeaders()))
	require.NoError(t, err)
	require.Equal(t, []string{"outbox relay"}, spans.names())
	require.Empty(t, spans.one(t, "outbox relay").Links())
}

// discard is a publisher that costs nothing itself.
type discard struct{ relay.Publisher }

func (discard) Publish(_ context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	return after + uint64(len(batch)), nil
}

func (d discard) Redrive(ctx context.Context, after uint64, _ outbox.Progress, batch []outbox.Entry) (uint64, error) {
	return d.Publish(ctx, after, batch)
}

func unsampledBatch(size int) []outbox.Entry {
	headers := make([]map[string]string, size)
	for i := range headers {
		headers[i] = map[string]string{"traceparent": unsampledParent, "tracestate": "vendor=1"}
	}
	return batchOf(headers...)
}

// TestUnsampledMessagesCostNoAllocation checks that the decorator passes on a batch of a thousand unsampled messages without a span and
// without an allocation.
func TestUnsampledMessagesCostNoAllocation(t *testing.T) {
	publisher := tracePublisher(sdktrace.NewTracerProvider(), discard{}) // samples every root
	for name, batch := range map[string][]outbox.Entry{"one": unsampledBatch(1), "many": unsampledBatch(1000)} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = publisher.Publish(ctx, 0, batch) }))
			require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = publisher.Redrive(ctx, 0, redrivenAt, batch) }))
		})
	}
	t.Run("a sampled one among them does cost something", func(t *testing.T) {
		batch := append(unsampledBatch(999), batchOf(sampledHeaders())...)
		require.NotZero(t, testing.AllocsPerRun(100, func() { _, _ = publisher.Publish(context.Background(), 0, batch) }))
	})
}

func BenchmarkPublish(b *testing.B) {
	sampled := make([]map[string]string, 1000)
	for i := range sampled {
		sampled[i] = sampledHeaders()
	}
	publisher := tracePublisher(sdktrace.NewTracerProvider(), discard{})
	for name, batch := range map[string][]outbox.Entry{"unsampled": unsampledBatch(1000), "sampled": batchOf(sampled...)} {
		b.Run(name+"/1000", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = publisher.Publish(context.Background(), 0, batch)
			}
		})
	}
}
