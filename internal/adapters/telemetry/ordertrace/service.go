// Package ordertrace decorates the ports of the order service with traces. fx uses TraceService and TraceUnitOfWork as decorators. Package
// telemetry has what is the same for every service.
package ordertrace

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

const orderIDKey = attribute.Key("outboxie.order.id")

// TraceService returns next with a span around each use case: order.place, order.pay and so on.
func TraceService(tp trace.TracerProvider, next orders.Service) orders.Service {
	return &service{tracer: telemetry.Tracer(tp), next: next}
}

type service struct {
	tracer trace.Tracer
	next   orders.Service
}

func (s *service) Place(
	ctx context.Context, who order.Principal, customer value.CustomerID, amount value.Money, key orders.Key,
) (order.Snapshot, error) {
	return within(ctx, s, "order.place", func(ctx context.Context) (order.Snapshot, error) {
		placed, err := s.next.Place(ctx, who, customer, amount, key)
		if err == nil {
			trace.SpanFromContext(ctx).SetAttributes(orderIDKey.String(string(placed.ID)))
		}
		return placed, err
	})
}

func (s *service) Pay(ctx context.Context, who order.Principal, id order.ID, reference value.Note, guard orders.Precondition) (order.Snapshot, error) {
	return within(ctx, s, "order.pay", func(ctx context.Context) (order.Snapshot, error) {
		return s.next.Pay(ctx, who, id, reference, guard)
	}, orderIDKey.String(string(id)))
}

func (s *service) Ship(
	ctx context.Context, who order.Principal, id order.ID, carrier, tracking value.Note, guard orders.Precondition,
) (order.Snapshot, error) {
	return within(ctx, s, "order.ship", func(ctx context.Context) (order.Snapshot, error) {
		return s.next.Ship(ctx, who, id, carrier, tracking, guard)
	}, orderIDKey.String(string(id)))
}

func (s *service) Cancel(ctx context.Context, who order.Principal, id order.ID, reason value.Note, guard orders.Precondition) (order.Snapshot, error) {
	return within(ctx, s, "order.cancel", func(ctx context.Context) (order.Snapshot, error) {
		return s.next.Cancel(ctx, who, id, reason, guard)
	}, orderIDKey.String(string(id)))
}

func (s *service) Get(ctx context.Context, who order.Principal, id order.ID) (order.Snapshot, error) {
	return within(ctx, s, "order.get", func(ctx context.Context) (order.Snapshot, error) {
		return s.next.Get(ctx, who, id)
	}, orderIDKey.String(string(id)))
}

func (s *service) List(ctx context.Context, who order.Principal, filter orders.Filter) (orders.Page, error) {
	return within(ctx, s, "order.list", func(ctx context.Context) (orders.Page, error) { return s.next.List(ctx, who, filter) })
}

func (s *service) Events(ctx context.Context, who order.Principal, id order.ID) ([]orders.Event, error) {
	return within(ctx, s, "order.events", func(ctx context.Context) ([]orders.Event, error) {
		return s.next.Events(ctx, who, id)
	}, orderIDKey.String(string(id)))
}

// within runs a use case in a new span.
func within[T any](
	ctx context.Context, s *service, name string, useCase func(context.Context) (T, error), about ...attribute.KeyValue,
) (T, error) {
	ctx, span := s.tracer.Start(ctx, name, trace.WithAttributes(about...))
	defer span.End()
	answer, err := useCase(ctx)
	telemetry.Record(span, err)
	return answer, err
}
