package bench_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// measurePlain measures how long an event waits that a program writes with plain SQL, without a notification: from its commit to a plain
// consumer of the stream. The relay finds such an event only when it reads the log by itself.
func measurePlain(t *testing.T, size scale) []figure {
	t.Helper()
	database, broker := infra.Database(t), infra.NATS(t)
	launch(t, database, broker.URL, nil, "relay").WaitFor("became leader")
	arrived, _ := arrivals(t, broker.URL, "ORDERS")
	db, err := sql.Open("pgx", database)
	require.NoError(t, err)
	defer db.Close()
	floor := newFloor(t, broker.URL, "FLOOR", nats.Msg{Data: bytes.Repeat([]byte("x"), 300)}).measure(t, size.orders)
	least := fmt.Sprintf("a synchronous publish until delivered: p50 %s, p99 %s",
		milliseconds(percentile(floor, 0.5)), milliseconds(percentile(floor, 0.99)))

	var figures []figure
	for _, rate := range []int{20, 100} {
		appendPlain(t, db, arrived, rate, size.warmUp)
		took := appendPlain(t, db, arrived, rate, size.orders)
		name := fmt.Sprintf("commit until delivered, plain SQL without a notification, %d events/s", rate)
		p50, p99 := absolute(name+", p50", took, 0.5, 6, least), absolute(name+", p99", took, 0.99, 12, least)
		if !size.complete { // with few events, the slowest one depends on chance
			p99.goal = 0
		}
		figures = append(figures, p50, p99)
	}
	var afterPause []time.Duration
	for range size.pauses {
		time.Sleep(size.pause + rand.N(time.Second)) // so that the events do not come in step with the polls
		afterPause = append(afterPause, appendPlain(t, db, arrived, 100, 1)...)
	}
	first := fmt.Sprintf("the same, the first event after %s", size.pause)
	return append(figures, absolute(first+", p50", afterPause, 0.5, 0, least), absolute(first+", longest", afterPause, 1, 0, least))
}

func absolute(name string, took []time.Duration, share, goal float64, floor string) figure {
	value := percentile(took, share)
	return figure{
		name: name, measured: milliseconds(value), floor: floor,
		ratio: float64(value.Microseconds()) / 1000, unit: " ms", goal: goal, upperBound: true,
	}
}

// appendPlain appends events with single statements, at random moments: on average rate of them a second. It returns how long each event
// took from its commit until it was delivered. An event counts as committed when the answer to its statement has arrived.
func appendPlain(t *testing.T, db *sql.DB, arrived <-chan arrival, rate, events int) []time.Duration {
	t.Helper()
	committed := make(map[string]time.Time, events)
	next := time.Now()
	for range events {
		next = next.Add(time.Duration(rand.ExpFloat64() * float64(time.Second) / float64(rate)))
		time.Sleep(time.Until(next))
		id := uuid.NewString()
		_, err := db.Exec(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
			VALUES ($1::uuid, 'order', ($1::uuid)::text, 1, 'outboxie.order.created.v1', 'orders.created', $2::json)`, id, `{"x": "`+string(bytes.Repeat([]byte("x"), 300))+`"}`)
		require.NoError(t, err)
		committed[id] = time.Now()
	}
	took := make([]time.Duration, 0, events)
	for range events {
		message := await(t, arrived)
		took = append(took, message.at.Sub(committed[message.id]))
	}
	return took
}
