package main

import (
	"log/slog"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/audit"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry/ordertrace"
	"github.com/assylzhan-a/outboxie/internal/app/opening"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// decorators wrap ports in tracing and measurements, for all graphs of the program. No other place of the program wraps ports. fx wraps a
// port when a constructor asks for the port, and never otherwise. Constructors do not know whether their ports are wrapped.
var decorators = fx.Decorate(
	decorateOrders,
	ordertrace.TraceUnitOfWork,
	decorateRelay,
	decorateInbox,
	decorateEmitter,
	decorateHandlers,
)

// decorateOrders wraps the order service. The audit is inside of the span, so its lines have the trace.
func decorateOrders(tp trace.TracerProvider, logger *slog.Logger, next orders.Service) orders.Service {
	return ordertrace.TraceService(tp, audit.Orders(logger, next))
}

// decorateRelay wraps the ports of a relay.
func decorateRelay(
	c config.Config, tp trace.TracerProvider, mp metric.MeterProvider, nc *nats.Conn,
	log relay.Log, cursors relay.CursorStore, publisher relay.Publisher, elector relay.Elector, retention relay.Retention,
) (relay.Log, relay.CursorStore, relay.Publisher, relay.Elector, relay.Retention) {
	ports := engine.DecorateRelay(c, tp, mp, nc, telemetry.RelayPorts{
		Log: log, Cursors: cursors, Publisher: publisher, Elector: elector, Retention: retention,
	})
	return ports.Log, ports.Cursors, ports.Publisher, ports.Elector, ports.Retention
}

// decorateInbox wraps the ports of the subscriber that the configuration names.
func decorateInbox(
	c config.Config, ring *opening.Ring, tp trace.TracerProvider, mp metric.MeterProvider,
	work inbox.UnitOfWork, letters inbox.DeadLetters, checkpoints inbox.Checkpoints,
) (inbox.UnitOfWork, inbox.DeadLetters, inbox.Checkpoints) {
	ports := engine.DecorateInbox(c, tp, mp, telemetry.InboxPorts{Work: opening.UnitOfWork(ring, work), Letters: letters, Checkpoints: checkpoints})
	return ports.Work, ports.Letters, ports.Checkpoints
}

// decorateEmitter wraps the port through which handlers emit events.
func decorateEmitter(ring *opening.Ring, tp trace.TracerProvider, next inbox.Emitter) inbox.Emitter {
	return telemetry.TraceEmitter(tp, opening.Emitter(ring, next))
}

// decorateHandlers wraps each handler when the handler is made.
func decorateHandlers(c config.Config, ring *opening.Ring, logger *slog.Logger, next handlers) handlers {
	return func(name string) (inbox.Handler, error) {
		handler, err := next(name)
		if err != nil {
			return nil, err
		}
		return telemetry.TraceHandler(opening.Handler(ring, c.Subscriber.ID, logger, handler)), nil
	}
}
