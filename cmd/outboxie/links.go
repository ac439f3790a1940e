package main

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jaeger"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// traceLinks logs a link to the trace of each change of an order, if JAEGER_URL is set and spans are exported.
func traceLinks(c config.Config, logger *slog.Logger) fx.Option {
	if !c.Given(config.JaegerURL) {
		return fx.Options()
	}
	return fx.Decorate(func(o httpapi.Options, tracing *telemetry.Telemetry) (httpapi.Options, error) {
		if !tracing.Exporting() {
			return o, nil
		}
		pages, err := jaeger.New(string(c.Jaeger.URL))
		o.Service = linkLogger{next: o.Service, pages: pages, logger: logger}
		return o, err
	})
}

// linkLogger logs a link to the trace of each change of an order.
type linkLogger struct {
	next   orders.Service
	pages  *jaeger.Client
	logger *slog.Logger
}

func (l linkLogger) Place(ctx context.Context, who order.Principal, customer value.CustomerID, amount value.Money, key orders.Key) (order.Snapshot, error) {
	placed, err := l.next.Place(ctx, who, customer, amount, key)
	return l.log(ctx, placed, err)
}

func (l linkLogger) Pay(ctx context.Context, who order.Principal, id order.ID, reference value.Note, condition orders.Precondition) (order.Snapshot, error) {
	paid, err := l.next.Pay(ctx, who, id, reference, condition)
	return l.log(ctx, paid, err)
}

func (l linkLogger) Ship(ctx context.Context, who order.Principal, id order.ID, carrier, tracking value.Note, condition orders.Precondition) (order.Snapshot, error) {
	shipped, err := l.next.Ship(ctx, who, id, carrier, tracking, condition)
	return l.log(ctx, shipped, err)
}

func (l linkLogger) Cancel(ctx context.Context, who order.Principal, id order.ID, reason value.Note, condition orders.Precondition) (order.Snapshot, error) {
	cancelled, err := l.next.Cancel(ctx, who, id, reason, condition)
	return l.log(ctx, cancelled, err)
}

// Get, List and Events change nothing, so they have no link. linkLogger embeds no Service: a new method must say here whether it has one.
func (l linkLogger) Get(ctx context.Context, who order.Principal, id order.ID) (order.Snapshot, error) {
	return l.next.Get(ctx, who, id)
}

func (l linkLogger) List(ctx context.Context, who order.Principal, filter orders.Filter) (orders.Page, error) {
	return l.next.List(ctx, who, filter)
}

func (l linkLogger) Events(ctx context.Context, who order.Principal, id order.ID) ([]orders.Event, error) {
	return l.next.Events(ctx, who, id)
}

func (l linkLogger) log(ctx context.Context, changed order.Snapshot, err error) (order.Snapshot, error) {
	if span := trace.SpanContextFromContext(ctx); err == nil && span.IsSampled() {
		l.logger.InfoContext(ctx, "order "+string(changed.Status), "order_id", string(changed.ID), "trace", l.pages.Page(span.TraceID().String()))
	}
	return changed, err
}
