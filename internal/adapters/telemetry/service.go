package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/ordering"
)

// TraceService returns next with a span around each use case: order.place, order.pay and so on.
func TraceService(tp trace.TracerProvider, next ordering.Service) ordering.Service {
	return &service{tracer: tracer(tp), next: next}
}

type service struct {
	tracer trace.Tracer
	next   ordering.Service
}

func (s *service) Place(
	ctx context.Context, customer order.CustomerID, amount order.Money, key ordering.Key,
) (order.Snapshot, error) {
	ctx, span := s.tracer.Start(ctx, "order.place")
	defer span.End()
	placed, err := s.next.Place(ctx, customer, amount, key)
	if err == nil {
		span.SetAttributes(orderIDKey.String(string(placed.ID)))
	}
	record(span, err)
	return placed, err
}

func (s *service) Pay(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.on(ctx, "order.pay", id, s.next.Pay)
}

func (s *service) Ship(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.on(ctx, "order.ship", id, s.next.Ship)
}

func (s *service) Cancel(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.on(ctx, "order.cancel", id, s.next.Cancel)
}

func (s *service) Get(ctx context.Context, id order.ID) (order.Snapshot, error) {
	return s.on(ctx, "order.get", id, s.next.Get)
}

func (s *service) on(ctx context.Context, name string, id order.ID,
	useCase func(context.Context, order.ID) (order.Snapshot, error),
) (order.Snapshot, error) {
	ctx, span := s.tracer.Start(ctx, name, trace.WithAttributes(orderIDKey.String(string(id))))
	defer span.End()
	state, err := useCase(ctx, id)
	record(span, err)
	return state, err
}
