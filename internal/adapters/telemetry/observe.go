package telemetry

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"
)

// The Observe functions make instruments that are read only at a collection. Each returns a registration. The caller must unregister it
// before the source of the values is closed. If a value cannot be read, that collection leaves it out: a gauge is either true or absent.

// The Observe functions ask a server at most once in askEvery, even if collections are more frequent. A collection waits for the answer at
// most answerWithin.
const (
	askEvery     = time.Second
	answerWithin = 2 * time.Second
)

// recent keeps a server's answer for askEvery.
type recent[T any] struct {
	ask func(context.Context) (T, error)

	mu     sync.Mutex
	asked  time.Time
	answer T
	err    error
}

func (r *recent[T]) get(ctx context.Context) (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.asked) >= askEvery {
		ctx, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		r.answer, r.err = r.ask(ctx)
		r.asked = time.Now()
	}
	return r.answer, r.err
}

func flag(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// ObservePool shows a pool of database connections.
func ObservePool(mp metric.MeterProvider, name string, pool *sql.DB) (metric.Registration, error) {
	m := meter(mp)
	var (
		count = orReport(dbconv.NewClientConnectionCountObservable(m)).Inst()
		limit = orReport(dbconv.NewClientConnectionMaxObservable(m)).Inst()
		waits = orReport(m.Int64ObservableCounter("outboxie.database.connection.waits", metric.WithUnit("{wait}"),
			metric.WithDescription("How often all connections of the pool were in use and one was waited for.")))
		waited = orReport(m.Float64ObservableCounter("outboxie.database.connection.wait_time", metric.WithUnit("s"),
			metric.WithDescription("How long connections of the pool were waited for, all in all.")))
	)
	named := semconv.DBClientConnectionPoolName(name)
	whole, idle, used := set(named), set(named, semconv.DBClientConnectionStateIdle), set(named, semconv.DBClientConnectionStateUsed)
	return m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := pool.Stats()
		o.ObserveInt64(count, int64(stats.Idle), idle)
		o.ObserveInt64(count, int64(stats.InUse), used)
		o.ObserveInt64(limit, int64(stats.MaxOpenConnections), whole)
		o.ObserveInt64(waits, stats.WaitCount, whole)
		o.ObserveFloat64(waited, stats.WaitDuration.Seconds(), whole)
		return nil
	}, count, limit, waits, waited)
}

// ObserveNATS shows the connection to the broker.
func ObserveNATS(mp metric.MeterProvider, nc *nats.Conn) (metric.Registration, error) {
	m := meter(mp)
	var (
		connected = orReport(m.Int64ObservableGauge("outboxie.nats.connected", metric.WithUnit("{connection}"),
			metric.WithDescription("1 while the process is connected to NATS, else 0.")))
		reconnects = orReport(m.Int64ObservableCounter("outboxie.nats.reconnects", metric.WithUnit("{reconnect}"),
			metric.WithDescription("How often the connection to NATS was lost and made again.")))
		messages = orReport(m.Int64ObservableCounter("outboxie.nats.messages", metric.WithUnit("{message}"),
			metric.WithDescription("Messages over the connection to NATS, requests and answers included.")))
		bytes = orReport(m.Int64ObservableCounter("outboxie.nats.io", metric.WithUnit("By"),
			metric.WithDescription("Bytes of the messages over the connection to NATS.")))
	)
	received, sent := set(semconv.NetworkIODirectionReceive), set(semconv.NetworkIODirectionTransmit)
	return m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := nc.Stats()
		o.ObserveInt64(connected, flag(nc.IsConnected()))
		o.ObserveInt64(reconnects, int64(stats.Reconnects))
		o.ObserveInt64(messages, int64(stats.InMsgs), received)
		o.ObserveInt64(messages, int64(stats.OutMsgs), sent)
		o.ObserveInt64(bytes, int64(stats.InBytes), received)
		o.ObserveInt64(bytes, int64(stats.OutBytes), sent)
		return nil
	}, connected, reconnects, messages, bytes)
}

// ObserveDeadLetters shows how many dead letters a subscriber has. count returns the number.
func ObserveDeadLetters(
	mp metric.MeterProvider, subscriber string, count func(ctx context.Context, subscriber string) (int, error),
) (metric.Registration, error) {
	m := meter(mp)
	dead := orReport(m.Int64ObservableGauge("outboxie.subscriber.dead_letters", metric.WithUnit("{event}"),
		metric.WithDescription("Events that a subscriber could not handle and gave up on, until somebody retries or discards them.")))
	whose := set(semconv.MessagingConsumerGroupName(subscriber))
	counted := &recent[int]{ask: func(ctx context.Context) (int, error) { return count(ctx, subscriber) }}
	return m.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		n, err := counted.get(ctx)
		if err == nil {
			o.ObserveInt64(dead, int64(n), whose)
		}
		return err
	}, dead)
}

// ObserveErased shows how many events had no effect because the key that sealed them was erased. count returns the number.
func ObserveErased(mp metric.MeterProvider, subscriber string, count func() int64) (metric.Registration, error) {
	m := meter(mp)
	erased := orReport(m.Int64ObservableCounter("outboxie.subscriber.erased", metric.WithUnit("{event}"),
		metric.WithDescription("Events that a subscriber handled without an effect, because the key that sealed them was erased.")))
	whose := set(semconv.MessagingConsumerGroupName(subscriber))
	return m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(erased, count(), whose)
		return nil
	}, erased)
}

// ObserveLoss shows how many lost messages keep the lanes of a subscriber waiting. count returns the number.
func ObserveLoss(mp metric.MeterProvider, subscriber string, count func() int) (metric.Registration, error) {
	m := meter(mp)
	lost := orReport(m.Int64ObservableGauge("outboxie.subscriber.lost", metric.WithUnit("{message}"),
		metric.WithDescription("Upper bound of the removed messages before which a copy of a subscriber waits: the stream removed them unread, and their events are unknown.")))
	whose := set(semconv.MessagingConsumerGroupName(subscriber))
	return m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(lost, int64(count()), whose)
		return nil
	}, lost)
}
