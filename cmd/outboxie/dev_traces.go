package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jaeger"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/ordering"
)

const (
	otlpPort   = "4318" // where a Jaeger takes spans, OTLP over HTTP
	lookingFor = 500 * time.Millisecond
)

// devTraces is where the traces of `dev` go, and where they can be looked at.
type devTraces struct {
	pages    *jaeger.Client // nil: no Jaeger answers
	endpoint string         // where spans are sent because a Jaeger is there; empty: OTEL_* decides
}

// findTraces looks for a Jaeger. Spans are sent to it only if the environment does not say where they go, and only if it is
// on this machine.
func findTraces(ctx context.Context, address config.URL) devTraces {
	ctx, cancel := context.WithTimeout(ctx, lookingFor)
	defer cancel()
	pages, err := jaeger.New(string(address))
	if err != nil {
		return devTraces{}
	}
	if _, err := pages.Services(ctx); err != nil {
		return devTraces{}
	}
	found := devTraces{pages: pages}
	parsed, err := url.Parse(string(address))
	if err != nil || telemetry.TracesConfigured() || !isLoopback(parsed.Hostname()) {
		return found
	}
	taker := net.JoinHostPort(parsed.Hostname(), otlpPort)
	if connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", taker); err == nil {
		_ = connection.Close()
		found.endpoint = "http://" + taker
	}
	return found
}

func isLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// graph sends the spans there, and logs a link for each order that changes.
func (d devTraces) graph(logger *slog.Logger) fx.Option {
	return fx.Options(
		fx.Decorate(func(o telemetry.Options) telemetry.Options {
			o.Endpoint = d.endpoint
			return o
		}),
		fx.Decorate(func(o httpapi.Options, tracing *telemetry.Telemetry) httpapi.Options {
			if d.pages != nil && tracing.Exporting() {
				o.Service = linked{Service: o.Service, pages: d.pages, logger: logger}
			}
			return o
		}),
	)
}

// describe tells a newcomer where to look.
func (d devTraces) describe(exporting bool, address config.URL) string {
	switch {
	case exporting && d.pages != nil:
		return fmt.Sprintf("at %s; the log has a link for each order, and\n               outboxie trace ORDER_ID draws it", address)
	case exporting:
		return "exported, as the OTEL_* environment says"
	case telemetry.TracesConfigured():
		return "not exported, as the OTEL_* environment says"
	case d.pages != nil:
		return fmt.Sprintf("not exported: the Jaeger at %s takes none on port %s of this machine; set OTEL_EXPORTER_OTLP_ENDPOINT", address, otlpPort)
	}
	return "not exported: start a Jaeger on this machine and run this again, or set OTEL_EXPORTER_OTLP_ENDPOINT"
}

// linked logs a link to the trace of each change of an order.
type linked struct {
	ordering.Service
	pages  *jaeger.Client
	logger *slog.Logger
}

func (l linked) Place(ctx context.Context, customer order.CustomerID, amount order.Money, key ordering.Key) (order.Snapshot, error) {
	placed, err := l.Service.Place(ctx, customer, amount, key)
	return l.tell(ctx, placed, err)
}

func (l linked) Pay(ctx context.Context, id order.ID, reference order.Text, guard ordering.Guard) (order.Snapshot, error) {
	paid, err := l.Service.Pay(ctx, id, reference, guard)
	return l.tell(ctx, paid, err)
}

func (l linked) Ship(ctx context.Context, id order.ID, carrier, tracking order.Text, guard ordering.Guard) (order.Snapshot, error) {
	shipped, err := l.Service.Ship(ctx, id, carrier, tracking, guard)
	return l.tell(ctx, shipped, err)
}

func (l linked) Cancel(ctx context.Context, id order.ID, reason order.Text, guard ordering.Guard) (order.Snapshot, error) {
	cancelled, err := l.Service.Cancel(ctx, id, reason, guard)
	return l.tell(ctx, cancelled, err)
}

func (l linked) tell(ctx context.Context, changed order.Snapshot, err error) (order.Snapshot, error) {
	if span := trace.SpanContextFromContext(ctx); err == nil && span.IsSampled() {
		l.logger.InfoContext(ctx, "order "+string(changed.Status), "order_id", string(changed.ID), "trace", l.pages.Page(span.TraceID().String()))
	}
	return changed, err
}
