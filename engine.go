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

// Engine has what the parts of one service's outbox share: the configuration, and the connections to the database and the broker. Declare the
// parts first, with Relay and Subscriber, then Admin. Then call Run. Outbox and Migrate may be used at any time until Close. An Engine is safe
// for concurrent use.
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

	mu      sync.Mutex // guards what follows, and closers
	closed  bool
	started bool
	stop    context.CancelCauseFunc // ends Run
	ended   chan struct{}           // closed when Run has returned

	relay       *relayParts
	admin       bool
	subscribers map[string]bool
	loops       []loop
	checks      []httpapi.Check
}

// loop is something that works from the beginning to the end of Run.
type loop struct {
	name string
	run  func(ctx context.Context) error
	last bool // it ends after the others have ended
}

func newEngine(c config.Config, b *Builder) (*Engine, error) {
	e := &Engine{config: c, logger: b.logger, traces: b.traces, meters: b.meters, subscribers: make(map[string]bool)}
	var err error
	if e.db, err = e.open(c.Database.MaxConns); err != nil {
		return nil, err
	}
	if e.nats, err = jetstream.Connect(engine.Broker(c, b.logger)); err != nil {
		e.closeAll()
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

// Close ends Run, waits until Run has returned, and closes the connections. Nothing of the Engine may be used afterwards. Do not call Close in a
// handler: it would wait for itself. Further calls do nothing.
func (e *Engine) Close() {
	e.mu.Lock()
	stop, ended := e.stop, e.ended
	e.closed = true
	e.mu.Unlock()
	if stop != nil {
		stop(ErrClosed)
		<-ended
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closeAll()
}

func (e *Engine) closeAll() {
	for len(e.closers) > 0 {
		last := len(e.closers) - 1
		e.closers[last]()
		e.closers = e.closers[:last]
	}
}

// declare calls part, which declares a part, unless it is too late for that.
func (e *Engine) declare(part func() error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return ErrClosed
	case e.started:
		return ErrStarted
	case e.admin:
		return errAfterAdmin
	}
	return part()
}

var errAfterAdmin = errors.New("declare every other part before the admin handler, which shows what was declared, and declare that once")

// Outbox returns what appends events.
func (e *Engine) Outbox() *Outbox { return e.outbox }

// Migrate brings the engine's own tables up to date, and checks that the database cannot lose events. docs/library.md lists the tables. They
// are in the first schema of search_path, so two services share a database only if each has a schema of its own. Any number of processes may
// call Migrate at once. The role needs the right to create tables. Migrate waits up to 30 seconds for a database that cannot be used yet.
func (e *Engine) Migrate(ctx context.Context) error {
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return ErrClosed
	}
	return engine.Prepare(ctx, e.config, e.logger, postgres.EngineTables)
}

// Run runs what was declared until ctx ends, and then returns nil. It begins with the checks of Migrate, but changes no table. If a part cannot
// go on, Run stops the others and returns the reason. Outages end no part. If Close ends Run, Run returns ErrClosed. Call Run once; only if its
// checks have failed, it may be called again.
func (e *Engine) Run(ctx context.Context) error {
	ctx, err := e.start(ctx)
	if err != nil {
		return err
	}
	checked := false
	defer func() { e.finish(checked) }()
	if err := e.check(ctx); err != nil {
		if ctx.Err() != nil { // stopped while it waited for the database
			return ended(ctx)
		}
		return err
	}
	checked = true
	var running, notifying sync.WaitGroup
	later, stopNotifier := context.WithCancel(context.WithoutCancel(ctx)) // a relay that resigns notifies the others
	for _, l := range e.loops {
		within, group := ctx, &running
		if l.last {
			within, group = later, &notifying
		}
		group.Go(func() {
			if err := l.run(within); ctx.Err() == nil {
				e.stop(fmt.Errorf("%s: %w", l.name, cmp.Or(err, errEnded)))
			}
		})
	}
	running.Wait()
	stopNotifier()
	notifying.Wait()
	return ended(ctx)
}

// start returns the context of Run, which Close can end.
func (e *Engine) start(ctx context.Context) (context.Context, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return nil, ErrClosed
	case e.started:
		return nil, ErrStarted
	case len(e.loops) == 0:
		return nil, errors.New("the engine has nothing to run: declare a relay, a subscriber or an admin handler first")
	}
	e.started, e.ended = true, make(chan struct{})
	ctx, e.stop = context.WithCancelCause(ctx)
	return ctx, nil
}

// finish ends Run. If the checks have failed, Run may be called again.
func (e *Engine) finish(checked bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stop(nil)
	e.started = checked
	close(e.ended)
}

// check checks the database before anything runs.
func (e *Engine) check(ctx context.Context) error {
	if err := engine.Check(ctx, e.config, e.logger); err != nil {
		return fmt.Errorf("%w (Migrate brings the engine's tables up to date)", err)
	}
	if e.relay == nil {
		return nil
	}
	_, err := postgres.CheckOnlyRelay(ctx, e.db, e.config.Stream.Name)
	if !errors.Is(err, postgres.ErrOtherRelay) {
		return nil //nolint:nilerr // an outage: checkOnlyRelay looks again
	}
	return err
}

// ended returns why ctx ended, or nil if the caller ended it.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

var errEnded = errors.New("it ended without an error")
