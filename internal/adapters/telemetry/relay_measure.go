package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// MeasureRelay returns next with measurements of the events that a relay publishes and the events that retention removes.
func MeasureRelay(mp metric.MeterProvider, stream string, next RelayPorts) RelayPorts {
	next.Publisher = measurePublisher(mp, stream, next.Publisher)
	next.Retention = measureRetention(mp, next.Retention)
	return next
}

// measurePublisher returns next with measurements of each append: how long it took, how many events it had, whether another relay was
// first, and how long each stored event had waited in the outbox. Redriven events are left out of the waits, because they waited for
// an operator. An event costs one observation and no allocation.
func measurePublisher(mp metric.MeterProvider, stream string, next relay.Publisher) relay.Publisher {
	m := meter(mp)
	p := &measuredPublisher{
		next: next, stream: stream,
		duration: orReport(messagingconv.NewClientOperationDuration(m, callBoundaries)),
		sent:     orReport(messagingconv.NewClientSentMessages(m)),
		size: orReport(m.Int64Histogram("outboxie.relay.batch.size", metric.WithUnit("{event}"), sizeBoundaries,
			metric.WithDescription("Events in one append to the stream."))),
		wait: orReport(m.Float64Histogram("outboxie.outbox.wait", metric.WithUnit("s"), waitBoundaries,
			metric.WithDescription("Time from when an event was recorded in the outbox to the stream's acknowledgement. Redriven events are left out."))),
		conflicts: orReport(m.Int64Counter("outboxie.relay.conflicts", metric.WithUnit("{conflict}"),
			metric.WithDescription("Appends that were refused because the stream did not end where this relay believed."))),
	}
	p.conflicts.Add(context.Background(), 0) // shows 0, so a scrape sees the first conflict as an increase
	p.sent.AddSet(context.Background(), 0, p.attributes("send", nil))
	return p
}

type measuredPublisher struct {
	next      relay.Publisher
	stream    string
	duration  messagingconv.ClientOperationDuration
	sent      messagingconv.ClientSentMessages
	size      metric.Int64Histogram
	wait      metric.Float64Histogram
	conflicts metric.Int64Counter
}

// Open, Look and At are not measured.
func (p *measuredPublisher) Open(ctx context.Context, first uint64) (relay.StreamInfo, error) {
	return p.next.Open(ctx, first)
}

func (p *measuredPublisher) Look(ctx context.Context) (relay.StreamInfo, error) {
	return p.next.Look(ctx)
}

func (p *measuredPublisher) At(ctx context.Context, sequence uint64) (relay.MessageMeta, error) {
	return p.next.At(ctx, sequence)
}

func (p *measuredPublisher) Publish(ctx context.Context, after uint64, batch []outbox.Entry) (uint64, error) {
	began := time.Now()
	last, err := p.next.Publish(ctx, after, batch)
	acknowledged := time.Now()
	stored := storedOf(batch, after, last)
	p.called(ctx, "send", acknowledged.Sub(began), err)
	p.appended(ctx, "send", len(batch), stored, err)
	for i := range batch[:stored] {
		// RecordedAt is from the database's clock, which may be ahead of this process.
		p.wait.Record(ctx, max(0, acknowledged.Sub(batch[i].RecordedAt)).Seconds())
	}
	return last, err
}

func (p *measuredPublisher) Redrive(ctx context.Context, after uint64, at outbox.Progress, batch []outbox.Entry) (uint64, error) {
	began := time.Now()
	last, err := p.next.Redrive(ctx, after, at, batch)
	p.called(ctx, "redrive", time.Since(began), err)
	p.appended(ctx, "redrive", len(batch), storedOf(batch, after, last), err)
	return last, err
}

func (p *measuredPublisher) PublishControl(ctx context.Context, after uint64, message relay.ControlMessage) (uint64, error) {
	began := time.Now()
	last, err := p.next.PublishControl(ctx, after, message)
	p.called(ctx, "notify", time.Since(began), err)
	return last, err
}

func (p *measuredPublisher) called(ctx context.Context, operation string, took time.Duration, err error) {
	p.duration.RecordSet(ctx, took.Seconds(), p.attributes(operation, err))
	if errors.Is(err, relay.ErrTailMoved) {
		p.conflicts.Add(ctx, 1)
	}
}

func (p *measuredPublisher) appended(ctx context.Context, operation string, size, stored int, err error) {
	p.size.Record(ctx, int64(size))
	p.sent.AddSet(ctx, int64(stored), p.attributes(operation, nil))
	if stored < size {
		p.sent.AddSet(ctx, int64(size-stored), p.attributes(operation, err))
	}
}

func (p *measuredPublisher) attributes(operation string, err error) attribute.Set {
	attributes := []attribute.KeyValue{
		messagingSystem, semconv.MessagingOperationName(operation), semconv.MessagingOperationTypeSend,
		semconv.MessagingDestinationName(p.stream),
	}
	if err != nil {
		attributes = append(attributes, semconv.ErrorTypeKey.String(errorType(err)))
	}
	return attribute.NewSet(attributes...)
}

// measureRetention returns next with counters of the removed events and of failures.
func measureRetention(mp metric.MeterProvider, next relay.Retention) relay.Retention {
	m := meter(mp)
	r := &measuredRetention{
		next: next,
		removed: orReport(m.Int64Counter("outboxie.retention.removed", metric.WithUnit("{event}"),
			metric.WithDescription("Events that were removed from the outbox because the stream has had them for long enough."))),
		failures: orReport(m.Int64Counter("outboxie.retention.failures", metric.WithUnit("{failure}"),
			metric.WithDescription("Attempts to remove old events that failed."))),
	}
	r.removed.Add(context.Background(), 0)
	r.failures.Add(context.Background(), 0)
	return r
}

type measuredRetention struct {
	next              relay.Retention
	removed, failures metric.Int64Counter
}

func (r *measuredRetention) Purge(ctx context.Context, token int64, age time.Duration, limit int) (int, error) {
	removed, err := r.next.Purge(ctx, token, age, limit)
	r.removed.Add(ctx, int64(removed))
	if err != nil && ctx.Err() == nil {
		r.failures.Add(ctx, 1)
	}
	return removed, err
}
