package bench_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/embedded"
	"github.com/assylzhan-a/outboxie/test/infra"
)

const interval = 10 * time.Millisecond // between two orders

// measureLatency compares how long an event takes from its transaction's commit to a plain consumer of the stream with how
// long a message takes from a synchronous publish to one, and tells when a subscriber's effect is there.
func measureLatency(t *testing.T, size scale) []figure {
	floor := measureFloor(t, size)
	var figures []figure
	for _, instances := range []struct {
		name  string
		roles []string
	}{{"two instances", []string{"api", "relay"}}, {"one instance", []string{"api,relay"}}} {
		delivered, applied := measureInstances(t, size, instances.roles...)
		name := "commit until delivered, 100 orders/s, API and relay in " + instances.name
		p50 := compare(name+", p50", delivered, floor, 0.50, 2)
		p99 := compare(name+", p99", delivered, floor, 0.99, 3)
		if !size.complete { // of a few orders, the slowest is an accident
			p99.goal = 0
		}
		figures = append(figures, p50, p99, figure{
			name:     "commit until a subscriber's effect, " + instances.name,
			measured: fmt.Sprintf("p50 %s, p99 %s", milliseconds(percentile(applied, 0.50)), milliseconds(percentile(applied, 0.99))),
		})
	}
	return figures
}

func compare(name string, measured, floor []time.Duration, share, goal float64) figure {
	value, least := percentile(measured, share), percentile(floor, share)
	return figure{
		name: name, measured: milliseconds(value), floor: "a synchronous publish until delivered: " + milliseconds(least),
		ratio: float64(value) / float64(least), unit: "x", goal: goal, most: true,
	}
}

func percentile(latencies []time.Duration, share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(latencies))
	return sorted[max(int(share*float64(len(sorted))+0.5)-1, 0)]
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// arrivals is when each message of a stream reached a plain consumer, by its ce-id, or by its number if it has none.
func arrivals(t *testing.T, url, stream string) <-chan arrival {
	t.Helper()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	consumer, err := js.CreateConsumer(t.Context(), stream, natsjs.ConsumerConfig{AckPolicy: natsjs.AckNonePolicy})
	require.NoError(t, err)
	found := make(chan arrival, 10_000)
	consuming, err := consumer.Consume(func(message natsjs.Msg) { found <- arrival{message.Headers().Get("ce-id"), time.Now()} })
	require.NoError(t, err)
	t.Cleanup(consuming.Stop)
	return found
}

type arrival struct {
	id string
	at time.Time
}

func await(t *testing.T, arrivals <-chan arrival) arrival {
	t.Helper()
	select {
	case arrived := <-arrivals:
		return arrived
	case <-time.After(patience):
		t.Fatal("a message was not delivered")
		return arrival{}
	}
}

// measureFloor returns how long a message takes from a synchronous publish to a plain consumer, at the orders' pace.
func measureFloor(t *testing.T, size scale) []time.Duration {
	t.Helper()
	broker := infra.NATS(t)
	nc, err := nats.Connect(broker.URL)
	require.NoError(t, err)
	defer nc.Close()
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "FLOOR", Subjects: []string{"floor"}})
	require.NoError(t, err)
	arrivals := arrivals(t, broker.URL, "FLOOR")
	body := bytes.Repeat([]byte("x"), 300)
	latencies := make([]time.Duration, size.warmUp+size.orders)
	pace := time.NewTicker(interval)
	defer pace.Stop()
	for i := range latencies {
		<-pace.C
		published := time.Now()
		_, err := js.Publish(t.Context(), "floor", body)
		require.NoError(t, err)
		latencies[i] = await(t, arrivals).at.Sub(published)
	}
	return latencies[size.warmUp:]
}

// measureInstances posts orders to the first of the instances, which have these roles, and returns how long each took from
// its commit until it was delivered to a plain consumer here, and until a subscriber's effect was committed. An order is
// committed when the API has heard so, which the end of the COMMIT's span tells. All clocks are this machine's.
func measureInstances(t *testing.T, size scale, roles ...string) (delivered, applied []time.Duration) {
	t.Helper()
	database := infra.Postgres(t, func(o *embedded.PostgresOptions) {
		o.Parameters = map[string]string{"track_commit_timestamp": "on"}
	}).URL
	broker, collector := infra.NATS(t), infra.Collector(t)
	first := launch(t, database, broker.URL, collector.Environment(), roles...)
	infra.Launch(t, environment(database, broker.URL), "subscribe", "--id", "bench").Says("subscribed")
	api := first.API()
	require.NoError(t, placeOrders(api, 1))
	arrivals := arrivals(t, broker.URL, "ORDERS")
	await(t, arrivals)

	require.NoError(t, placeOrders(api, size.warmUp))
	for range size.warmUp {
		await(t, arrivals)
	}
	require.NoError(t, placeOrders(api, size.orders))
	arrived := make(map[string]time.Time, size.orders)
	for len(arrived) < size.orders {
		message := await(t, arrivals)
		arrived[message.id] = message.at
	}

	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	all := 1 + size.warmUp + size.orders
	require.Eventually(t, func() bool {
		var rows int
		return db.QueryRow("SELECT count(*) FROM inbox").Scan(&rows) == nil && rows == all
	}, patience, 50*time.Millisecond, "the subscriber did not apply %d orders", all)
	committed := commits(t, collector, all)
	rows, err := db.Query(`SELECT event_id, split_part(headers->>'traceparent', '-', 2), pg_xact_commit_timestamp(inbox.xmin)
		FROM outbox JOIN inbox USING (event_id) ORDER BY outbox.position OFFSET $1`, 1+size.warmUp)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id, trace string
		var effective time.Time
		require.NoError(t, rows.Scan(&id, &trace, &effective))
		require.Contains(t, committed, trace)
		delivered = append(delivered, arrived[id].Sub(committed[trace]))
		applied = append(applied, effective.Sub(committed[trace]))
	}
	require.NoError(t, rows.Err())
	require.Len(t, delivered, size.orders)
	return delivered, applied
}

// commits tells when each order was committed, by its trace.
func commits(t *testing.T, collector *infra.OTLP, orders int) map[string]time.Time {
	t.Helper()
	committed := make(map[string]time.Time, orders)
	require.True(t, collector.WaitFor(func(spans []infra.Span) bool {
		for _, span := range spans {
			if strings.HasPrefix(span.Name, "COMMIT") {
				committed[span.TraceID] = span.End
			}
		}
		return len(committed) >= orders
	}, patience), "%d of %d commits were traced", len(committed), orders)
	return committed
}

func environment(database, broker string) []string {
	return []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}
}

// launch starts an instance for each of the roles, and returns the first, which gets more environment than the others.
func launch(t *testing.T, database, broker string, more []string, roles ...string) *infra.Process {
	t.Helper()
	var first *infra.Process
	for i, role := range roles {
		own := append(environment(database, broker), "OUTBOXIE_ROLES="+role, "INSTANCE_ID=bench"+strconv.Itoa(i))
		if i == 0 {
			first = infra.Launch(t, append(own, more...), "serve")
		} else {
			infra.Launch(t, own, "serve")
		}
	}
	return first
}

// placeOrders posts orders at an even pace, whether or not the ones before were answered.
func placeOrders(api string, orders int) error {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	defer client.CloseIdleConnections()
	failures := make(chan error, orders)
	var posting sync.WaitGroup
	pace := time.NewTicker(interval)
	defer pace.Stop()
	for range orders {
		<-pace.C
		posting.Go(func() { failures <- placeOrder(client, api) })
	}
	posting.Wait()
	close(failures)
	var err error
	for failure := range failures {
		err = errors.Join(err, failure)
	}
	return err
}

func placeOrder(client *http.Client, api string) error {
	answer, err := client.Post("http://"+api+"/orders", "application/json",
		strings.NewReader(`{"customer_id": "550e8400-e29b-41d4-a716-446655440000", "amount": 100.50}`))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return err
}
