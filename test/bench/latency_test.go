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

	"github.com/assylzhan-a/outboxie/test/infra"
)

const interval = 10 * time.Millisecond // between two orders

// measureLatency makes two comparisons. The first measures how long an event takes from its commit to a plain consumer of the stream. Its floor
// is the way of a message from a synchronous publish to a plain consumer. The second measures how long a lone event takes until a subscriber has
// committed its effect. Its floor is such a publish, with its delivery, and one plain transaction.
func measureLatency(t *testing.T, size scale) []figure {
	var figures []figure
	for _, instances := range []struct {
		name  string
		roles []string
	}{{"two instances", []string{"api", "relay"}}, {"one instance", []string{"api,relay"}}} {
		took := measureInstances(t, size, instances.roles...)
		name := "commit until delivered, 100 orders/s, API and relay in " + instances.name
		const floor = "a synchronous publish until delivered"
		p50 := compare(name+", p50", took.delivered, floor, took.floor, 0.50, 2)
		p99 := compare(name+", p99", took.delivered, floor, took.floor, 0.99, 3)
		effect50, effect99 := compareEffects(instances.name, took)
		if !size.complete { // with few orders, the slowest one depends on chance
			p99.goal, effect99.goal = 0, 0
		}
		figures = append(figures, p50, p99, effect50, effect99)
	}
	return figures
}

// latencies holds how long each message or event took. floor and delivered end when the only plain consumer gets the message or the event.
// effectFloor and applied end when the transaction with the effect is committed.
type latencies struct{ floor, delivered, effectFloor, applied []time.Duration }

func compare(name string, measured []time.Duration, floorName string, floor []time.Duration, share, goal float64) figure {
	value, least := percentile(measured, share), percentile(floor, share)
	return figure{
		name: name, measured: milliseconds(value), floor: floorName + ": " + milliseconds(least),
		ratio: float64(value) / float64(least), unit: "x", goal: goal, upperBound: true,
	}
}

func percentile(latencies []time.Duration, share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(latencies))
	return sorted[max(int(share*float64(len(sorted))+0.5)-1, 0)]
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// arrivals returns when each message of a stream reached a plain consumer, and the message's ce-id, if it has one. The stream may be created
// later. The consumer reads until stop is called.
func arrivals(t *testing.T, url, stream string) (arrived <-chan arrival, stop func()) {
	t.Helper()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	var consumer natsjs.Consumer
	require.Eventually(t, func() bool {
		consumer, err = js.CreateConsumer(t.Context(), stream, natsjs.ConsumerConfig{AckPolicy: natsjs.AckNonePolicy})
		return err == nil
	}, waitTimeout, 50*time.Millisecond, "no consumer of stream %s", stream)
	found := make(chan arrival, 10_000)
	consuming, err := consumer.Consume(func(message natsjs.Msg) { found <- arrival{message.Headers().Get("ce-id"), time.Now()} })
	require.NoError(t, err)
	t.Cleanup(consuming.Stop)
	return found, consuming.Stop
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
	case <-time.After(waitTimeout):
		t.Fatal("a message was not delivered")
		return arrival{}
	}
}

// floor publishes a message again and again to a stream of its own.
type floor struct {
	js       natsjs.JetStream
	message  nats.Msg
	arrivals <-chan arrival
}

// newFloor returns the floor that publishes message to a new stream of that name.
func newFloor(t *testing.T, url, stream string, message nats.Msg) floor {
	t.Helper()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	message.Subject = strings.ToLower(stream)
	_, err = js.CreateStream(t.Context(), natsjs.StreamConfig{Name: stream, Subjects: []string{message.Subject}})
	require.NoError(t, err)
	arrived, _ := arrivals(t, url, stream)
	return floor{js: js, message: message, arrivals: arrived}
}

// measure returns how long each message takes from a synchronous publish to a plain consumer, at the orders' pace.
func (f floor) measure(t *testing.T, messages int) []time.Duration {
	t.Helper()
	took := make([]time.Duration, messages)
	pace := time.NewTicker(interval)
	defer pace.Stop()
	for i := range took {
		<-pace.C
		published := time.Now()
		_, err := f.js.PublishMsg(t.Context(), &f.message)
		require.NoError(t, err)
		took[i] = await(t, f.arrivals).at.Sub(published)
	}
	return took
}

// measureInstances starts an instance for each of roles. It posts orders to the first instance, in turns with the floor's messages. An order
// counts as committed when the span of the API's COMMIT ends. All clocks are this machine's.
func measureInstances(t *testing.T, size scale, roles ...string) (took latencies) {
	t.Helper()
	database, broker, collector := infra.Database(t), infra.NATS(t), infra.Collector(t)
	api := launch(t, database, broker.URL, collector.Environment(), roles...).API()
	arrivals, stop := arrivals(t, broker.URL, "ORDERS")
	arrived := make(map[string]time.Time)
	post := func(orders int) {
		require.NoError(t, placeOrders(api, orders))
		for range orders {
			message := await(t, arrivals)
			arrived[message.id] = message.at
		}
	}
	floor := newFloor(t, broker.URL, "FLOOR", nats.Msg{Data: bytes.Repeat([]byte("x"), 300)})
	floor.measure(t, size.warmUp)
	post(size.warmUp)
	for range size.rounds {
		took.floor = append(took.floor, floor.measure(t, size.orders)...)
		post(size.orders)
	}
	stop()
	var effective map[string]time.Time
	took.effectFloor, effective = measureEffects(t, size, api, database, broker.URL)

	counted := size.rounds * size.orders
	for i, placed := range committedOrders(t, collector, database, size.warmUp+counted+size.rounds*size.lone)[size.warmUp:] {
		if i < counted {
			took.delivered = append(took.delivered, arrived[placed.event].Sub(placed.at))
			continue
		}
		require.Contains(t, effective, placed.event)
		took.applied = append(took.applied, effective[placed.event].Sub(placed.at))
	}
	return took
}

// committedOrder is the event of an order, and when the order was committed.
type committedOrder struct {
	event string
	at    time.Time
}

// committedOrders returns all orders, in order of their events' positions. It requires that their number is orders.
func committedOrders(t *testing.T, collector *infra.OTLP, database string, orders int) []committedOrder {
	t.Helper()
	committed := commits(t, collector, orders)
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT event_id, split_part(headers->>'traceparent', '-', 2) FROM outbox ORDER BY position")
	require.NoError(t, err)
	defer rows.Close()
	var found []committedOrder
	for rows.Next() {
		var event, trace string
		require.NoError(t, rows.Scan(&event, &trace))
		require.Contains(t, committed, trace)
		found = append(found, committedOrder{event, committed[trace]})
	}
	require.NoError(t, rows.Err())
	require.Len(t, found, orders)
	return found
}

// commits returns when each order was committed, by its trace.
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
	}, waitTimeout), "%d of %d commits were traced", len(committed), orders)
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
	client := &http.Client{Timeout: waitTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
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
