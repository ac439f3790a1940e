package bench_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/jetstream"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/outboxietest/embedded"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// monitored returns a database on a server of its own with room for three large pools. The server counts statements, if its release has
// pg_stat_statements.
func monitored(t *testing.T) (db *sql.DB, database string) {
	t.Helper()
	open := func(url string) *sql.DB {
		db, err := sql.Open("pgx", url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	db = open(infra.Database(t))
	var counts bool
	require.NoError(t, db.QueryRowContext(t.Context(),
		"SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements')").Scan(&counts))
	if !counts {
		t.Log("statements are not counted: the server has no pg_stat_statements; Debian has it in the package postgresql")
	}
	parameters := map[string]string{"max_connections": "300", "pg_stat_statements.track_planning": "on"}
	if counts {
		parameters["shared_preload_libraries"] = "pg_stat_statements"
	}
	database = infra.Postgres(t, func(o *embedded.PostgresOptions) {
		o.Parameters = parameters
	}).URL
	db = open(database)
	if counts {
		_, err := db.ExecContext(t.Context(), "CREATE EXTENSION pg_stat_statements")
		require.NoError(t, err)
	}
	return db, database
}

// streamFiller creates the stream, and returns a function that fills it up to a number of events. The events are orders of all customers in
// turns. One order in a hundred has a sampled trace. The function returns the events that it publishes.
func streamFiller(t *testing.T, broker string) (fillTo func(events int) []outbox.Entry) {
	t.Helper()
	amount, err := value.ParseMoney("100.50", value.DefaultCurrency)
	require.NoError(t, err)
	quiet := slog.New(slog.DiscardHandler)
	nc, err := jetstream.Connect(jetstream.Options{URL: broker, Name: "bench", Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	publisher, err := jetstream.NewPublisher(nc, jetstream.PublisherOptions{Stream: "ORDERS", Subjects: "orders.>", Source: "/outboxie/orders", Logger: quiet})
	require.NoError(t, err)
	_, err = publisher.Open(t.Context(), 1)
	require.NoError(t, err)
	encoder, last := codec.New(nil), 0
	return func(events int) []outbox.Entry {
		entries := make([]outbox.Entry, events-last)
		for i := range entries {
			number, now := last+i, time.Now()
			entries[i] = outbox.Entry{Message: encodeOrder(t, encoder, number, amount, now), Position: outbox.Position(number + 1), RecordedAt: now}
		}
		stored, err := publisher.Publish(t.Context(), uint64(last), entries)
		require.NoError(t, err)
		require.EqualValues(t, events, stored)
		last = events
		return entries
	}
}

func encodeOrder(t *testing.T, encoder *codec.Codec, number int, amount value.Money, at time.Time) outbox.Message {
	t.Helper()
	message, err := encoder.Encode(order.Created{EventData: order.EventData{At: at, Order: order.Snapshot{
		ID: order.ID(uuid.Must(uuid.NewV7()).String()), CustomerID: value.CustomerID(customer(number)), Amount: amount,
		Status: order.StatusCreated, Version: 1, CreatedAt: at,
	}}}, order.Anyone())
	require.NoError(t, err)
	sampled := 0
	if number%100 == 0 {
		sampled = 1
	}
	message.Headers = map[string]string{"traceparent": fmt.Sprintf("00-%032x-%016x-%02x", number+1, number+1, sampled)}
	return message
}

// customer returns the customer of the order with this number. Neighbors in the stream are not neighbors in an index.
func customer(number int) string {
	return fmt.Sprintf("%08x-0000-4000-8000-000000000000", number%customers*0x9e3779b1&0xffffffff)
}

// reset removes all effects.
func reset(t *testing.T, db *sql.DB) {
	t.Helper()
	for _, statement := range []string{"TRUNCATE inbox, customer_totals, floor_inbox, floor_totals, plain_totals", "CHECKPOINT"} {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
}

// applySetBased applies the effects of a backlog, effectBatch of them in each transaction.
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
		INSERT INTO floor_totals AS total (subscriber, customer_id, currency, amount_minor, amount, orders)
		SELECT 'bench', customer, 'USD', 0, sum(amount), count(*) FROM unnest($1::uuid[], $2::bigint[]) AS e (customer, amount)
		GROUP BY customer ORDER BY customer
		ON CONFLICT (subscriber, customer_id, currency) DO UPDATE
			SET amount = total.amount + excluded.amount, orders = total.orders + excluded.orders`, customerIDs, amounts)
	return err
}

// requireTotals checks that table has the total of each customer of a backlog, and each order once.
func requireTotals(t *testing.T, db *sql.DB, table string, backlog int) {
	t.Helper()
	var rows, orders, amount int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*), sum(orders), sum(amount_minor + amount)::bigint FROM "+table).Scan(&rows, &orders, &amount))
	require.Equal(t, []int{min(backlog, customers), backlog, backlog * 10050}, []int{rows, orders, amount}, table)
}

// spending is what the work costs Postgres: bytes of WAL, and statements, if they are counted.
type spending struct{ wal, statements float64 }

func (s spending) minus(before spending) spending {
	return spending{wal: s.wal - before.wal, statements: s.statements - before.statements}
}

// spent returns the spending so far, without the statements of the measurement.
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
