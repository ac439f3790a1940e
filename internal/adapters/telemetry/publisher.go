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

// longBatch is how many messages are told of while the next ones are published. Telling of a thousand takes as long as half
// the publishing of them, most of which is waiting for the broker.
const longBatch = 100

// maxLinks is how many links a span has at most; OpenTelemetry drops more.
const maxLinks = 128

// publisher traces what is stored. Each batch, published or redriven, that holds a sampled message is a trace of its own,
// "send ORDERS", that links to those messages (at most 128 of them). And each sampled message that was stored gets an "outbox
// relay" span in the trace of its order: from when it was recorded to the stream's acknowledgement, so that the wait in the
// outbox can be seen, with what held it up meanwhile as events. One that the broker refuses gets one that failed. What is not
// sampled costs nothing. Messages are passed on as they are. A notice is a trace of its own, "notify ORDERS".
type publisher struct {
	next    relay.Publisher
	tracer  trace.Tracer
	stream  string
	history *history
}

func (p *publisher) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	began := time.Now()
	info, err := p.next.Open(ctx, first)
	p.history.failed(ctx, streamFailed, err, began)
	return info, err
}

func (p *publisher) Look(ctx context.Context) (relay.StreamInfo, error) {
	began := time.Now()
	info, err := p.next.Look(ctx)
	p.history.failed(ctx, streamFailed, err, began)
	return info, err
}

func (p *publisher) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	began := time.Now()
	stamp, err := p.next.At(ctx, sequence)
	p.history.failed(ctx, streamFailed, err, began)
	return stamp, err
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

func (p *publisher) PublishControl(ctx context.Context, after uint64, notice relay.ControlMessage) (uint64, error) {
	sending, span := p.tracer.Start(ctx, "notify "+p.stream, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			messagingSystem,
			semconv.MessagingOperationName("notify"),
			semconv.MessagingOperationTypeSend,
			semconv.MessagingDestinationName(p.stream),
			positionKey.Int64(int64(notice.Position)),
		))
	defer span.End()
	last, err := p.next.PublishControl(sending, after, notice)
	if err == nil {
		span.SetAttributes(SequenceKey.Int64(int64(last)))
	}
	record(span, err)
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
			messagingSystem,
			semconv.MessagingOperationName("send"),
			semconv.MessagingOperationTypeSend,
			semconv.MessagingDestinationName(p.stream),
			semconv.MessagingBatchMessageCount(len(batch)),
		))
	defer send.End()
	last, err := next(sending)
	answered := time.Now()
	p.failed(ctx, err, began)

	stored := storedOf(batch, after, last)
	if send.IsRecording() {
		send.SetAttributes(storedKey.Int(stored))
		record(send, err)
	}
	told := outcome{at: answered, link: trace.WithLinks(), happened: p.history.untilNow()}
	if send.SpanContext().IsSampled() {
		told.link = trace.WithLinks(trace.Link{SpanContext: send.SpanContext()})
	}
	p.history.telling.Wait()
	if stored < longBatch {
		p.tell(ctx, batch[:stored], after, told)
	} else {
		p.history.telling.Go(func() { p.tell(ctx, batch[:stored], after, told) })
	}
	var refused *relay.RefusedError
	if errors.As(err, &refused) && isSampled(refused.Entry.Headers) {
		span := p.waited(ctx, &refused.Entry, told)
		record(span, err)
		span.End(trace.WithTimestamp(answered))
	}
	return last, err
}

// outcome is what the messages of one batch have in common: when the broker answered, the batch's span, and what had happened
// until then.
type outcome struct {
	at       time.Time
	link     trace.SpanStartOption
	happened happenings
}

// tell ends the wait of each message of stored, which are those directly after a sequence.
func (p *publisher) tell(ctx context.Context, stored []outbox.Entry, after uint64, told outcome) {
	for i := range stored {
		if isSampled(stored[i].Headers) {
			span := p.waited(ctx, &stored[i], told, SequenceKey.Int64(int64(after)+int64(i)+1))
			span.End(trace.WithTimestamp(told.at))
		}
	}
}

// storedOf is how many of batch were stored after a sequence, if last is the stream's last one.
func storedOf(batch []outbox.Entry, after, last uint64) int {
	if last <= after {
		return 0
	}
	return int(min(last-after, uint64(len(batch))))
}

// failed notes a failed append, even if that is an answer: what comes now is another one.
func (p *publisher) failed(ctx context.Context, err error, began time.Time) {
	if err == nil || ctx.Err() != nil {
		return
	}
	if refused := (*relay.RefusedError)(nil); !errors.As(err, &refused) {
		p.history.note(publishFailed, err.Error(), began, errorTypeOf(err))
	}
}

// waited starts the span that tells the order's own trace how long the message has waited in the outbox, until the broker
// answered, and why.
func (p *publisher) waited(ctx context.Context, entry *outbox.Entry, told outcome, more ...attribute.KeyValue) trace.Span {
	created := creationContext(ctx, entry.Headers)
	if !created.IsValid() {
		return noop.Span{}
	}
	start := entry.RecordedAt // by the database's clock, which may be ahead of ours
	if start.IsZero() || start.After(told.at) {
		start = told.at
	}
	_, span := p.tracer.Start(trace.ContextWithRemoteSpanContext(ctx, created), WaitSpan, trace.WithTimestamp(start), told.link,
		messageAttributes(&entry.Message, append(more, positionKey.Int64(int64(entry.Position)))...))
	told.happened.tell(span, start)
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
