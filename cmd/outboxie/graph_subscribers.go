package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	outboxports "github.com/assylzhan-a/outboxie/internal/ports/outbox"
)

// subscribers is the graph of one subscriber for each id. stays says that the process goes on without one that was forgotten.
func subscribers(stays bool, ids ...string) fx.Option {
	return fx.Options(fx.Provide(func() *running { return &running{} }), fx.Invoke(func(s subscriberParts) error {
		for _, id := range ids {
			if err := s.run(id, len(ids), stays); err != nil {
				return err
			}
		}
		return nil
	}))
}

// subscriberParts is what every subscriber of a process shares.
type subscriberParts struct {
	fx.In
	Background  background
	Lifecycle   fx.Lifecycle
	Config      config.Config
	NATS        *nats.Conn
	Work        inbox.UnitOfWork
	Checkpoints inbox.Checkpoints
	Letters     inbox.DeadLetters
	Admin       inbox.DeadLetterAdmin
	Sweeper     inbox.Sweeper
	Log         inbox.Log
	Traces      trace.TracerProvider
	Meters      metric.MeterProvider
	Logger      *slog.Logger
	Running     *running
	Handlers    handlerParts
	Waker       outboxports.Waker
}

// otherConnections is how many of the pool's connections are not for the transactions of lanes: one for looking, one for dead letters,
// and one for checks and metrics.
const otherConnections = 3

// run starts one of so many subscribers of the process. stays says that the process goes on without a subscriber that was forgotten.
func (s subscriberParts) run(id string, ids int, stays bool) error {
	reader, err := jetstream.NewReader(s.NATS, jetstream.ReaderOptions{Stream: s.Config.Stream.Name, Subscriber: id, Logger: s.Logger})
	if err != nil {
		return err
	}
	s.Lifecycle.Append(fx.StopHook(reader.Close)) // before the subscriber's hook, so that it runs after the subscriber's end
	if err := observed(s.Lifecycle)(telemetry.ObserveDeadLetters(s.Meters, id, s.Admin.CountDead)); err != nil {
		return err
	}
	work := telemetry.TraceInbox(s.Traces, id, s.Config.Stream.Name, telemetry.InboxPorts{Work: s.Work, Letters: s.Letters})
	work = telemetry.MeasureInbox(s.Meters, id, s.Config.Stream.Name, work)
	c := s.Config.Subscriber
	if _, err := s.Handlers.handler(id, c.Handler); err != nil {
		return err
	}
	subscriber := subscribing.New(id, s.Config.InstanceID, subscribing.Ports{
		Waker: s.Waker, Stream: reader, Checkpoints: telemetry.MeasureCheckpoints(s.Meters, id, s.Checkpoints), Work: work.Work, Letters: work.Letters,
		Sweeper: s.Sweeper, Log: s.Log,
		Handlers: func(name string) (inbox.Handler, error) {
			handler, err := s.Handlers.handler(id, name)
			if err != nil {
				return nil, err
			}
			return telemetry.TraceHandler(handler), nil
		},
	}, subscribing.Options{
		Handler: c.Handler, CallTime: c.IdleTimeout * 2 / 5, // less than half
		Lanes: c.Lanes, BatchTime: c.BatchTime, ReadAhead: c.ReadAhead, MaxAttempts: c.MaxAttempts, Retention: c.InboxRetention,
		Transactions: max((s.Config.Database.MaxConns-otherConnections)/ids, 1),
		Command:      letterCommand, Skip: skipCommand, Continue: c.OnLoss == config.Continue,
	}, s.Logger.With("subscriber", id))
	if err := observed(s.Lifecycle)(telemetry.ObserveLoss(s.Meters, id, subscriber.Lost)); err != nil {
		return err
	}
	s.Running.add(id, subscriber)
	s.Background.run("subscriber "+id, func(ctx context.Context) error {
		err := cured(subscriber.Run(ctx), id)
		if stays && errors.Is(err, inbox.ErrForgotten) {
			s.Logger.Error("a subscriber has ended; everything else goes on", "subscriber", id, "error", err)
			s.Running.end(id, err)
			<-ctx.Done()
			return nil
		}
		return err
	})
	return nil
}

// running are the subscribers of a process.
type running struct {
	mu    sync.Mutex
	all   map[string]*subscribing.Subscriber // by id
	ended map[string]error                   // why those ended that the process goes on without
}

// end notes that a subscriber has ended, and why.
func (r *running) end(id string, reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == nil {
		r.ended = make(map[string]error)
	}
	r.ended[id] = reason
}

func (r *running) add(id string, subscriber *subscribing.Subscriber) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[string]*subscribing.Subscriber)
	}
	r.all[id] = subscriber
}

// check reports what keeps subscribers from their work.
func (r *running) check() httpapi.Check {
	return httpapi.Check{Name: "subscriber", Probe: func(context.Context) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, id := range slices.Sorted(maps.Keys(r.all)) {
			if reason := r.ended[id]; reason != nil {
				return reason
			}
			if trouble := r.all[id].Trouble(); trouble != "" {
				return fmt.Errorf("%s: %s", id, trouble)
			}
		}
		return nil
	}}
}

// letterChecks tell of dead letters. What is not behind one of them goes on, so nobody needs to be kept away.
func letterChecks(admin inbox.DeadLetterAdmin, subscribers ...string) []httpapi.Check {
	var checks []httpapi.Check
	for _, id := range subscribers {
		checks = append(checks, httpapi.Check{Name: "dead letters of " + id, Probe: func(ctx context.Context) error {
			dead, err := admin.CountDead(ctx, id)
			if err == nil && dead > 0 {
				err = fmt.Errorf("%d dead; `%s` lists them", dead, letterCommand("dead", id, ""))
			}
			return err
		}})
	}
	return checks
}
