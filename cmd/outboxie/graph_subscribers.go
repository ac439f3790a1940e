package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// subscriberParts are what a subscriber needs.
type subscriberParts struct {
	fx.In
	Background  background
	Lifecycle   fx.Lifecycle
	Config      config.Config
	NATS        *nats.Conn
	Work        inbox.UnitOfWork
	Checkpoints inbox.Checkpoints
	Letters     inbox.DeadLetters
	Admin       operations.DeadLetterAdmin
	Sweeper     inbox.Sweeper
	Log         inbox.Log
	Meters      metric.MeterProvider
	Logger      *slog.Logger
	Handlers    handlers
	Notifier    relay.Notifier
}

// otherConnections is the number of connections of the pool that the transactions of lanes do not use: one reads the checkpoints, one is
// for dead letters, and one is for checks and metrics.
const otherConnections = 3

// newSubscriber returns the copy of a subscriber that runs in this process.
func newSubscriber(s subscriberParts) (*subscribing.Subscriber, error) {
	id := s.Config.Subscriber.ID
	reader, err := jetstream.NewReader(s.NATS, jetstream.ReaderOptions{
		Stream: s.Config.Stream.Name, Subjects: s.Config.Stream.Subjects, Subscriber: id, Logger: s.Logger,
	})
	if err != nil {
		return nil, err
	}
	s.Lifecycle.Append(fx.StopHook(reader.Close)) // before the subscriber's hook, so the reader closes after the subscriber ends
	if err := observed(s.Lifecycle)(telemetry.ObserveDeadLetters(s.Meters, id, s.Admin.CountDead)); err != nil {
		return nil, err
	}
	c := s.Config.Subscriber
	if _, err := s.Handlers(c.Handler); err != nil {
		return nil, err
	}
	subscriber := subscribing.New(id, s.Config.InstanceID, subscribing.Ports{
		Notifier: s.Notifier, Stream: reader, Checkpoints: s.Checkpoints, Work: s.Work, Letters: s.Letters,
		Sweeper: s.Sweeper, Log: s.Log, Handlers: s.Handlers,
	}, subscribing.Options{
		Handler: c.Handler, CallTime: c.IdleTimeout * 2 / 5, // less than half of IdleTimeout: see CallTime
		Lanes: c.Lanes, BatchTime: c.BatchTime, ReadAhead: c.ReadAhead, MaxAttempts: c.MaxAttempts, Retention: c.InboxRetention,
		Transactions:  max(s.Config.Database.MaxConns-otherConnections, 1),
		LetterCommand: letterCommand, LossAdvice: lossAdvice, Continue: c.OnLoss == config.ContinueOnLoss,
	}, s.Logger.With("subscriber", id))
	return subscriber, observed(s.Lifecycle)(telemetry.ObserveLoss(s.Meters, id, subscriber.Lost))
}

func runSubscriber(background background, c config.Config, subscriber *subscribing.Subscriber) {
	id := c.Subscriber.ID
	background.run("subscriber "+id, func(ctx context.Context) error { return withRemedy(subscriber.Run(ctx), id) })
}

// subscribingChecks returns the checks of a subscriber. Dead letters do not make the subscriber unready: events that do not wait behind
// a dead letter are still applied.
func subscribingChecks(
	c config.Config, db *bun.DB, nc *nats.Conn, admin operations.DeadLetterAdmin, subscriber *subscribing.Subscriber,
) []httpapi.Check {
	id := c.Subscriber.ID
	return []httpapi.Check{
		databaseCheck(db), brokerCheck(nc, true),
		{Name: "subscriber", Probe: func(context.Context) error {
			if trouble := subscriber.Trouble(); trouble != "" {
				return fmt.Errorf("%s: %s", id, trouble)
			}
			return nil
		}},
		{Name: "dead letters of " + id, Probe: func(ctx context.Context) error {
			dead, err := admin.CountDead(ctx, id)
			if err == nil && dead > 0 {
				err = fmt.Errorf("%d dead; `%s` lists them", dead, letterCommand("dead", id, ""))
			}
			return err
		}},
	}
}
