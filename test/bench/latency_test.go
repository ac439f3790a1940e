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

// measureFloor returns how long a message takes from a synchronous publish to a plain consumer, at the orders' pace.
func measureFloor(t *testing.T, size scale) []time.Duration {
	t.Helper()
	broker := infra.Broker(t)
	connect := func() natsjs.JetStream {
		nc, err := nats.Connect(broker)
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		js, err := natsjs.New(nc)
		require.NoError(t, err)
		return js
	}
	publisher := connect()
	_, err := publisher.CreateStream(t.Context(), natsjs.StreamConfig{Name: "FLOOR", Subjects: []string{"floor"}})
	require.NoError(t, err)
	consumer, err := connect().CreateConsumer(t.Context(), "FLOOR", natsjs.ConsumerConfig{AckPolicy: natsjs.AckNonePolicy})
	require.NoError(t, err)
	arrivals := make(chan time.Time, 1)
	consuming, err := consumer.Consume(func(natsjs.Msg) { arrivals <- time.Now() })
	require.NoError(t, err)
	defer consuming.Stop()

	body := bytes.Repeat([]byte("x"), 300)
	latencies := make([]time.Duration, size.warmUp+size.orders)
	pace := time.NewTicker(interval)
	defer pace.Stop()
	for i := range latencies {
		<-pace.C
		published := time.Now()
		_, err := publisher.Publish(t.Context(), "floor", body)
		require.NoError(t, err)
		select {
		case arrived := <-arrivals:
			latencies[i] = arrived.Sub(published)
		case <-time.After(patience):
			t.Fatal("a message was not delivered")
		}
	}
	return latencies[size.warmUp:]
}

// measureLatency posts orders to the first of the instances, which have these roles, and returns how long each took from
// its row in the outbox to the effect of a subscriber. Instances and subscriber are processes of their own.
func measureLatency(t *testing.T, size scale, roles ...string) []time.Duration {
	t.Helper()
	database := infra.Database(t)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + infra.Broker(t), "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	var first *infra.Process
	for i, role := range roles {
		instance := infra.Launch(t, append(slices.Clone(environment), "OUTBOXIE_ROLES="+role, "INSTANCE_ID=bench"+strconv.Itoa(i)), "serve")
		if i == 0 {
			first = instance
		}
	}
	infra.Launch(t, environment, "subscribe", "--id", "bench")
	api := first.API()

	applied := func(orders int) {
		require.Eventually(t, func() bool {
			var rows int
			return db.QueryRow("SELECT count(*) FROM inbox").Scan(&rows) == nil && rows == orders
		}, patience, 50*time.Millisecond, "the subscriber did not apply %d orders", orders)
	}
	require.NoError(t, placeOrders(api, size.warmUp))
	applied(size.warmUp)
	require.NoError(t, placeOrders(api, size.orders))
	applied(size.warmUp + size.orders)

	rows, err := db.Query(`SELECT (extract(epoch FROM applied_at - recorded_at) * 1e6)::bigint
		FROM outbox JOIN inbox USING (event_id) ORDER BY outbox.position OFFSET $1`, size.warmUp)
	require.NoError(t, err)
	defer rows.Close()
	var latencies []time.Duration
	for rows.Next() {
		var microseconds int64
		require.NoError(t, rows.Scan(&microseconds))
		latencies = append(latencies, time.Duration(microseconds)*time.Microsecond)
	}
	require.NoError(t, rows.Err())
	require.Len(t, latencies, size.orders)
	return latencies
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
