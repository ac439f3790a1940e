package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

const haltReasonKey = attribute.Key("outboxie.halt.reason")

// RelayState is the state of an instance's relay at one moment. The counts begin with the process.
type RelayState struct {
	Leads     bool
	Term      int64            // 0 while it does not lead
	Halt      relay.HaltReason // empty: it is not halted
	Elections int64
	TakeOvers int64
	Heals     int64
	GapWaits  int64
	GapWaited time.Duration
}

// ObserveRelay shows the relay of this instance. Only a leader shows a term. Only an instance that does not lead shows a halt.
func ObserveRelay(mp metric.MeterProvider, read func() RelayState) (metric.Registration, error) {
	m := meter(mp)
	counter := func(name, unit, description string) metric.Int64ObservableCounter {
		return orReport(m.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description)))
	}
	var (
		leader = orReport(m.Int64ObservableGauge("outboxie.relay.leader", metric.WithUnit("{leader}"),
			metric.WithDescription("1 on the instance that leads, else 0. Over all instances there should be one.")))
		term = orReport(m.Int64ObservableGauge("outboxie.relay.term", metric.WithUnit("{term}"),
			metric.WithDescription("Fencing token of the term, on the instance that leads. It rises with each new leader.")))
		halted = orReport(m.Int64ObservableGauge("outboxie.relay.halted", metric.WithUnit("{halt}"),
			metric.WithDescription("1 for the reason why the relay of this instance is halted, else 0.")))
		elections = counter("outboxie.relay.elections", "{election}", "How often this instance became the leader.")
		takeOvers = counter("outboxie.relay.takeovers", "{takeover}",
			"How often this instance looked where the stream ends and went on from there: at the start of each term, and after each conflict, outage and halt.")
		heals    = counter("outboxie.relay.heals", "{heal}", "Take-overs that found that the stream had lost acknowledged messages, which are published again.")
		gapWaits = counter("outboxie.outbox.gap.waits", "{wait}", "How often the relay waited for an open transaction that could still fill a gap in the outbox.")
		gapTime  = orReport(m.Float64ObservableCounter("outboxie.outbox.gap.wait_time", metric.WithUnit("s"),
			metric.WithDescription("How long the relay waited for open transactions, all in all, without a wait that is still under way.")))
	)
	reasons := make(map[relay.HaltReason]metric.MeasurementOption)
	for _, reason := range relay.HaltReasons() {
		reasons[reason] = set(haltReasonKey.String(string(reason)))
	}
	return m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		state := read()
		o.ObserveInt64(leader, flag(state.Leads))
		if state.Leads {
			o.ObserveInt64(term, state.Term)
		}
		for reason, named := range reasons {
			o.ObserveInt64(halted, flag(state.Halt == reason), named)
		}
		o.ObserveInt64(elections, state.Elections)
		o.ObserveInt64(takeOvers, state.TakeOvers)
		o.ObserveInt64(heals, state.Heals)
		o.ObserveInt64(gapWaits, state.GapWaits)
		o.ObserveFloat64(gapTime, state.GapWaited.Seconds())
		return nil
	}, leader, term, halted, elections, takeOvers, heals, gapWaits, gapTime)
}

// Shared has the sources of values that are the same for all instances.
type Shared struct {
	Leads    func() bool          // whether this instance leads
	Waiting  func() time.Duration // how long its relay has been waiting for an open transaction
	Measures func(ctx context.Context) (operations.RelayMetrics, error)
	Lags     func(ctx context.Context) ([]operations.Lag, error)
	// Overviews returns the overviews of all subscribers.
	Overviews func(ctx context.Context) ([]inbox.Overview, error)
}

// ObserveShared shows outbox, parking lot and subscribers, as the servers have them. The leader shows them for all instances. While nobody
// leads, every instance that may lead shows them, so a backlog can be seen then too. Take the maximum over the instances, never the sum.
func ObserveShared(mp metric.MeterProvider, from Shared) (metric.Registration, error) {
	m := meter(mp)
	count := func(name, unit, description string) metric.Int64ObservableGauge {
		return orReport(m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description)))
	}
	age := func(name, description string) metric.Float64ObservableGauge {
		return orReport(m.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(description)))
	}
	var (
		backlog = count("outboxie.outbox.backlog", "{event}",
			"Events that wait in the outbox to be published, estimated from positions: the positions of rolled-back transactions are included.")
		oldest = age("outboxie.outbox.oldest_unpublished.age",
			"How long ago the first event that waits to be published was recorded; 0 if there is none. Parked ones are left out.")
		kept = count("outboxie.outbox.size", "{event}",
			"Events in the outbox that retention has not removed, estimated from positions.")
		writer = age("outboxie.outbox.oldest_writer.age",
			"Age of the oldest open transaction that has written the outbox; 0 if there is none. Nothing after its events is published before it ends.")
		events = count("outboxie.parking.events", "{event}",
			"Events in the parking lot that wait for an operator or to be redriven. At most 10,000 are counted.")
		aggregates = count("outboxie.parking.aggregates", "{aggregate}", "Aggregates of which events wait in the parking lot.")
		behind     = count("outboxie.subscriber.lag", "{event}",
			"Events in the stream after the slowest checkpoint of a subscriber, whether it runs or not.")
		behindSince = age("outboxie.subscriber.oldest_unhandled.age",
			"How long the first event after the slowest checkpoint has been in the stream; 0 if there is none.")
	)
	standing := newSubscriberGauges(m)
	measures, lags := &recent[operations.RelayMetrics]{ask: from.Measures}, &recent[[]operations.Lag]{ask: from.Lags}
	overviews := &recent[[]inbox.Overview]{ask: from.Overviews}
	return m.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		found, err := measures.get(ctx)
		if leads := from.Leads(); !leads && (err != nil || found.HasLeader) {
			return err
		}
		if err == nil {
			o.ObserveInt64(backlog, found.Backlog)
			o.ObserveFloat64(oldest, found.Oldest.Seconds())
			o.ObserveInt64(kept, found.Retained)
			// The database may hide a transaction of another role. Then only the wait of the relay shows that there is one.
			o.ObserveFloat64(writer, max(found.OldestTransaction, from.Waiting()).Seconds())
			o.ObserveInt64(events, found.ParkedEvents)
			o.ObserveInt64(aggregates, found.ParkedAggregates)
		}
		subscribers, unknown := lags.get(ctx)
		for _, lag := range subscribers {
			whose := set(semconv.MessagingConsumerGroupName(lag.Subscriber))
			o.ObserveInt64(behind, lag.Events, whose)
			o.ObserveFloat64(behindSince, lag.Oldest.Seconds(), whose)
		}
		known, unseen := overviews.get(ctx)
		standing.observe(o, known, subscribers)
		return errors.Join(err, unknown, unseen)
	}, append(standing.instruments(), backlog, oldest, kept, writer, events, aggregates, behind, behindSince)...)
}
