package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// longBatch is a limit: if a batch has so many messages, its spans are recorded while the next batch is published. To record the spans of a
// thousand messages takes half as long as to publish the messages, and publishing mostly waits for the broker.
const longBatch = 100

// maxLinks is how many links a span has at most; OpenTelemetry drops more.
const maxLinks = 128

// publisher traces messages. A published or redriven batch with a sampled message is a trace of its own, "send <stream>". It links to at most
// 128 of the sampled messages. Each sampled message that was stored gets a span "outbox relay" in its own trace. That span lasts
// from the recording of the message to the acknowledgement of the stream, and shows the wait in the outbox. Its events are the incidents
// during the wait. A message that the broker refuses gets such a span with an error. A message that is not sampled costs nothing. publisher
// does not change messages. A control message is a trace of its own, "notify <stream>".
type publisher struct {
	next      relay.Publisher
	tracer    trace.Tracer
	stream    string
	by        Source
	incidents *incidents
}

func (p *publisher) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	began := time.Now()
	info, err := p.next.Open(ctx, first)
	p.incidents.addFailure(ctx, streamFailed, err, began)
	return info, err
}

func (p *publisher) Look(ctx context.Context) (relay.StreamInfo, error) {
	began := time.Now()
	info, err := p.next.Look(ctx)
	p.incidents.addFailure(ctx, streamFailed, err, began)
	return info, err
}

func (p *publisher) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	began := time.Now()
	meta, err := p.next.At(ctx, sequence)
	p.incidents.addFailure(ctx, streamFailed, err, began)
	return meta, err
}

func (p *publisher) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	return p.send(ctx, after, batch, func(ctx context.Context) (uint64, error) {
		return p.next.Publish(ctx, after, batch)
	})
}

func (p *publisher) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	return p.send(ctx, after, batch, func(ctx context.Context) (uint64, error) {
		return p.next.Redrive(ctx, after, at, batch)
	})
}

func (p *publisher) PublishControl(ctx context.Context, after uint64, message relay.ControlMessage) (uint64, error) {
	sending, span := p.tracer.Start(ctx, "notify "+p.stream, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			semconv.MessagingDestinationName(p.stream),
			semconv.MessagingClientID(p.by.Instance),
			messagingSystem,
			semconv.MessagingOperationName("notify"),
			semconv.MessagingOperationTypeSend,
			positionKey.Int64(int64(message.Position)),
		), trace.WithAttributes(p.by.server()...))
	defer span.End()
	last, err := p.next.PublishControl(sending, after, message)
	if err == nil {
		span.SetAttributes(SequenceKey.Int64(int64(last)))
	}
	Record(span, err)
	return last, err
}

func (p *publisher) send(
	ctx context.Context, after uint64, batch []outbox.Entry, next func(context.Context) (uint64, error),
) (uint64, error) {
	began := time.Now()
	if !anySampled(batch) {
		last, err := next(ctx)
		p.failed(ctx, err, began)
		return last, err
	}
	sending, send := p.tracer.Start(ctx, "send "+p.stream, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithLinks(links(ctx, batch)...), trace.WithAttributes(
			semconv.MessagingDestinationName(p.stream),
			semconv.MessagingClientID(p.by.Instance),
			messagingSystem,
			semconv.MessagingOperationName("send"),
			semconv.MessagingOperationTypeSend,
			semconv.MessagingBatchMessageCount(len(batch)),
		), trace.WithAttributes(p.by.server()...))
	defer send.End()
	last, err := next(sending)
	answered := time.Now()
	p.failed(ctx, err, began)

	stored := storedOf(batch, after, last)
	if send.IsRecording() {
		send.SetAttributes(storedKey.Int(stored))
		Record(send, err)
	}
	outcome := batchOutcome{at: answered, link: trace.WithLinks(), incidents: p.incidents.soFar()}
	if send.SpanContext().IsSampled() {
		outcome.link = trace.WithLinks(trace.Link{SpanContext: send.SpanContext()})
	}
	p.incidents.recording.Wait()
	if stored < longBatch {
		p.recordWaits(ctx, batch[:stored], after, outcome)
	} else {
		p.incidents.recording.Go(func() { p.recordWaits(ctx, batch[:stored], after, outcome) })
	}
	var refused *relay.RefusedError
	if errors.As(err, &refused) && isSampled(refused.Entry.Headers) {
		span := p.startWait(ctx, &refused.Entry, outcome)
		Record(span, err)
		span.End(trace.WithTimestamp(answered))
	}
	return last, err
}

// batchOutcome is the part of the outcome that is the same for all messages of a batch.
type batchOutcome struct {
	at        time.Time             // when the broker answered
	link      trace.SpanStartOption // to the batch's span
	incidents incidentList          // up to the answer
}

// recordWaits records the wait of each sampled message of stored as a span. The messages directly follow the sequence after in the stream.
func (p *publisher) recordWaits(ctx context.Context, stored []outbox.Entry, after uint64, outcome batchOutcome) {
	for i := range stored {
		if isSampled(stored[i].Headers) {
			span := p.startWait(ctx, &stored[i], outcome, SequenceKey.Int64(int64(after)+int64(i)+1))
			span.End(trace.WithTimestamp(outcome.at))
		}
	}
}

// storedOf returns how many messages of batch were stored. after is the stream's last sequence before the batch, last the one after it.
func storedOf(batch []outbox.Entry, after, last uint64) int {
	if last <= after {
		return 0
	}
	return int(min(last-after, uint64(len(batch))))
}

// failed adds a failed append as an incident. A refusal is not an incident, because it concerns one message only.
func (p *publisher) failed(ctx context.Context, err error, began time.Time) {
	if err == nil || ctx.Err() != nil {
		return
	}
	if refused := (*relay.RefusedError)(nil); !errors.As(err, &refused) {
		p.incidents.add(publishFailed, err.Error(), began, errorTypeOf(err))
	}
}

// startWait starts the span that shows, in the trace of the message, how long the message waited in the outbox and why.
func (p *publisher) startWait(ctx context.Context, entry *outbox.Entry, outcome batchOutcome, more ...attribute.KeyValue) trace.Span {
	created := creationContext(ctx, entry.Headers)
	if !created.IsValid() {
		return noop.Span{}
	}
	start := entry.RecordedAt // from the database's clock, which may be ahead of this process
	if start.IsZero() || start.After(outcome.at) {
		start = outcome.at
	}
	_, span := p.tracer.Start(trace.ContextWithRemoteSpanContext(ctx, created), WaitSpan, trace.WithTimestamp(start), outcome.link,
		messageAttributes(&entry.Message, p.by.Instance, append(more, positionKey.Int64(int64(entry.Position)))...))
	outcome.incidents.record(span, start)
	return span
}

func anySampled(batch []outbox.Entry) bool {
	for i := range batch {
		if isSampled(batch[i].Headers) {
			return true
		}
	}
	return false
}

// links returns links to the first sampled messages of batch, at most maxLinks.
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
