package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// DecorateRelay wraps the ports of a relay in tracing and measurements. They are wrapped together, because an incident at one port is shown on
// the spans of another port. The relay publishes over nc.
func DecorateRelay(
	c config.Config, tp trace.TracerProvider, mp metric.MeterProvider, nc *nats.Conn, ports telemetry.RelayPorts,
) telemetry.RelayPorts {
	by := telemetry.Source{Instance: c.InstanceID, Broker: nc.ConnectedAddr}
	return telemetry.MeasureRelay(mp, c.Stream.Name, telemetry.TraceRelay(tp, c.Stream.Name, by, ports))
}

// NewRelay returns the relay of this process.
func NewRelay(c config.Config, ports relaying.Ports, logger *slog.Logger) *relaying.Relay {
	return relaying.New(ports, relayOptions(c), logger.With("instance", c.InstanceID))
}

// longWait is how long an open transaction may delay the relay before readiness reports the transaction.
const longWait = 2 * time.Second

// RelayChecks returns the checks of a process with a relay. If one fails, the process is degraded, and stays ready: the service still accepts
// changes, and their events wait in the outbox.
func RelayChecks(r *relaying.Relay, log *postgres.Log, publisher *jetstream.Publisher) []httpapi.Check {
	return []httpapi.Check{
		{Name: "relay", Probe: func(context.Context) error {
			switch status := r.Status(); {
			case status.Halt != nil:
				return status.Halt
			case status.Trouble != "":
				return errors.New(status.Trouble)
			case status.Parked:
				return errors.New("events are parked, because the broker cannot take an earlier event of their aggregate: outboxie outbox parked")
			}
			if wait := log.OldestWait(); wait > longWait {
				return fmt.Errorf("events wait for an open transaction that writes the outbox, for %s so far; the log names it",
					wait.Round(time.Second))
			}
			return nil
		}},
		{Name: "stream", Probe: func(context.Context) error { // fails on the leader if settings limit what the stream holds
			if findings := publisher.Findings(); r.Status().State == relaying.Leading && len(findings) > 0 {
				return errors.New(strings.Join(findings, "; "))
			}
			return nil
		}},
	}
}

// Observed are the sources of a relay's measurements.
type Observed struct {
	Relay     *relaying.Relay
	Log       *postgres.Log
	Inspector operations.RelayInspector
	Progress  operations.ProgressReader
	Operator  inbox.Operator
	Lags      operations.StreamLags
}

// ObserveRelay measures a relay that takes part in elections.
func ObserveRelay(mp metric.MeterProvider, from Observed) (metric.Registration, error) {
	return telemetry.ObserveRelay(mp, func() telemetry.RelayState { return MeasuredState(from.Relay, from.Log) })
}

// MeasuredState returns what is measured of a relay.
func MeasuredState(r *relaying.Relay, log *postgres.Log) telemetry.RelayState {
	status := r.Status()
	state := telemetry.RelayState{
		Leads: status.State == relaying.Leading, Term: status.Token,
		Elections: status.Elections, TakeOvers: status.TakeOvers, Heals: status.Heals,
	}
	if status.Halt != nil {
		state.Halt = status.Halt.Reason
	}
	state.GapWaits, state.GapWaited = log.Waits()
	return state
}

// ShownRelay returns what the admin listener shows of a relay of its process.
func ShownRelay(name, stream string, r *relaying.Relay) httpapi.RelayState {
	status := r.Status()
	shown := httpapi.RelayState{
		Name: name, Stream: stream, State: httpapi.RelayStateState(status.State), Position: int64(status.Position),
	}
	if status.Halt != nil {
		halted := status.Halt.Error()
		shown.State, shown.Halted = httpapi.RelayStateStateHalted, &halted
	}
	if status.Trouble != "" {
		shown.Trouble = &status.Trouble
	}
	return shown
}

// ObserveShared measures outbox, parking lot and subscribers, which are the same for every instance.
func ObserveShared(mp metric.MeterProvider, from Observed) (metric.Registration, error) {
	return telemetry.ObserveShared(mp, telemetry.Shared{
		Leads:   func() bool { return from.Relay.Status().State == relaying.Leading },
		Waiting: from.Log.OldestWait,
		Measures: func(ctx context.Context) (operations.RelayMetrics, error) {
			return from.Inspector.Measure(ctx, from.Relay.Status().Position)
		},
		Lags: func(ctx context.Context) ([]operations.Lag, error) {
			return operating.Lags(ctx, from.Progress, from.Lags)
		},
		Overviews: from.Operator.Overviews,
	})
}
