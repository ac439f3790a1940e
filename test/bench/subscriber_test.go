package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/embedded"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/test/infra"
)

const (
	effectBatch = 500   // effects in each transaction of the floor
	customers   = 2_000 // who place the orders of a backlog
)

// measureSubscriber lets one copy of a subscriber apply a backlog that stands in the stream, in turns with the same effects
// from memory, set-based in SQL. Then it measures how far a subscriber is behind after a time of orders at full speed.
func measureSubscriber(t *testing.T, size scale) []figure {
	t.Helper()
	db, database := monitored(t)
	requireDurable(t, database)
	broker := infra.NATS(t).URL
	backlog := fillStream(t, broker, size.effects)
	connection := connectFloor(t, database)
	var applied, setBased []float64
	var cost, least spending
	for round := range size.rounds {
		reset(t, db)
		rate, spent := applyBacklog(t, db, database, broker, "bench"+strconv.Itoa(round), backlog)
		applied, cost = append(applied, rate), spent
		reset(t, db)
		rate, spent = applySetBased(t, db, connection, backlog)
		setBased, least = append(setBased, rate), spent
	}
	const floor = "the same effects set-based, transactions of 500: "
	events := float64(len(backlog))
	statements := figure{name: "statements of an effect, BEGIN and COMMIT included", measured: "not counted"}
	if cost.statements > 0 {
		statements.measured = fmt.Sprintf("%.3f", cost.statements/events)
		statements.floor = fmt.Sprintf("%s%.3f", floor, least.statements/events)
	}
	return []figure{
		{
			name: fmt.Sprintf("effects of one copy of a subscriber, backlog of %d", len(backlog)), measured: fmt.Sprintf("%.0f/s", median(applied)),
			floor: fmt.Sprintf("%s%.0f/s", floor, median(setBased)), ratio: pairwise(applied, setBased), unit: "%",
			// No goal yet: the goal of a subscriber that applies batches is 0.35, and one event a transaction misses half of it.
		},
		{name: "WAL of an effect", measured: fmt.Sprintf("%.0f bytes", cost.wal/events), floor: fmt.Sprintf("%s%.0f bytes", floor, least.wal/events)},
		statements,
		measureLag(t, size),
	}
}

// monitored returns a database on a server of its own that counts statements, if the server's release has pg_stat_statements.
func monitored(t *testing.T) (db *sql.DB, database string) {
	t.Helper()
	open := func(url string) *sql.DB {
		db, err := sql.Open("pgx", url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	database = infra.Database(t)
	db = open(database)
	var counts bool
	require.NoError(t, db.QueryRowContext(t.Context(),
		"SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements')").Scan(&counts))
	if !counts {
		t.Log("statements are not counted: the server has no pg_stat_statements; Debian has it in the package postgresql")
		return db, database
	}
	database = infra.Postgres(t, func(o *embedded.PostgresOptions) {
		o.Parameters = map[string]string{"shared_preload_libraries": "pg_stat_statements"}
	}).URL
	db = open(database)
	_, err := db.ExecContext(t.Context(), "CREATE EXTENSION pg_stat_statements")
	require.NoError(t, err)
	return db, database
}

// fillStream publishes created orders of customers who take turns, in a new stream, and returns their events.
func fillStream(t *testing.T, broker string, events int) []outbox.Entry {
	t.Helper()
	amount, err := order.ParseMoney("100.50", order.DefaultCurrency)
	require.NoError(t, err)
	encoder, now := codec.New(nil), time.Now()
	entries := make([]outbox.Entry, events)
	for i := range entries {
		message, err := encoder.Encode(order.Created{Fact: order.Fact{At: now, Order: order.Snapshot{
			ID: order.ID(uuid.Must(uuid.NewV7()).String()), CustomerID: order.CustomerID(customer(i)), Amount: amount,
			Status: order.StatusCreated, Version: 1, CreatedAt: now,
		}}})
		require.NoError(t, err)
		message.Headers = map[string]string{"traceparent": fmt.Sprintf("00-%032x-%016x-00", i+1, i+1)}
		entries[i] = outbox.Entry{Message: message, Position: outbox.Position(i + 1), RecordedAt: now}
	}
	quiet := slog.New(slog.DiscardHandler)
	nc, err := jetstream.Connect(jetstream.Options{URL: broker, Name: "bench", Logger: quiet})
	require.NoError(t, err)
	defer nc.Close()
	publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: "ORDERS", Logger: quiet})
	require.NoError(t, err)
	_, err = publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	last, err := publisher.Publish(t.Context(), 0, entries)
	require.NoError(t, err)
	require.EqualValues(t, events, last)
	return entries
}

// customer is who places the order of that number. Neighbors in the stream are not neighbors in an index.
func customer(number int) string {
	return fmt.Sprintf("%08x-0000-4000-8000-000000000000", number%customers*0x9e3779b1&0xffffffff)
}

// reset forgets all effects.
func reset(t *testing.T, db *sql.DB) {
	t.Helper()
	for _, statement := range []string{"TRUNCATE inbox, customer_totals, floor_inbox, floor_totals", "CHECKPOINT"} {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
}

// applyBacklog starts a copy of a new subscriber. It returns how many effects it commits in a second, from when it has subscribed
// until all are committed, and what that costs.
func applyBacklog(t *testing.T, db *sql.DB, database, broker, id string, backlog []outbox.Entry) (rate float64, cost spending) {
	t.Helper()
	last := backlog[len(backlog)-1].ID
	subscriber := infra.Launch(t, environment(database, broker), "subscribe", "--id", id)
	defer subscriber.Kill()
	subscriber.Says("subscribed")
	began := time.Now()
	before := spent(t, db)
	for applied := false; !applied; time.Sleep(5 * time.Millisecond) { // a look is cheap until the last event is there
		require.NoError(t, db.QueryRowContext(t.Context(), `
			SELECT CASE WHEN EXISTS (SELECT FROM inbox AS measured WHERE subscriber = $1 AND event_id = $2)
				THEN (SELECT count(*) FROM inbox WHERE subscriber = $1) = $3 ELSE false END`, id, last, len(backlog)).Scan(&applied))
		require.Less(t, time.Since(began), patience, "the subscriber: %s", subscriber)
	}
	taken := time.Since(began)
	cost = spent(t, db).minus(before)
	requireTotals(t, db, "customer_totals", len(backlog))
	return perSecond(len(backlog), taken), cost
}

// applySetBased applies the same effects in transactions of effectBatch.
func applySetBased(t *testing.T, db *sql.DB, connection *pgx.Conn, backlog []outbox.Entry) (rate float64, cost spending) {
	t.Helper()
	ids, aggregates, customerIDs := make([]string, len(backlog)), make([]string, len(backlog)), make([]string, len(backlog))
	positions, amounts := make([]int64, len(backlog)), make([]int64, len(backlog))
	for i, entry := range backlog {
		ids[i], aggregates[i], customerIDs[i], positions[i], amounts[i] = entry.ID, entry.Key.ID, customer(i), int64(entry.Position), 10050
	}
	before := spent(t, db)
	taken := timed(func() {
		for first := 0; first < len(backlog); first += effectBatch {
			end := min(first+effectBatch, len(backlog))
			require.NoError(t, pgx.BeginFunc(t.Context(), connection, func(tx pgx.Tx) error {
				return applyBatch(t.Context(), tx, ids[first:end], aggregates[first:end], positions[first:end], customerIDs[first:end], amounts[first:end])
			}))
		}
	})
	cost = spent(t, db).minus(before)
	requireTotals(t, db, "floor_totals", len(backlog))
	return perSecond(len(backlog), taken), cost
}

// applyBatch records the events and adds their amounts to the customers' totals, sorted by key.
func applyBatch(ctx context.Context, tx pgx.Tx, ids, aggregates []string, positions []int64, customerIDs []string, amounts []int64) error {
	if _, err := tx.Exec(ctx, `
		INSERT INTO floor_inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position)
		SELECT 'bench', id, 'order', aggregate, 1, position FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS e (id, aggregate, position)
		ON CONFLICT DO NOTHING`, ids, aggregates, positions); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO floor_totals AS total (subscriber, customer_id, currency, amount_minor, orders)
		SELECT 'bench', customer, 'USD', sum(amount), count(*) FROM unnest($1::uuid[], $2::bigint[]) AS e (customer, amount)
		GROUP BY customer ORDER BY customer
		ON CONFLICT (subscriber, customer_id, currency) DO UPDATE
			SET amount_minor = total.amount_minor + excluded.amount_minor, orders = total.orders + excluded.orders`, customerIDs, amounts)
	return err
}

// requireTotals checks that table has the total of each customer of a backlog, and each order once.
func requireTotals(t *testing.T, db *sql.DB, table string, backlog int) {
	t.Helper()
	var rows, orders, amount int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*), sum(orders), sum(amount_minor) FROM "+table).Scan(&rows, &orders, &amount))
	require.Equal(t, []int{min(backlog, customers), backlog, backlog * 10050}, []int{rows, orders, amount}, table)
}

// spending is what the work costs Postgres: bytes of WAL, and statements, if they are counted.
type spending struct{ wal, statements float64 }

func (s spending) minus(before spending) spending {
	return spending{wal: s.wal - before.wal, statements: s.statements - before.statements}
}

// spent returns the spending so far, without the statements that watch it.
func spent(t *testing.T, db *sql.DB) spending {
	t.Helper()
	total := spending{wal: float64(walAt(t, db))}
	var counts bool
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT to_regclass('pg_stat_statements') IS NOT NULL").Scan(&counts))
	if counts {
		require.NoError(t, db.QueryRowContext(t.Context(),
			`SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query !~ 'pg_stat_statements|AS measured|pg_current_wal'`).
			Scan(&total.statements))
	}
	return total
}

// measureLag posts orders at full speed, while a relay delivers them and a subscriber applies them, in processes of their own.
// The lag is the age of the oldest order without an effect when the last one has been answered.
func measureLag(t *testing.T, size scale) figure {
	t.Helper()
	database, broker := infra.Database(t), infra.NATS(t).URL
	api := launch(t, database, broker, nil, "api", "relay").API()
	infra.Launch(t, environment(database, broker), "subscribe", "--id", "bench").Says("subscribed")
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
		ratio:    lag, unit: " s", most: true,
		// No goal yet: the goal of a subscriber that applies batches is 1.
	}
}
