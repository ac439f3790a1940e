package bench_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/app/subscribing"
	"github.com/assylzhan-a/outboxie/internal/app/totals"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// setting holds the settings of a copy of a subscriber.
type setting struct {
	database, broker string
	id, instance     string
	lanes            int // 0: the default
	connections      int // of the pool; 0: the default
	telemetry        *telemetry.Telemetry
	handler          func(inbox.Handler) inbox.Handler       // around the sample effect; nil: nothing
	totals           orders.Totals                           // the sample effect; nil: as usual
	work             func(inbox.UnitOfWork) inbox.UnitOfWork // around the transactions; nil: nothing
}

// runningCopy is a copy of a subscriber in this process. It counts events that were applied, and transactions that are under way.
type runningCopy struct {
	inbox.UnitOfWork
	applied, underWay, most atomic.Int64
	began                   atomic.Pointer[time.Time] // the first transaction

	subscriber *subscribing.Subscriber
	stop       func() // it may be called twice
}

// Apply counts the transaction, and the events that it applies.
func (c *runningCopy) Apply(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (inbox.Outcome, error) {
	if c.began.Load() == nil {
		began := time.Now()
		c.began.CompareAndSwap(nil, &began)
	}
	now := c.underWay.Add(1)
	defer c.underWay.Add(-1)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
	}
	outcome, err := c.UnitOfWork.Apply(ctx, subscriber, batch, handler, judge)
	for _, result := range outcome.Results {
		if result == inbox.Applied {
			c.applied.Add(1)
		}
	}
	return outcome, err
}

// otherConnections is how many connections of a pool are not for the transactions of lanes, as in `subscribe`.
const otherConnections = 3

// startCopy starts a copy as `subscribe` does. It is connected when startCopy returns.
func startCopy(t *testing.T, s setting) *runningCopy {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	if s.connections == 0 {
		s.connections = 16
	}
	if s.telemetry == nil {
		s.telemetry = setup(t)
	}
	traces, meters := s.telemetry.TracerProvider(), s.telemetry.MeterProvider()
	db, err := postgres.Open(postgres.Options{URL: s.database, MaxOpenConns: s.connections, TracerProvider: traces})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return db.PingContext(t.Context()) == nil }, waitTimeout, time.Millisecond)
	nc, err := jetstream.Connect(jetstream.Options{URL: s.broker, Name: s.instance, Logger: quiet})
	require.NoError(t, err)
	reader, err := jetstream.NewReader(nc, jetstream.ReaderOptions{Stream: "ORDERS", Subjects: "orders.>", Subscriber: s.id, Logger: quiet})
	require.NoError(t, err)
	store := postgres.NewInbox(db, postgres.InboxOptions{})
	ports := telemetry.TraceInbox(traces, s.id, "ORDERS", telemetry.Source{Instance: s.instance}, telemetry.InboxPorts{Work: store, Letters: store, Checkpoints: store})
	ports = telemetry.MeasureInbox(meters, s.id, "ORDERS", ports)
	if s.totals == nil {
		s.totals = postgres.NewTotals()
	}
	counted := totals.New(s.id, codec.New(nil), s.totals, quiet)
	handler := telemetry.TraceHandler(subscribing.NewHandler(totals.Name, counted.Functions(), counted.Applied))
	if s.handler != nil {
		handler = s.handler(handler)
	}
	if s.work != nil {
		ports.Work = s.work(ports.Work)
	}
	c := &runningCopy{UnitOfWork: ports.Work}
	c.subscriber = subscribing.New(s.id, s.instance, subscribing.Ports{
		Stream: reader, Checkpoints: ports.Checkpoints, Work: c, Letters: ports.Letters, Sweeper: store,
		Handlers: func(string) (inbox.Handler, error) { return handler, nil },
	}, subscribing.Options{Lanes: s.lanes, Transactions: s.connections - otherConnections}, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.subscriber.Run(ctx) }()
	c.stop = func() {
		if ctx.Err() != nil {
			return
		}
		cancel()
		require.NoError(t, <-ended)
		reader.Close()
		nc.Close()
		_ = db.Close()
	}
	t.Cleanup(c.stop)
	return c
}

// awaitApplied waits until the copies have applied this number of events.
func awaitApplied(t *testing.T, events int, copies ...*runningCopy) {
	t.Helper()
	for began := time.Now(); appliedBy(copies...) < events; time.Sleep(time.Millisecond) {
		require.Less(t, time.Since(began), waitTimeout, "%d of %d events: %s", appliedBy(copies...), events, copies[0].subscriber.Trouble())
	}
}

func appliedBy(copies ...*runningCopy) (events int) {
	for _, c := range copies {
		events += int(c.applied.Load())
	}
	return events
}

// slowly returns a handler that takes so long for each event, within the transaction.
func slowly(takes time.Duration) func(inbox.Handler) inbox.Handler {
	return func(next inbox.Handler) inbox.Handler { return slowHandler{next, takes} }
}

type slowHandler struct {
	inbox.Handler
	takes time.Duration
}

func (h slowHandler) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	time.Sleep(h.takes)
	return h.Handler.Handle(ctx, tx, entry)
}
