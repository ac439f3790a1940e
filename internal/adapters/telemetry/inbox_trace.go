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
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// InboxPorts are the ports of a subscriber that are traced or measured.
type InboxPorts struct {
	Work        inbox.UnitOfWork
	Letters     inbox.DeadLetters
	Checkpoints inbox.Checkpoints
}

// TraceInbox returns next with spans around the transactions of a subscriber.
//
// A transaction with one event is a CONSUMER span, "process <subject>", in the trace of the event and linked to the creation of the
// message. The statements of the transaction are below it.
//
// A transaction with several events is a batch. If one or more of its events are sampled, the batch is a trace of its own: "process
// <stream>", linked to at most 128 of the sampled events. The statements of the transaction are below that span. Each sampled event has a
// span "process <subject>" in its own trace, linked to the batch. That span lasts from the call of the handler to the end of
// the transaction. An event that is not sampled costs one look at a header, and no allocation.
//
// Dead letters that are tried again are always a batch, even a single one. The batch's span starts with its first sampled event, so earlier
// statements have no spans. A search for letters that are due leaves no trace. A transaction that only moves the checkpoint leaves none
// either.
//
// Checkpoints are not traced. If the provider records nothing, TraceInbox returns next itself.
func TraceInbox(tp trace.TracerProvider, subscriber, stream string, by Source, next InboxPorts) InboxPorts {
	if _, off := tp.(noop.TracerProvider); off {
		return next
	}
	tracer := &inboxTracer{tracer: Tracer(tp), subscriber: subscriber, stream: stream, instance: by.Instance}
	return InboxPorts{
		Work:        &tracedWork{inboxTracer: tracer, next: next.Work},
		Letters:     &tracedLetters{inboxTracer: tracer, next: next.Letters},
		Checkpoints: next.Checkpoints,
	}
}

// inboxTracer starts the spans of one subscriber.
type inboxTracer struct {
	tracer                       trace.Tracer
	subscriber, stream, instance string
}

// startEvent starts the span of one event, in the trace of the event.
func (t *inboxTracer) startEvent(ctx context.Context, entry *outbox.Entry, more ...trace.SpanStartOption) (context.Context, trace.Span) {
	ctx, created := inCreationContext(ctx, entry.Headers)
	return t.tracer.Start(ctx, "process "+entry.Subject, append(more, trace.WithSpanKind(trace.SpanKindConsumer), created,
		messageAttributes(&entry.Message, t.instance, semconv.MessagingConsumerGroupName(t.subscriber),
			semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess, positionKey.Int64(int64(entry.Position))))...)
}

// startBatch starts the span of a batch. The span links to sampled events.
func (t *inboxTracer) startBatch(
	ctx context.Context, began time.Time, links []trace.Link, more ...attribute.KeyValue,
) (context.Context, trace.Span) {
	return t.tracer.Start(ctx, "process "+t.stream, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithTimestamp(began), trace.WithLinks(links...), trace.WithAttributes(append([]attribute.KeyValue{
			semconv.MessagingDestinationName(t.stream),
			semconv.MessagingClientID(t.instance),
			semconv.MessagingConsumerGroupName(t.subscriber),
			messagingSystem,
			semconv.MessagingOperationName("process"),
			semconv.MessagingOperationTypeProcess,
		}, more...)...))
}

type tracedWork struct {
	*inboxTracer
	next inbox.UnitOfWork
}

func (w *tracedWork) Apply(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	if len(batch.Events) == 1 && batch.Events[0].Unreadable == nil {
		return w.applyOne(ctx, subscriber, batch, handler, judge)
	}
	links := eventLinks(ctx, batch.Events)
	if len(links) == 0 {
		return w.next.Apply(ctx, subscriber, batch, handler, judge)
	}
	t := &tracedBatch{next: handler, inboxTracer: w.inboxTracer, judge: judge}
	ctx, t.span = w.startBatch(ctx, time.Now(), links,
		semconv.MessagingBatchMessageCount(len(batch.Events)), laneKey.Int(batch.From.Lane))
	outcome, err := w.next.Apply(ctx, subscriber, batch, t, t.judged)
	t.end(err)
	return outcome, err
}

// applyOne applies a batch of one event that can be read.
func (w *tracedWork) applyOne(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	ctx, span := w.startEvent(ctx, &batch.Events[0].Entry)
	defer span.End()
	var failure error
	outcome, err := w.next.Apply(ctx, subscriber, batch, handler,
		func(entry outbox.Entry, attempts int, err error) (inbox.Failure, error) {
			failure = err
			return judge(entry, attempts, err)
		})
	var failed *inbox.EventError
	switch {
	case failure != nil: // the handler failed within a savepoint
	case errors.As(err, &failed):
		failure = failed.Err
	default:
		failure = err
	}
	Record(span, failure)
	return outcome, err
}

type tracedLetters struct {
	*inboxTracer
	next inbox.DeadLetters
}

func (l *tracedLetters) Redeliver(
	ctx context.Context, subscriber string, r inbox.Redelivery, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Redelivered, bool, error) {
	t := &tracedBatch{next: handler, inboxTracer: l.inboxTracer, judge: judge, began: time.Now()}
	done, found, err := l.next.Redeliver(ctx, subscriber, r, t, t.judged)
	if t.span != nil {
		t.span.SetAttributes(semconv.MessagingBatchMessageCount(t.handled))
		t.end(err)
	}
	return done, found, err
}

// tracedBatch is the handler of one batch. It traces the sampled events.
type tracedBatch struct {
	next inbox.Handler
	*inboxTracer
	judge inbox.FailurePolicy

	began   time.Time  // of a batch of letters; zero for other batches
	span    trace.Span // of the batch; nil: no sampled letter has come yet
	events  []tracedEvent
	sampled bool // the current event is sampled, and is the last one of events
	handled int
}

type tracedEvent struct {
	span trace.Span
	err  error // of the event itself, not of the transaction
}

// Name, Types, External and Applied are passed on.
func (b *tracedBatch) Name() string { return b.next.Name() }

func (b *tracedBatch) Types() []string { return b.next.Types() }

func (b *tracedBatch) External() bool { return b.next.External() }

func (b *tracedBatch) Applied(ctx context.Context, entry outbox.Entry) { b.next.Applied(ctx, entry) }

func (b *tracedBatch) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	b.handled++
	created := sampledContext(ctx, entry.Headers)
	b.sampled = created.IsValid()
	if b.sampled {
		ctx = b.start(ctx, &entry, trace.Link{SpanContext: created})
	}
	return b.next.Handle(ctx, tx, entry)
}

// start starts the span of a sampled event. A batch of letters gets its span and its links here, because the letters are not known earlier.
func (b *tracedBatch) start(ctx context.Context, entry *outbox.Entry, created trace.Link) context.Context {
	if b.span == nil {
		_, b.span = b.startBatch(ctx, b.began, []trace.Link{created})
	} else if !b.began.IsZero() && len(b.events) < maxLinks {
		b.span.AddLink(created)
	}
	link := trace.WithLinks()
	if b.span.SpanContext().IsSampled() {
		link = trace.WithLinks(trace.Link{SpanContext: b.span.SpanContext()})
	}
	ctx, span := b.startEvent(ctx, entry, link)
	b.events = append(b.events, tracedEvent{span: span})
	return ctx
}

// judged records the failure of an event within a savepoint. The transaction goes on.
func (b *tracedBatch) judged(entry outbox.Entry, attempts int, err error) (inbox.Failure, error) {
	b.failed(err)
	return b.judge(entry, attempts, err)
}

// failed records the failure of the current event.
func (b *tracedBatch) failed(err error) {
	if b.sampled {
		b.events[len(b.events)-1].err = err
	}
}

// end ends all spans. If the transaction failed, each of its events without an error of its own gets the transaction's error.
func (b *tracedBatch) end(err error) {
	ended := trace.WithTimestamp(time.Now())
	var failed *inbox.EventError
	if errors.As(err, &failed) { // the last call of the handler failed
		b.failed(failed.Err)
	}
	for _, event := range b.events {
		if event.err == nil {
			event.err = err
		}
		Record(event.span, event.err)
		event.span.End(ended)
	}
	Record(b.span, err)
	b.span.End(ended)
}

// eventLinks returns links to the first sampled events. A message that cannot be read has no trace.
func eventLinks(ctx context.Context, events []inbox.Event) []trace.Link {
	var links []trace.Link
	for i := range events {
		if len(links) == maxLinks {
			break
		}
		if events[i].Unreadable != nil {
			continue
		}
		if created := sampledContext(ctx, events[i].Headers); created.IsValid() {
			links = append(links, trace.Link{SpanContext: created})
		}
	}
	return links
}
