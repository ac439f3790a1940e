package telemetry

import (
	"context"
	"time"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	ports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// maxLinks is how many links a span has at most; OpenTelemetry drops more.
const maxLinks = 128

// TracePublisher returns next with spans around what is stored. Each batch, published or redriven, is a trace of its own, "send ORDERS", that links to
// the messages (at most 128 of them). And each message that was stored gets an "outbox relay" span in the trace of its
// order: from when it was recorded to the stream's acknowledgement, so that the wait in the outbox can be seen. Link and
// relay span are for messages whose trace is sampled; the others cost nothing. Messages are passed on as they are. A notice
// is a trace of its own, "notify ORDERS".
func TracePublisher(tp trace.TracerProvider, stream string, next ports.Publisher) ports.Publisher {
	return &publisher{Publisher: next, tracer: tracer(tp), stream: stream}
}

type publisher struct {
	ports.Publisher // Open and At are passed through: they belong to no message
	tracer          trace.Tracer
	stream          string
}

func (p *publisher) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	return p.send(ctx, after, batch, func(ctx context.Context) (uint64, error) {
		return p.Publisher.Publish(ctx, after, batch)
	})
}

func (p *publisher) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	return p.send(ctx, after, batch, func(ctx context.Context) (uint64, error) {
		return p.Publisher.Redrive(ctx, after, at, batch)
	})
}

func (p *publisher) Notify(ctx context.Context, after uint64, notice outbox.Notice) (uint64, error) {
	sending, span := p.tracer.Start(ctx, "notify "+p.stream, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			messagingSystem,
			semconv.MessagingOperationName("notify"),
			semconv.MessagingOperationTypeSend,
			semconv.MessagingDestinationName(p.stream),
			positionKey.Int64(int64(notice.Position)),
		))
	defer span.End()
	last, err := p.Publisher.Notify(sending, after, notice)
	if err == nil {
		span.SetAttributes(sequenceKey.Int64(int64(last)))
	}
	record(span, err)
	return last, err
}

func (p *publisher) send(
	ctx context.Context, after uint64, batch []outbox.Entry, next func(context.Context) (uint64, error),
) (uint64, error) {
	sending, send := p.tracer.Start(ctx, "send "+p.stream, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithLinks(links(ctx, batch)...), trace.WithAttributes(
			messagingSystem,
			semconv.MessagingOperationName("send"),
			semconv.MessagingOperationTypeSend,
			semconv.MessagingDestinationName(p.stream),
			semconv.MessagingBatchMessageCount(len(batch)),
		))
	defer send.End()
	last, err := next(sending)
	acknowledged := time.Now()

	stored := storedOf(batch, after, last)
	if send.IsRecording() {
		send.SetAttributes(storedKey.Int(stored))
		record(send, err)
	}
	for i := range batch[:stored] {
		if isSampled(batch[i].Headers) {
			p.relayed(ctx, &batch[i], after+uint64(i)+1, acknowledged, send)
		}
	}
	return last, err
}

// storedOf is how many of batch were stored after a sequence, if last is the stream's last one.
func storedOf(batch []outbox.Entry, after, last uint64) int {
	if last <= after {
		return 0
	}
	return int(min(last-after, uint64(len(batch))))
}

// relayed tells the order's own trace how long the message waited in the outbox.
func (p *publisher) relayed(
	ctx context.Context, entry *outbox.Entry, sequence uint64, acknowledged time.Time, send trace.Span,
) {
	created := creationContext(ctx, entry.Headers)
	if !created.IsValid() {
		return
	}
	start := entry.RecordedAt // by the database's clock, which may be ahead of ours
	if start.IsZero() || start.After(acknowledged) {
		start = acknowledged
	}
	options := []trace.SpanStartOption{
		trace.WithTimestamp(start),
		messageAttributes(&entry.Message,
			positionKey.Int64(int64(entry.Position)), sequenceKey.Int64(int64(sequence))),
	}
	if send.SpanContext().IsSampled() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: send.SpanContext()}))
	}
	_, span := p.tracer.Start(trace.ContextWithRemoteSpanContext(ctx, created), "outbox relay", options...)
	span.End(trace.WithTimestamp(acknowledged))
}

// links are those to the first messages of batch whose trace is sampled.
func links(ctx context.Context, batch []outbox.Entry) []trace.Link {
	var found []trace.Link
	for i := range batch {
		if len(found) == maxLinks {
			break
		}
		if !isSampled(batch[i].Headers) {
			continue
		}
		if created := creationContext(ctx, batch[i].Headers); created.IsValid() {
			found = append(found, trace.Link{SpanContext: created})
		}
	}
	return found
}
