package outboxie

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// SubscriberOptions change a subscriber. A zero field keeps the value of its variable, or the default.
type SubscriberOptions struct {
	Lanes          int           // of a new subscriber, 1 by default: lanes work at the same time, and each aggregate belongs to one of them
	MaxAttempts    int           // failures after which an event is dead; 10 by default
	BatchTime      time.Duration // how long functions work in one transaction; 100 ms by default
	IdleTimeout    time.Duration // longer than one function ever takes; 5 s by default. Postgres ends the transaction of a frozen process after it
	Retention      time.Duration // how long applied events are remembered at least; 0 is for ever
	ReadAhead      int           // bytes of events that wait in memory; 16 MiB by default
	ContinueOnLoss bool          // go on without events that the stream and the outbox have lost; otherwise the subscriber stops before them
}

// Subscriber declares that the process runs a copy of the subscriber id: Run reads the stream from its beginning, or from where the subscriber
// has come to, and calls the handler for each event. Copies in different processes share the work. An id has 1 to 64 letters, digits, - and _.
// It stays the same for ever: a new id is a new subscriber, which handles every event of the stream again. Afterwards the handler cannot be
// changed.
//
// The stream may be that of another service, whose outbox is in another database.
func (e *Engine) Subscriber(id string, handler AnyHandler, options SubscriberOptions) error {
	return e.declare(func() error { return e.declareSubscriber(id, handler, options) })
}

func (e *Engine) declareSubscriber(id string, handler AnyHandler, options SubscriberOptions) error {
	if e.subscribers[id] {
		return fmt.Errorf("the engine has subscriber %s already: copies run in processes of their own", id)
	}
	if handler == nil {
		return fmt.Errorf("subscriber %s has no handler", id)
	}
	built, err := handler.build(e)
	if err != nil {
		return fmt.Errorf("subscriber %s: %w", id, err)
	}
	made := telemetry.TraceHandler(built)
	c, err := e.config.ForSubscriber(id, made.Name(), options.apply)
	if err != nil {
		return err
	}
	db, err := e.open(c.Database.MaxConns)
	if err != nil {
		return err
	}
	reader, err := jetstream.NewReader(e.nats, engine.Reader(c, id, e.logger))
	if err != nil {
		return err
	}
	e.closers = append(e.closers, reader.Close)
	store := postgres.NewInbox(db, engine.Inbox(c))
	ports := engine.DecorateInbox(c, e.traces, e.meters, telemetry.InboxPorts{Work: store, Letters: store, Checkpoints: store})
	subscriber := engine.NewSubscriber(c, subscribing.Ports{
		Stream: reader, Checkpoints: ports.Checkpoints, Work: ports.Work, Letters: ports.Letters, Sweeper: store, Log: store,
		Notifier: e.outbox.notifier,
		Handlers: func(name string) (inbox.Handler, error) { return handlerNamed(made, id, name) },
	}, e.logger)
	err = e.observe(
		func() (metric.Registration, error) {
			return telemetry.ObserveDeadLetters(e.meters, id, store.CountDead)
		},
		func() (metric.Registration, error) { return telemetry.ObserveLoss(e.meters, id, subscriber.Lost) },
	)
	if err != nil {
		return err
	}
	e.subscribers[id] = true
	built.used.Store(true)
	e.loops = append(e.loops, loop{name: "subscriber " + id, run: func(ctx context.Context) error { return engine.WithRemedy(subscriber.Run(ctx), id) }})
	e.checks = append(e.checks, engine.SubscriberChecks(id, store, subscriber)...)
	return nil
}

// handlerNamed returns the handler if it has the name, or if the subscriber has no handler yet.
func handlerNamed(handler inbox.Handler, id, name string) (inbox.Handler, error) {
	if name != "" && name != handler.Name() {
		return nil, fault.New(fault.NotFound, "no_such_handler", "subscriber %s has the handler %q, and this program has %q for it", id, name, handler.Name())
	}
	return handler, nil
}

func (o SubscriberOptions) apply(s *config.Subscriber) {
	for _, number := range []struct {
		given int
		into  *int
	}{{o.Lanes, &s.Lanes}, {o.MaxAttempts, &s.MaxAttempts}, {o.ReadAhead, &s.ReadAhead}} {
		if number.given != 0 {
			*number.into = number.given
		}
	}
	for _, span := range []struct {
		given time.Duration
		into  *time.Duration
	}{{o.BatchTime, &s.BatchTime}, {o.IdleTimeout, &s.IdleTimeout}, {o.Retention, &s.InboxRetention}} {
		if span.given != 0 {
			*span.into = span.given
		}
	}
	if o.ContinueOnLoss {
		s.OnLoss = config.ContinueOnLoss
	}
}
