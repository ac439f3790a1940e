package bench_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// compareEffects compares lone events with the floor of effects. Each goal is the ratio, rounded up, of a subscriber that applies one event in
// each transaction. So a slower subscriber is noticed.
func compareEffects(instances string, took latencies) (p50, p99 figure) {
	const floor = "a synchronous publish, a delivery and one transaction"
	name := "commit until a subscriber's effect, lone event, API and relay in " + instances
	return compare(name+", p50", took.applied, floor, took.effectFloor, 0.50, 2.5),
		compare(name+", p99", took.applied, floor, took.effectFloor, 0.99, 4)
}

// measureEffects lets a subscriber apply all existing events. Then it places lone orders in turns with the messages of the floor. It returns how
// long each message of the floor took from its publish to the commit of its transaction, and when the subscriber had committed the effect of
// each lone event. A commit ends when the program that sent the COMMIT has its answer. The subscriber logs the event at that moment.
func measureEffects(t *testing.T, size scale, api, database, broker string) (took []time.Duration, effective map[string]time.Time) {
	t.Helper()
	floor := newEffectFloor(t, database, broker)
	subscriber := infra.Launch(t, append(environment(database, broker), "LOG_FORMAT=json"), "subscribe", "--id", "bench")
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	awaitEffects(t, db, "bench", size.warmUp+size.rounds*size.orders)
	floor.measure(t, size.warmUp)
	for range size.rounds {
		took = append(took, floor.measure(t, size.lone)...)
		placeAlone(t, api, subscriber, size.lone)
	}
	return took, effects(t, subscriber)
}

// newEffectFloor returns a floor whose messages are as large as the order events in the stream. A message has arrived when a
// transaction with the same writes as an event's effect is committed.
func newEffectFloor(t *testing.T, database, broker string) floor {
	t.Helper()
	nc, err := nats.Connect(broker)
	require.NoError(t, err)
	defer nc.Close()
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "ORDERS")
	require.NoError(t, err)
	event, err := stream.GetLastMsgForSubject(t.Context(), "orders.created")
	require.NoError(t, err)
	f := newFloor(t, broker, "EFFECTS", nats.Msg{Header: plain(event.Header), Data: event.Data})

	connection := connectFloor(t, database)
	delivered, committed := f.arrivals, make(chan arrival)
	f.arrivals = committed
	ctx := t.Context()
	go func() {
		for number := int64(1); ; number++ {
			select {
			case <-delivered:
			case <-ctx.Done():
				return
			}
			if err := applyOne(ctx, connection, number); err != nil {
				if ctx.Err() == nil {
					t.Errorf("the floor's transaction: %v", err)
				}
				return
			}
			committed <- arrival{at: time.Now()}
		}
	}()
	return f
}

// connectFloor connects to the database without the engine, and makes tables like inbox and customer_totals.
func connectFloor(t *testing.T, database string) *pgx.Conn {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = connection.Close(context.Background()) })
	_, err = connection.Exec(t.Context(), `
		CREATE TABLE floor_inbox (LIKE inbox INCLUDING ALL);
		CREATE TABLE floor_totals (LIKE customer_totals INCLUDING ALL);
		CREATE TABLE plain_totals (LIKE customer_totals INCLUDING ALL)`)
	require.NoError(t, err)
	return connection
}

// applyOne writes in one transaction what a subscriber writes for one event.
func applyOne(ctx context.Context, connection *pgx.Conn, position int64) error {
	return pgx.BeginFunc(ctx, connection, func(tx pgx.Tx) error { return writeOne(ctx, tx, position) })
}

func writeOne(ctx context.Context, tx pgx.Tx, position int64) error {
	if _, err := tx.Exec(ctx, `
		INSERT INTO floor_inbox (subscriber, event_id, aggregate_type, aggregate_id, aggregate_version, position)
		VALUES ('bench', $1, 'order', $2, 1, $3)`, uuid.NewString(), uuid.NewString(), position); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO floor_totals AS total (subscriber, customer_id, currency, amount_minor, amount, orders) VALUES ('bench', $1, 'USD', 0, 10050, 1)
		ON CONFLICT (subscriber, customer_id, currency) DO UPDATE
			SET amount = total.amount + excluded.amount, orders = total.orders + excluded.orders`, infra.Customer)
	return err
}

// received is in the log line of each event that is applied alone.
const received = `"msg":"Received order created event"`

// placeAlone posts orders at the floor's pace, each after the subscriber has committed the effect of the one before.
func placeAlone(t *testing.T, api string, subscriber *infra.Process, orders int) {
	t.Helper()
	client := &http.Client{Timeout: waitTimeout}
	defer client.CloseIdleConnections()
	applied := strings.Count(subscriber.String(), received)
	pace := time.NewTicker(interval)
	defer pace.Stop()
	for range orders {
		<-pace.C
		require.NoError(t, placeOrder(client, api))
		applied++
		for began := time.Now(); strings.Count(subscriber.String(), received) < applied; <-pace.C {
			require.Less(t, time.Since(began), waitTimeout, "the subscriber did not apply an event")
		}
	}
}

// effects returns when the subscriber logged each event.
func effects(t *testing.T, subscriber *infra.Process) map[string]time.Time {
	t.Helper()
	logged := make(map[string]time.Time)
	for line := range strings.Lines(subscriber.String()) {
		if !strings.Contains(line, received) {
			continue
		}
		var event struct {
			Time time.Time `json:"time"`
			ID   string    `json:"event_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &event))
		logged[event.ID] = event.Time
	}
	return logged
}

// awaitEffects waits until the subscriber has recorded this number of events.
func awaitEffects(t *testing.T, db *sql.DB, subscriber string, events int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var rows int
		err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM inbox WHERE subscriber = $1", subscriber).Scan(&rows)
		return err == nil && rows == events
	}, waitTimeout, 50*time.Millisecond, "the subscriber did not apply %d events", events)
}
