package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/adapters/wording"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// otherConnections is the number of connections of the pool that the transactions of lanes do not use: one reads the checkpoints, one is
// for dead letters, and one is for checks and metrics.
const otherConnections = 3

// DecorateInbox wraps the ports of the subscriber that the configuration names in tracing and measurements.
func DecorateInbox(c config.Config, tp trace.TracerProvider, mp metric.MeterProvider, ports telemetry.InboxPorts) telemetry.InboxPorts {
	ports = telemetry.TraceInbox(tp, c.Subscriber.ID, c.Stream.Name, telemetry.Source{Instance: c.InstanceID}, ports)
	return telemetry.MeasureInbox(mp, c.Subscriber.ID, c.Stream.Name, ports)
}

// NewSubscriber returns the copy of the subscriber that the configuration names.
func NewSubscriber(c config.Config, ports subscribing.Ports, logger *slog.Logger) *subscribing.Subscriber {
	s := c.Subscriber
	return subscribing.New(s.ID, c.InstanceID, ports, subscribing.Options{
		Handler: s.Handler, CallTime: s.IdleTimeout * 2 / 5, // less than half of IdleTimeout: see CallTime
		Lanes: s.Lanes, BatchTime: s.BatchTime, ReadAhead: s.ReadAhead, MaxAttempts: s.MaxAttempts, Retention: s.InboxRetention,
		Transactions:  max(c.Database.MaxConns-otherConnections, 1),
		LetterCommand: LetterCommand, LossAdvice: LossAdvice, Continue: s.OnLoss == config.ContinueOnLoss,
	}, logger.With("subscriber", s.ID))
}

// SubscriberChecks returns the checks of a subscriber. Dead letters do not make the subscriber unready: events that do not wait behind a dead
// letter are still applied.
func SubscriberChecks(id string, admin operations.DeadLetterAdmin, subscriber *subscribing.Subscriber) []httpapi.Check {
	return []httpapi.Check{
		{Name: "subscriber", Probe: func(context.Context) error {
			if trouble := subscriber.Trouble(); trouble != "" {
				return fmt.Errorf("%s: %s", id, trouble)
			}
			return nil
		}},
		{Name: "dead letters of " + id, Probe: func(ctx context.Context) error {
			dead, err := admin.CountDead(ctx, id)
			if err == nil && dead > 0 {
				err = fmt.Errorf("%d dead; `%s` lists them", dead, LetterCommand("dead", id, ""))
			}
			return err
		}},
	}
}

// LetterCommand returns the command that lists a subscriber's dead letters, or that changes one of them.
func LetterCommand(verb, subscriber, event string) string {
	args := []string{"outboxie", "subscriber", verb, "--id", subscriber}
	if event != "" {
		args = append(args, "--event", event)
	}
	if verb == "discard" {
		args = append(args, "--yes")
	}
	return printable.Command(args...)
}

// LossAdvice returns the advice for a subscriber that waits for lost messages. The last lost message has the sequence to.
func LossAdvice(subscriber string, to uint64) string {
	return "to go on without them, start once with SUBSCRIBER_ON_LOSS=continue, or run: " +
		printable.Command("outboxie", "subscriber", "skip", "--id", subscriber, "--to", "sequence:"+strconv.FormatUint(to, 10), "--yes")
}

// WithRemedy adds to an error what an operator can do about it.
func WithRemedy(err error, id string) error {
	remedy := wording.SubscriberRemedy(err, id)
	if remedy == "" && errors.Is(err, jetstream.ErrUnavailable) {
		remedy = "NATS_URL says where NATS is"
	}
	if remedy == "" {
		return err
	}
	return fmt.Errorf("%w; %s", err, remedy)
}
