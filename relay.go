package outboxie

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/relaying"
	"github.com/assylzhan-a/outboxie/internal/engine"
)

// relayParts are what the relay of a process has, and what operators see of it.
type relayParts struct {
	relay     *relaying.Relay
	log       *postgres.Log
	publisher *jetstream.Publisher
}

// RelayStatus is what the relay of a process is doing.
type RelayStatus struct {
	Leading  bool   // this process publishes
	Position int64  // of the last event that was dealt with, while leading
	Halted   string // why nothing is published until an operator decides; empty: it is not halted
	Trouble  string // the last failure; empty once the relay works again
}

// Relay declares that the process takes part in the relay: Run competes for the lease, and publishes while it has the lease. Declare it once.
//
// An outbox has one stream. If a relay of another stream uses the same tables, Run fails and says so.
func (e *Engine) Relay() error { return e.declare(e.declareRelay) }

func (e *Engine) declareRelay() error {
	if e.relay != nil {
		return errors.New("the engine has a relay already")
	}
	c, name := e.config, engine.RelayName(e.config)
	publisher, err := jetstream.NewPublisher(e.nats, engine.Publisher(c, e.logger))
	if err != nil {
		return err
	}
	lease, err := e.open(2) // a pool of its own, so that a drain at full speed does not delay a renewal
	if err != nil {
		return err
	}
	elector := postgres.NewElector(lease, name.Name, name.Holder, name.LeaseTTL)
	log := postgres.NewLog(e.db, name.Name, e.logger)
	ports := engine.DecorateRelay(c, e.traces, e.meters, e.nats, telemetry.RelayPorts{
		Log: log, Cursors: postgres.NewCursorStore(e.db, name.Name, name.Stream), Publisher: publisher, Elector: elector,
		Retention: postgres.NewRetention(e.db, name.Name),
	})
	notifier := jetstream.NewNotifier(e.nats, name.Stream, e.logger)
	parts := &relayParts{log: log, publisher: publisher, relay: engine.NewRelay(c, relaying.Ports{
		Log: ports.Log, Cursors: ports.Cursors, Publisher: ports.Publisher, Elector: ports.Elector, Retention: ports.Retention,
		Parking: postgres.NewParking(e.db, name.Name), Halts: postgres.NewInstanceHalts(e.db, name.Name, name.Holder),
		Liveness: jetstream.NewLiveness(e.nats, name.Stream, e.logger), Notifier: notifier, Listener: notifier,
	}, e.logger)}
	if err := e.observeRelay(parts, elector); err != nil {
		return err
	}
	e.relay = parts
	e.loops = append(e.loops, loop{name: "notifier", run: notifier.Run, last: true}, loop{name: "relay", run: parts.relay.Run}, loop{name: "the check for other relays", run: e.checkOnlyRelay})
	e.checks = append(e.checks, engine.RelayChecks(parts.relay, log, publisher)...)
	return nil
}

// RelayStatus returns what the relay of this process is doing; the zero value if the process has no relay. It is safe for concurrent use.
func (e *Engine) RelayStatus() RelayStatus {
	e.mu.Lock()
	parts := e.relay
	e.mu.Unlock()
	if parts == nil {
		return RelayStatus{}
	}
	status := parts.relay.Status()
	shown := RelayStatus{Leading: status.State == relaying.Leading, Position: int64(status.Position), Trouble: status.Trouble}
	if status.Halt != nil {
		shown.Halted = status.Halt.Error()
	}
	return shown
}

// checkOnlyRelay looks for relays of other streams again when this relay has its lease, because two relays that start at the same time do not
// see each other before. Then it waits for ctx.
func (e *Engine) checkOnlyRelay(ctx context.Context) error {
	for tick := time.NewTicker(time.Second); ; {
		known, err := postgres.CheckOnlyRelay(ctx, e.db, e.config.Stream.Name)
		if errors.Is(err, postgres.ErrOtherRelay) {
			return err
		}
		if known && err == nil {
			tick.Stop()
			<-ctx.Done()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return nil
		}
	}
}

func (e *Engine) observeRelay(parts *relayParts, elector *postgres.Elector) error {
	lags, err := jetstream.NewSubscriberLags(e.nats, e.config.Stream.Name, e.config.Stream.Subjects)
	if err != nil {
		return err
	}
	name := engine.RelayName(e.config)
	admin := postgres.NewRelayAdmin(e.db, name.Name, name.Stream)
	from := engine.Observed{
		Relay: parts.relay, Log: parts.log, Inspector: admin, Progress: admin, Operator: postgres.NewOperator(e.db), Lags: lags,
	}
	return e.observe(
		func() (metric.Registration, error) { return telemetry.ObservePool(e.meters, "lease", elector.Pool()) },
		func() (metric.Registration, error) { return telemetry.ObservePool(e.meters, "main", e.db.DB) },
		func() (metric.Registration, error) { return telemetry.ObserveNATS(e.meters, e.nats) },
		func() (metric.Registration, error) { return engine.ObserveRelay(e.meters, from) },
		func() (metric.Registration, error) { return engine.ObserveShared(e.meters, from) },
	)
}

// observe makes measurements that Close ends.
func (e *Engine) observe(register ...func() (metric.Registration, error)) error {
	for _, each := range register {
		registration, err := each()
		if err != nil {
			return err
		}
		e.closers = append(e.closers, func() { _ = registration.Unregister() }) // the SDK's never fails
	}
	return nil
}
