package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// measureCheckpoints returns next with a counter of checkpoints that went back.
func measureCheckpoints(mp metric.MeterProvider, subscriber string, next inbox.Checkpoints) inbox.Checkpoints {
	c := &measuredCheckpoints{
		next: next,
		rewinds: orReport(meter(mp).Int64Counter("outboxie.subscriber.rewinds", metric.WithUnit("{rewind}"),
			metric.WithDescription("Checkpoints of lanes that went back because the stream had lost messages, or is another one."))),
		whose: set(semconv.MessagingConsumerGroupName(subscriber)),
	}
	c.rewinds.Add(context.Background(), 0, c.whose)
	return c
}

type measuredCheckpoints struct {
	next    inbox.Checkpoints
	rewinds metric.Int64Counter
	whose   metric.MeasurementOption
}

func (c *measuredCheckpoints) Rewind(
	ctx context.Context, subscriber string, from inbox.Checkpoint, stream string, to inbox.StreamPosition,
) (inbox.Checkpoint, error) {
	moved, err := c.next.Rewind(ctx, subscriber, from, stream, to)
	if err == nil {
		c.rewinds.Add(ctx, 1, c.whose)
	}
	return moved, err
}

// CreateLanes and the following methods are not measured.
func (c *measuredCheckpoints) CreateLanes(
	ctx context.Context, subscriber string, lanes int, stream string, at inbox.StreamPosition,
) error {
	return c.next.CreateLanes(ctx, subscriber, lanes, stream, at)
}

func (c *measuredCheckpoints) Subscribe(ctx context.Context, subscriber, handler string, types []string) error {
	return c.next.Subscribe(ctx, subscriber, handler, types)
}

func (c *measuredCheckpoints) Heartbeat(ctx context.Context, subscriber, instance string) (inbox.View, error) {
	return c.next.Heartbeat(ctx, subscriber, instance)
}

func (c *measuredCheckpoints) RemoveCopy(ctx context.Context, subscriber, instance string) error {
	return c.next.RemoveCopy(ctx, subscriber, instance)
}

func (c *measuredCheckpoints) Marks(ctx context.Context, subscriber string, lane int) ([]inbox.StreamPosition, error) {
	return c.next.Marks(ctx, subscriber, lane)
}
