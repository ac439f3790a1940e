package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

var (
	events = flag.Int64("events", 5_000, "the backlog of TestSpeed")
	pairs  = flag.Int("pairs", 3, "how often TestSpeed measures both services")
	floor  = flag.Float64("floor", 0.25, "the least ratio that TestSpeed accepts; small backlogs are noisy")
)

// TestSpeed checks that the relay and the subscriber of this service are as fast as those of the reference service, apart from noise. Both services
// work in turns on the same servers and on backlogs of the same size, with payloads of 300 bytes, and the median of the ratios counts.
func TestSpeed(t *testing.T) {
	w := newWorld(t)
	reference := filepath.Join(w.folder, "outboxie")
	w.build(w.binary, ".", ".") // neither has the race detector
	w.build(reference, filepath.Join("..", ".."), "./cmd/outboxie")
	output, err := w.command(reference, nil, "migrate", "up").CombinedOutput()
	require.NoError(t, err, "%s", output)
	common := []string{"INSTANCE_ID=speed", "LOG_LEVEL=warn", "OTEL_SDK_DISABLED=true", "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}
	billing := func(part string) *process { return w.billing("billing", part, "", common...) }
	outboxie := func(arguments ...string) *process {
		return &process{w: w, name: "outboxie", program: reference, environment: append(common, "OUTBOXIE_ROLES=relay"), arguments: arguments}
	}
	nc, err := nats.Connect(w.broker)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	end := func(name string) int64 { // the relay creates the stream
		s, err := js.Stream(t.Context(), name)
		if err != nil {
			return 0
		}
		return int64(s.CachedInfo().State.LastSeq)
	}
	var drains, effects comparison
	for pair := range *pairs {
		var drained, applied [2]speed // of billing, and of the reference
		for turn := range 2 {
			which := (pair + turn) % 2 // which comes first changes, too
			relay, subscriber := billing("relay"), billing("balance")
			name, total, backlog := stream, "SELECT coalesce(sum(issued), 0) FROM balances", w.fillInvoices
			if which == 1 {
				relay, subscriber = outboxie("serve"), outboxie("subscribe", "--id", "totals")
				name, total, backlog = "ORDERS", "SELECT coalesce(sum(orders), 0) FROM customer_totals", w.fillOrders
			}
			w.empty(js, name)
			backlog()
			drained[which] = w.measure(relay, func() int64 { return end(name) })
			applied[which] = w.measure(subscriber, func() int64 { return w.count(total) })
		}
		drains, effects = append(drains, drained), append(effects, applied)
		t.Logf("pair %d: drain %v; effects %v", pair+1, drains[pair:], effects[pair:])
	}
	t.Logf("drain of %d events, %d pairs: %v", *events, *pairs, drains)
	t.Logf("effects of %d events, %d pairs: %v", *events, *pairs, effects)
	require.GreaterOrEqual(t, min(drains.ratio(), effects.ratio()), *floor)
}

// speed is what one turn has measured.
type speed struct {
	rate float64       // events a second
	cpu  time.Duration // of the process, with its start
}

// comparison has the pairs of one figure: billing, and the reference.
type comparison [][2]speed

// ratio returns the median ratio of the rates.
func (c comparison) ratio() float64 {
	return c.median(func(pair [2]speed) float64 { return pair[0].rate / pair[1].rate })
}

func (c comparison) median(of func(pair [2]speed) float64) float64 {
	var values []float64
	for _, pair := range c {
		values = append(values, of(pair))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func (c comparison) String() string {
	rate := func(which int) float64 { return c.median(func(pair [2]speed) float64 { return pair[which].rate }) }
	cpu := func(which int) float64 {
		return c.median(func(pair [2]speed) float64 { return pair[which].cpu.Seconds() })
	}
	return fmt.Sprintf("%.0f/s, reference %.0f/s, ratio %.2f; CPU %.2f s, reference %.2f s, ratio %.2f", rate(0), rate(1), c.ratio(), cpu(0), cpu(1),
		c.median(func(pair [2]speed) float64 { return pair[0].cpu.Seconds() / pair[1].cpu.Seconds() }))
}

// measure runs p until reached is the backlog. The rate counts from the first progress on.
func (w *world) measure(p *process, reached func() int64) (s speed) {
	w.t.Helper()
	p.start()
	defer func() {
		p.signal(syscall.SIGKILL, true)
		s.cpu = p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	}()
	var first int64
	var began time.Time
	for deadline := time.Now().Add(patience + time.Duration(*events)*time.Millisecond); ; time.Sleep(2 * time.Millisecond) {
		now := reached()
		if first == 0 && now > 0 {
			first, began = now, time.Now()
		}
		if now == *events {
			return speed{rate: float64(*events-first+1) / time.Since(began).Seconds()}
		}
		require.True(w.t, time.Now().Before(deadline), "%s has come to %d of %d\n%s", p.name, now, *events, p.log())
	}
}

// empty removes everything of earlier turns.
func (w *world) empty(js jetstream.JetStream, name string) {
	w.t.Helper()
	if err := js.DeleteStream(w.t.Context(), name); !errors.Is(err, jetstream.ErrStreamNotFound) {
		require.NoError(w.t, err)
	}
	_, err := w.db.ExecContext(w.t.Context(), `TRUNCATE outbox, outbox_cursor, outbox_parked, outbox_halts, leases, inbox, dead_letters,
		subscribers, subscriber_types, subscriber_lanes, subscriber_marks, subscriber_copies, balances, customer_totals RESTART IDENTITY CASCADE`)
	require.NoError(w.t, err)
}

func (w *world) fillInvoices() {
	w.fill("invoice", eventType(Issued), "invoices.issued", `'"cents":1'`)
}

func (w *world) fillOrders() {
	w.fill("order", "outboxie.order.created.v1", "orders.created", `'"order_id":"' || id || '","amount":"0.01","currency":"USD","status":"created",
		"version":1,"created_at":"2026-11-30T09:00:00Z"'`)
}

// fill makes a backlog: one event for each of the aggregates of 2,000 customers, with a payload of 300 bytes.
func (w *world) fill(aggregate, eventType, subject, fields string) {
	w.t.Helper()
	_, err := w.db.ExecContext(w.t.Context(), `
		INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), $2, id, 1, $3, $4, (rpad('{"customer":"' || customer || '","customer_id":"' || customer || '",' || `+fields+` ||
			',"memo":"', 298, 'x') || '"}')::json
		FROM (SELECT gen_random_uuid()::text AS id, lpad((n % 2000)::text, 8, '0') || '-0000-7000-8000-000000000000' AS customer
			FROM generate_series(1, $1) AS n) AS made`, *events, aggregate, eventType, subject)
	require.NoError(w.t, err)
	_, err = w.db.ExecContext(w.t.Context(), "ANALYZE outbox")
	require.NoError(w.t, err)
	require.EqualValues(w.t, *events, w.count("SELECT count(*) FROM outbox WHERE octet_length(payload::text) = 300"))
}
