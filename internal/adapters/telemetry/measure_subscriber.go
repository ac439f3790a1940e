package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// consumerOf are the attributes of what one subscriber does. The stream stands for the subjects, of which anybody who
// writes the outbox can make new ones.
func consumerOf(subscriber, stream string, more ...attribute.KeyValue) attribute.Set {
	return attribute.NewSet(append([]attribute.KeyValue{
		messagingSystem, semconv.MessagingConsumerGroupName(subscriber), semconv.MessagingDestinationName(stream),
	}, more...)...)
}

// MeasureSource returns next with counters of what was delivered, and of what was delivered again.
func MeasureSource(mp metric.MeterProvider, subscriber, stream string, next inbox.Source) inbox.Source {
	m := meter(mp)
	s := &measuredSource{
		next: next,
		attributes: consumerOf(subscriber, stream,
			semconv.MessagingOperationName("receive"), semconv.MessagingOperationTypeReceive),
		consumed: made(messagingconv.NewClientConsumedMessages(m)),
		again: made(m.Int64Counter("outboxie.subscriber.redeliveries", metric.WithUnit("{message}"),
			metric.WithDescription("Deliveries of a message that had been delivered to the subscriber before: it failed, or its acknowledgement did not arrive."))),
		subscriber: set(semconv.MessagingConsumerGroupName(subscriber)),
	}
	s.consumed.AddSet(context.Background(), 0, s.attributes)
	s.again.Add(context.Background(), 0, s.subscriber)
	return s
}

type measuredSource struct {
	next       inbox.Source
	attributes attribute.Set
	subscriber metric.MeasurementOption
	consumed   messagingconv.ClientConsumedMessages
	again      metric.Int64Counter
}

func (s *measuredSource) Next(ctx context.Context) (inbox.Delivery, error) {
	delivery, err := s.next.Next(ctx)
	if err == nil {
		s.consumed.AddSet(ctx, 1, s.attributes)
		if delivery.Attempt() > 1 {
			s.again.Add(ctx, 1, s.subscriber)
		}
	}
	return delivery, err
}

// MeasureHandler returns next with a measurement of how long each event took.
func MeasureHandler(mp metric.MeterProvider, subscriber, stream string, next inbox.Handler) inbox.Handler {
	return &measuredHandler{
		next: next, subscriber: subscriber, stream: stream,
		duration: made(messagingconv.NewProcessDuration(meter(mp), callBoundaries)),
	}
}

type measuredHandler struct {
	next               inbox.Handler
	subscriber, stream string
	duration           messagingconv.ProcessDuration
}

func (h *measuredHandler) Handle(ctx context.Context, entry outbox.Entry) error {
	began := time.Now()
	err := h.next.Handle(ctx, entry)
	about := []attribute.KeyValue{semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess}
	if err != nil {
		about = append(about, semconv.ErrorTypeKey.String(errorType(err)))
	}
	h.duration.RecordSet(ctx, time.Since(began).Seconds(), consumerOf(h.subscriber, h.stream, about...))
	return err
}

// MeasureInbox returns next with a measurement of how late each effect came, and a counter of events that were dropped
// because they had been dealt with before.
func MeasureInbox(mp metric.MeterProvider, next inbox.UnitOfWork) inbox.UnitOfWork {
	m := meter(mp)
	return &measuredInbox{
		next: next,
		latency: made(m.Float64Histogram("outboxie.subscriber.latency", metric.WithUnit("s"), waitBoundaries,
			metric.WithDescription("Time from when an event was recorded in the outbox to the commit of its effect."))),
		duplicates: made(m.Int64Counter("outboxie.inbox.duplicates", metric.WithUnit("{event}"),
			metric.WithDescription("Events that were dropped because they had been applied, or set aside, before."))),
	}
}

type measuredInbox struct {
	next       inbox.UnitOfWork
	latency    metric.Float64Histogram
	duplicates metric.Int64Counter
}

func (i *measuredInbox) Once(
	ctx context.Context, subscriber string, entry outbox.Entry, fn func(ctx context.Context, tx inbox.Tx) error,
) (bool, error) {
	applied, err := i.next.Once(ctx, subscriber, entry, fn)
	if err != nil {
		return applied, err
	}
	whose := set(semconv.MessagingConsumerGroupName(subscriber))
	if applied {
		i.latency.Record(ctx, max(0, time.Since(entry.RecordedAt)).Seconds(), whose)
		i.duplicates.Add(ctx, 0, whose) // so that the first one can be seen as a rise
	} else {
		i.duplicates.Add(ctx, 1, whose)
	}
	return applied, nil
}
