package telemetry

import (
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// lanesShown is a limit: if a subscriber has more lanes, the sequences of its lanes are not shown.
const lanesShown = 16

// subscriberGauges has the instruments that show the state of subscribers, as it is in their database.
type subscriberGauges struct {
	copies, lanes, sequence metric.Int64ObservableGauge
	paused, stalled         metric.Float64ObservableGauge
}

func newSubscriberGauges(m metric.Meter) subscriberGauges {
	count := func(name, unit, description string) metric.Int64ObservableGauge {
		return orReport(m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description)))
	}
	age := func(name, description string) metric.Float64ObservableGauge {
		return orReport(m.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(description)))
	}
	return subscriberGauges{
		copies: count("outboxie.subscriber.copies", "{copy}", "Copies of a subscriber that have announced themselves in the last three seconds."),
		lanes:  count("outboxie.subscriber.lanes", "{lane}", "Lanes of a subscriber."),
		sequence: count("outboxie.subscriber.lane.sequence", "{message}",
			"Up to which message of the stream a lane has come. Only of subscribers with up to 16 lanes."),
		paused: age("outboxie.subscriber.paused.age", "How long an operator has paused the subscriber; 0 if it is not paused."),
		stalled: age("outboxie.subscriber.stalled_lane.age",
			"Longest time that a lane with messages to handle has not moved; 0 if there is no such lane, or the subscriber is paused."),
	}
}

func (s subscriberGauges) instruments() []metric.Observable {
	return []metric.Observable{s.copies, s.lanes, s.sequence, s.paused, s.stalled}
}

// observe shows subscribers that have lanes and are not forgotten.
func (s subscriberGauges) observe(o metric.Observer, all []inbox.Overview, lags []operations.Lag) {
	behind := make(map[string]bool)
	for _, lag := range lags {
		behind[lag.Subscriber] = lag.Events > 0
	}
	for _, overview := range all {
		if len(overview.Lanes) == 0 {
			continue
		}
		name := semconv.MessagingConsumerGroupName(overview.Subscriber)
		whose := set(name)
		o.ObserveInt64(s.copies, int64(len(overview.Copies)), whose)
		o.ObserveInt64(s.lanes, int64(len(overview.Lanes)), whose)
		o.ObserveFloat64(s.paused, overview.PausedFor.Seconds(), whose)
		o.ObserveFloat64(s.stalled, overview.Stalled(behind[overview.Subscriber]).Seconds(), whose)
		if len(overview.Lanes) > lanesShown {
			continue
		}
		for _, lane := range overview.Lanes {
			o.ObserveInt64(s.sequence, int64(lane.Sequence), set(name, laneKey.Int(lane.Lane))) //nolint:gosec // no stream holds so many
		}
	}
}
