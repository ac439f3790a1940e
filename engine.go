package outboxie

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/config"
	"github.com/assylzhan-a/outboxie/internal/engine"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Engine has what the parts of one service's outbox share: the configuration, and the connections to the database and the broker. Declare the parts
// first, with Relay, Subscriber and Admin. Then call Run. Outbox and Migrate may be used at any time.
type Engine struct {
	config  config.Config
	logger  *slog.Logger
	traces  trace.TracerProvider
	meters  metric.MeterProvider
	db      *bun.DB
	nats    *nats.Conn
	outbox  *Outbox
	emitter inbox.Emitter
	closers []func()

	relay       *relayParts
	subscribers map[string]bool
	loops       []loop
	checks      []httpapi.Check
}

// loop is something that works from the beginning to the end of Run.
type loop struct {
	name string
	run  func(ctx context.Context) error
}

func newEngine(c config.Config, b *Builder) (*Engine, error) {
	e := &Engine{config: c, logger: b.logger, traces: b.traces, meters: b.meters, subscribers: make(map[string]bool)}
	var err error
	if e.db, err = e.open(c.Database.MaxConns); err != nil {
		return nil, err
	}
	if e.nats, err = jetstream.Connect(engine.Broker(c, b.logger)); err != nil {
		e.Close()
		return nil, err
	}
	e.closers = append(e.closers, e.nats.Close)
	notifier := jetstream.NewRemoteNotifier(e.nats, c.Stream.Name, b.logger)
	e.outbox = &Outbox{notifier: notifier, traces: b.traces}
	e.emitter = telemetry.TraceEmitter(b.traces, postgres.NewEmitter())
	e.checks = []httpapi.Check{engine.DatabaseCheck(e.db), engine.BrokerCheck(e.nats, false)}
	return e, nil
}

// open opens a pool that Close closes.
func (e *Engine) open(size int) (*bun.DB, error) {
	options := engine.Database(e.config, e.traces)
	options.MaxOpenConns = size
	db, err := postgres.Open(options)
	if err != nil {
		return nil, err
	}
	e.closers = append(e.closers, func() { _ = db.Close() }) // every statement has ended
	return db, nil
}

// Close closes the connections. Nothing of the Engine may be used afterwards.
func (e *Engine) Close() {
	for len(e.closers) > 0 {
		last := len(e.closers) - 1
		e.closers[last]()
		e.closers = e.closers[:last]
	}
}

// Outbox returns what appends events.
func (e *Engine) Outbox() *Outbox { return e.outbox }

// Migrate brings the engine's own tables up to date, and checks that the database cannot lose events. The tables' names are in
// docs/your-own-service.md. Any number of processes may call it at once. The role needs the right to create tables. Migrate waits up to 30 seconds
// for a database that cannot be used yet.
func (e *Engine) Migrate(ctx context.Context) error {
	return engine.Prepare(ctx, e.config, e.logger, postgres.EngineTables)
}

// Run runs what was declared until ctx ends, and then returns nil. It begins with the checks of Migrate, but changes no table. If a part cannot go
// on, Run stops the others and returns the reason. Outages end no part. Call Run once.
func (e *Engine) Run(ctx context.Context) error {
	if len(e.loops) == 0 {
		return errors.New("the engine has nothing to run: declare a relay, a subscriber or an admin handler first")
	}
	if err := engine.Check(ctx, e.config, e.logger); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // stopped while it waited for the database
		}
		return fmt.Errorf("%w (Migrate brings the engine's tables up to date)", err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var running sync.WaitGroup
	for _, l := range e.loops {
		running.Go(func() {
			if err := l.run(ctx); ctx.Err() == nil {
				stop(fmt.Errorf("%s: %w", l.name, cmp.Or(err, errEnded)))
			}
		})
	}
	running.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

var errEnded = errors.New("it ended without an error")
