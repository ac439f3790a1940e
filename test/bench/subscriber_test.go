package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/assylzhan-a/outboxie/internal/adapters/postgres"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/test/infra"
)

const (
	effectBatch = 500    // effects in each transaction of the floor
	customers   = 2_000  // who place the orders of a backlog
	fillAtOnce  = 50_000 // events that are in memory while a stream is filled
)

// measureSubscriber lets copies of subscribers apply the events of one stream, which grows. All of them share the servers. The lag is measured
// on separate servers.
func measureSubscriber(t *testing.T, size scale) []figure {
	t.Helper()
	db, database := monitored(t)
	requireDurable(t, database)
	broker := infra.NATS(t).URL
	fillTo := streamFiller(t, broker)
	connection := connectFloor(t, database)
	b := backlog{db: db, database: database, broker: broker, events: fillTo(size.effects)}
	figures := b.measure(t, size, func() (float64, spending) { return applySetBased(t, db, connection, b.events) })
	events := size.effects
	grow := func(to int) {
		for events < to {
			events = min(events+fillAtOnce, to)
			fillTo(events)
		}
	}
	grow(size.slowEvents)
	figures = append(figures, measureSlow(t, size, db, database, broker, connection)...)
	grow(size.memory)
	figures = append(figures, measureSubscriberMemory(t, db, database, broker, events)...)
	return append(figures, measureLag(t, size))
}

// backlog holds events of a stream, and the servers on which copies apply them.
type backlog struct {
	db               *sql.DB
	database, broker string
	events           []outbox.Entry
	copies           int // that have applied it
}

// measure lets one copy apply the backlog: with the sample effect, with a handler of one plain statement an event, and with and without
// telemetry; in turns with the same effects from memory, set-based in SQL.
func (b *backlog) measure(t *testing.T, size scale, setBased func() (float64, spending)) []figure {
	t.Helper()
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	plain, err := postgres.Open(postgres.Options{URL: b.database})
	require.NoError(t, err)
	defer plain.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	traced := func(disabled bool) setting {
		t.Setenv("OTEL_SDK_DISABLED", strconv.FormatBool(disabled))
		return setting{telemetry: setup(t)}
	}
	without, with := traced(true), traced(false)
	var sample, stated, floor, untraced, sampled []float64
	var cost, least spending
	note := func(into *[]float64, run func() (float64, spending)) (spent spending) {
		reset(t, b.db)
		rate, spent := run()
		*into = append(*into, rate)
		return spent
	}
	for round := range size.rounds {
		cost = note(&sample, func() (float64, spending) { return b.apply(t, without, "customer_totals") })
		least = note(&floor, setBased)
		note(&stated, func() (float64, spending) {
			return b.apply(t, setting{telemetry: without.telemetry, work: plainly(plain), totals: plainTotals{}}, "plain_totals")
		})
		for turn := range 2 * size.tracedTurns { // the order of the two changes, too
			if (turn+turn/2+round)%2 == 0 {
				note(&untraced, func() (float64, spending) { return b.apply(t, without, "customer_totals") })
			} else {
				note(&sampled, func() (float64, spending) { return b.apply(t, with, "customer_totals") })
			}
		}
	}
	const text = "the same effects set-based, transactions of 500: "
	events := float64(len(b.events))
	floorText := fmt.Sprintf("%s%.0f/s", text, median(floor))
	traces := figure{
		name:     "the same, 1 % of the orders sampled and exported",
		measured: fmt.Sprintf("%.0f/s", median(sampled)), floor: fmt.Sprintf("with OTEL_SDK_DISABLED: %.0f/s", median(untraced)),
		ratio: pairwise(sampled, untraced), unit: "%", goal: 0.97,
	}
	return []figure{
		{
			name: fmt.Sprintf("effects of one copy of a subscriber, backlog of %d", len(b.events)), measured: fmt.Sprintf("%.0f/s", median(sample)),
			floor: floorText, ratio: pairwise(sample, floor), unit: "%", goal: 0.35,
		},
		{
			name: "the same, a handler of one plain statement an event", measured: fmt.Sprintf("%.0f/s", median(stated)),
			floor: floorText, ratio: pairwise(stated, floor), unit: "%", goal: 0.12,
		},
		traces,
		{name: "WAL of an effect", measured: fmt.Sprintf("%.0f bytes", cost.wal/events), floor: fmt.Sprintf("%s%.0f bytes", text, least.wal/events)},
		statementsFigure(cost, least, events, text),
	}
}

// statementsFigure returns the figure of statements. They are not counted if the server has no pg_stat_statements.
func statementsFigure(cost, floor spending, events float64, text string) figure {
	statements := figure{name: "statements of an effect, BEGIN and COMMIT included", measured: "not counted"}
	if cost.statements > 0 {
		statements.measured = fmt.Sprintf("%.3f", cost.statements/events)
		statements.floor = fmt.Sprintf("%s%.3f", text, floor.statements/events)
	}
	return statements
}

// apply starts a copy of a new subscriber. It returns how many effects the copy commits in a second, from its first transaction until all
// are committed, and what that costs.
func (b *backlog) apply(t *testing.T, s setting, table string) (rate float64, cost spending) {
	t.Helper()
	b.copies++
	s.database, s.broker, s.id, s.instance = b.database, b.broker, "bench"+strconv.Itoa(b.copies), "bench"
	before := spent(t, b.db)
	runtime.GC()
	copied := startCopy(t, s)
	awaitApplied(t, len(b.events), copied)
	taken := time.Since(*copied.began.Load())
	cost = spent(t, b.db).minus(before)
	copied.stop()
	requireTotals(t, b.db, table, len(b.events))
	return perSecond(len(b.events), taken), cost
}

// plainly lets handlers write the totals with a statement for each event, in a transaction of db that is as long as that of the batch.
func plainly(db *bun.DB) func(inbox.UnitOfWork) inbox.UnitOfWork {
	return func(next inbox.UnitOfWork) inbox.UnitOfWork { return plainWork{next, db} }
}

type plainWork struct {
	inbox.UnitOfWork
	db *bun.DB
}

func (w plainWork) Apply(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, judge inbox.FailurePolicy,
) (outcome inbox.Outcome, err error) {
	err = w.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) (err error) {
		outcome, err = w.UnitOfWork.Apply(ctx, subscriber, batch, plainHandler{handler, tx}, judge)
		return err
	})
	return outcome, err
}

type plainHandler struct {
	inbox.Handler
	tx bun.Tx
}

func (h plainHandler) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	return h.Handler.Handle(ctx, plainTx{tx, h.tx}, entry)
}

type plainTx struct {
	inbox.Tx
	tx bun.Tx
}

// plainTotals writes in a plainTx.
type plainTotals struct{}

func (plainTotals) Add(ctx context.Context, tx inbox.Tx, customer value.CustomerID, amount value.Money) error {
	_, err := tx.(plainTx).tx.ExecContext(ctx, `
		INSERT INTO plain_totals AS total (subscriber, customer_id, currency, amount_minor, amount, orders) VALUES ('bench', ?, ?, 0, ?, 1)
		ON CONFLICT (subscriber, customer_id, currency) DO UPDATE
			SET amount = total.amount + excluded.amount, orders = total.orders + excluded.orders`,
		string(customer), string(amount.Currency()), amount.Minor())
	return err
}

// measureLag posts orders at full speed, while a relay delivers them and a subscriber applies them, in processes of their own.
// The lag is the age of the oldest order without an effect when the last one has been answered.
func measureLag(t *testing.T, size scale) figure {
	t.Helper()
	database, broker := infra.Database(t), infra.NATS(t).URL
	api := launch(t, database, broker, nil, "api", "relay").API()
	infra.Launch(t, environment(database, broker), "subscribe", "--id", "bench").WaitFor("subscribed")
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	rate := post(t, api, size.flood)
	var lag float64
	var waiting int
	require.NoError(t, db.QueryRowContext(t.Context(), `
		SELECT coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0), count(*)
		FROM outbox AS o WHERE NOT EXISTS (SELECT FROM inbox AS i WHERE i.subscriber = 'bench' AND i.event_id = o.event_id)`).Scan(&lag, &waiting))
	return figure{
		name:     fmt.Sprintf("lag of a subscriber after %v of POST /orders at full speed, API, relay and subscriber in three processes", size.flood),
		measured: fmt.Sprintf("%.1f s, %d events, at %.0f orders/s", lag, waiting, rate),
		ratio:    lag, unit: " s", goal: 1, upperBound: true,
	}
}
