package main

import (
	"context"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/opening"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
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
	Ring        *opening.Ring
}

// newSubscriber returns the copy of a subscriber that runs in this process.
func newSubscriber(s subscriberParts) (*subscribing.Subscriber, error) {
	id := s.Config.Subscriber.ID
	reader, err := jetstream.NewReader(s.NATS, engine.Reader(s.Config, id, s.Logger))
	if err != nil {
		return nil, err
	}
	s.Lifecycle.Append(fx.StopHook(reader.Close)) // before the subscriber's hook, so the reader closes after the subscriber ends
	if err := observed(s.Lifecycle)(telemetry.ObserveDeadLetters(s.Meters, id, s.Admin.CountDead)); err != nil {
		return nil, err
	}
	if err := observed(s.Lifecycle)(telemetry.ObserveErased(s.Meters, id, s.Ring.Erased)); err != nil {
		return nil, err
	}
	if _, err := s.Handlers(s.Config.Subscriber.Handler); err != nil {
		return nil, err
	}
	subscriber := engine.NewSubscriber(s.Config, subscribing.Ports{
		Notifier: s.Notifier, Stream: reader, Checkpoints: s.Checkpoints, Work: s.Work, Letters: s.Letters,
		Sweeper: s.Sweeper, Log: s.Log, Handlers: s.Handlers,
	}, s.Logger)
	return subscriber, observed(s.Lifecycle)(telemetry.ObserveLoss(s.Meters, id, subscriber.Lost))
}

func runSubscriber(background background, c config.Config, subscriber *subscribing.Subscriber) {
	id := c.Subscriber.ID
	background.run("subscriber "+id, func(ctx context.Context) error { return engine.WithRemedy(subscriber.Run(ctx), id) })
}

// subscribingChecks returns the checks of a process with a subscriber.
func subscribingChecks(
	c config.Config, db *bun.DB, nc *nats.Conn, admin operations.DeadLetterAdmin, subscriber *subscribing.Subscriber,
) []httpapi.Check {
	return append([]httpapi.Check{engine.DatabaseCheck(db), engine.BrokerCheck(nc, true)}, engine.SubscriberChecks(c.Subscriber.ID, admin, subscriber)...)
}
