package main

import (
	"github.com/nats-io/nats.go"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// observed returns a function that takes the results of a telemetry.Observe function. When the graph stops, the registration ends before the
// source of the measurements is closed.
func observed(lifecycle fx.Lifecycle) func(metric.Registration, error) error {
	return func(registration metric.Registration, err error) error {
		if err == nil {
			lifecycle.Append(fx.StopHook(registration.Unregister))
		}
		return err
	}
}

// observeConnections measures the connections of every process.
func observeConnections(lifecycle fx.Lifecycle, mp metric.MeterProvider, db *bun.DB, nc *nats.Conn) error {
	if err := observed(lifecycle)(telemetry.ObservePool(mp, "main", db.DB)); err != nil {
		return err
	}
	return observed(lifecycle)(telemetry.ObserveNATS(mp, nc))
}

// observeLease measures the connections of the elector.
func observeLease(lifecycle fx.Lifecycle, mp metric.MeterProvider, elector *postgres.Elector) error {
	return observed(lifecycle)(telemetry.ObservePool(mp, "lease", elector.Pool()))
}

// observeRelay measures the relay of an instance that takes part in elections.
func observeRelay(lifecycle fx.Lifecycle, mp metric.MeterProvider, r *relaying.Relay, log *postgres.Log, elector *postgres.Elector) error {
	if err := observeLease(lifecycle, mp, elector); err != nil {
		return err
	}
	return observed(lifecycle)(engine.ObserveRelay(mp, engine.Observed{Relay: r, Log: log}))
}

// sharedParts are the ports that observeShared measures.
type sharedParts struct {
	fx.In
	Relay     *relaying.Relay
	Log       *postgres.Log
	Inspector operations.RelayInspector
	Progress  operations.ProgressReader
	Operator  inbox.Operator
	Consumers *jetstream.SubscriberLags
}

// observeShared measures outbox, parking lot and subscribers, which are the same for every instance.
func observeShared(lifecycle fx.Lifecycle, mp metric.MeterProvider, parts sharedParts) error {
	return observed(lifecycle)(engine.ObserveShared(mp, engine.Observed{
		Relay: parts.Relay, Log: parts.Log, Inspector: parts.Inspector, Progress: parts.Progress, Operator: parts.Operator, Lags: parts.Consumers,
	}))
}
