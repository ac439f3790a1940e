package engine

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/nats-io/nats.go"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/watching"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// DatabaseCheck checks that the database answers.
func DatabaseCheck(db *bun.DB) httpapi.Check {
	return httpapi.Check{Name: "database", Required: true, Probe: db.PingContext}
}

// BrokerCheck checks that the process is connected to the broker.
func BrokerCheck(nc *nats.Conn, required bool) httpapi.Check {
	return httpapi.Check{Name: "broker", Required: required, Probe: func(context.Context) error {
		if !nc.IsConnected() {
			return fmt.Errorf("not connected to NATS (%s)", nc.Status())
		}
		return nil
	}}
}

// NewSubscriberAdmin returns what operators can do with subscribers.
func NewSubscriberAdmin(
	c config.Config, operator inbox.Operator, log inbox.Log, nc *nats.Conn, lags *jetstream.SubscriberLags, logger *slog.Logger,
) operations.SubscriberAdmin {
	return operating.NewSubscribers(operating.SubscriberPorts{
		Operator: operator, Stream: jetstream.NewStateReader(nc, Reader(c, "", logger)), Lags: lags, Log: log,
	})
}

// Operating is what the admin listener and its console drive.
type Operating struct {
	Config      config.Config
	Version     string
	Token       string                      // of operators who may do everything; empty: nobody has such a token
	ReadToken   string                      // of operators who may only read; empty: nobody has such a token
	Issuer      operations.Authenticator    // accepts access tokens of operators; nil: they are not accepted
	Open        bool                        // nobody needs a token
	Relays      func() []httpapi.RelayState // the relays of the process; nil: it has none
	Inspector   operations.RelayInspector
	Repair      operations.RelayRepair
	Publisher   relay.StreamRepair
	Parking     operations.ParkingAdmin
	DeadLetters operations.DeadLetterAdmin
	Subscribers operations.SubscriberAdmin
	Effects     operations.EffectReader
	Watcher     *watching.Watcher
	Checks      []httpapi.Check
	Metrics     http.Handler // nil: there is no /metrics
	Listener    net.Listener // nil: the server listens by itself, or its handler is served by others
	Logger      *slog.Logger
	Traces      trace.TracerProvider
	Meters      metric.MeterProvider
	Propagator  propagation.TextMapPropagator
}

// Admin returns the options of the admin listener with these pages, or without any if pages is nil.
func (o Operating) Admin(pages httpapi.Console) httpapi.AdminOptions {
	return httpapi.AdminOptions{
		Addr: o.Config.HTTP.AdminAddr, Listener: o.Listener, Token: o.Token, ReadToken: o.ReadToken, Issuer: o.Issuer, Open: o.Open,
		AllowedHosts: o.Config.HTTP.AdminAllowedHosts,
		Checks:       o.Checks, Metrics: o.Metrics, Relays: o.Relays, Inspector: o.Inspector, ParkingAdmin: o.Parking,
		Parked: operating.UndecidedParked(o.Parking), DeadLetters: operating.NewDeadLetters(o.DeadLetters),
		Subscribers: o.Subscribers, Console: pages,
		Logger: o.Logger, TracerProvider: o.Traces, MeterProvider: o.Meters, Propagator: o.Propagator,
	}
}
