package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	nometer "go.opentelemetry.io/otel/metric/noop"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// series returns the attributes of an operation on the stream.
func series(operation, errorType string) string {
	if errorType != "" {
		errorType = "error.type=" + errorType + ","
	}
	return errorType + "messaging.destination.name=ORDERS,messaging.operation.name=" + operation +
		",messaging.operation.type=send,messaging.system=nats"
}

type values = map[string]float64

func TestPublisherIsMeasured(t *testing.T) {
	mp, m := measuring()
	next := &stream{}
	publisher := telemetry.MeasureRelay(mp, "ORDERS", telemetry.RelayPorts{Publisher: next}).Publisher
	require.Equal(t, values{"": 0}, m.values(t, "outboxie.relay.conflicts"), "before the first one")
	require.Equal(t, values{series("send", ""): 0}, m.values(t, "messaging.client.sent.messages"))

	batch := batchOf(nil, nil, nil)
	batch[0].RecordedAt, batch[1].RecordedAt = time.Now().Add(time.Hour), time.Time{}
	last, err := publisher.Publish(t.Context(), 7, batch)
	require.NoError(t, err)
	require.EqualValues(t, 10, last)
	require.Equal(t, batch, next.got)
	last, err = publisher.Redrive(t.Context(), 10, redrivenAt, batch[:2])
	require.NoError(t, err)
	require.EqualValues(t, 12, last)
	require.Equal(t, redrivenAt, next.at)
	notice := relay.ControlMessage{Parked: "too large"}
	last, err = publisher.PublishControl(t.Context(), 12, notice)
	require.NoError(t, err)
	require.EqualValues(t, 13, last)
	require.Equal(t, notice, next.notice)

	require.Equal(t, values{"": 3}, m.values(t, "outboxie.outbox.wait"), "redriven events have waited for somebody")
	require.Equal(t, values{"": 2}, m.values(t, "outboxie.relay.batch.size"))
	require.Equal(t, values{series("send", ""): 3, series("redrive", ""): 2}, m.values(t, "messaging.client.sent.messages"))
	require.Equal(t, values{series("send", ""): 1, series("redrive", ""): 1, series("notify", ""): 1},
		m.values(t, "messaging.client.operation.duration"))
	require.Equal(t, values{"": 0}, m.values(t, "outboxie.relay.conflicts"))
}

func TestFailuresOfThePublisherAreMeasured(t *testing.T) {
	for name, c := range map[string]struct {
		err        error
		storesOnly int
		errorType  string
		conflicts  float64
	}{
		"conflict":      {relay.ErrTailMoved, 0, "tail_moved", 1},
		"conflict late": {relay.ErrTailMoved.With("a stray message"), 2, "tail_moved", 1},
		"refused":       {&relay.RefusedError{Reason: "too large"}, 1, "refused", 0},
		"outage":        {errDown, 0, "database_down", 0},
		"out of range":  {errDown, -3, "database_down", 0},
	} {
		t.Run(name, func(t *testing.T) {
			mp, m := measuring()
			publisher := telemetry.MeasureRelay(mp, "ORDERS", telemetry.RelayPorts{Publisher: &stream{err: c.err, storesOnly: c.storesOnly}}).Publisher
			_, err := publisher.Publish(t.Context(), 5, batchOf(nil, nil, nil))
			require.Same(t, c.err, err)
			stored := float64(max(0, c.storesOnly))
			require.Equal(t, values{series("send", ""): stored, series("send", c.errorType): 3 - stored},
				m.values(t, "messaging.client.sent.messages"))
			require.Equal(t, values{series("send", c.errorType): 1}, m.values(t, "messaging.client.operation.duration"))
			require.Equal(t, values{"": c.conflicts}, m.values(t, "outboxie.relay.conflicts"))
			wait := values{}
			if stored > 0 {
				wait[""] = stored
			}
			require.Equal(t, wait, m.values(t, "outboxie.outbox.wait"))
			_, err = publisher.PublishControl(t.Context(), 5, relay.ControlMessage{})
			require.Same(t, c.err, err)
			require.Equal(t, values{"": 2 * c.conflicts}, m.values(t, "outboxie.relay.conflicts"))
		})
	}
}

// TestMeasuredEventsCostNoAllocation checks that measuring allocates only for each batch, not for each event.
func TestMeasuredEventsCostNoAllocation(t *testing.T) {
	mp, _ := measuring()
	publisher := telemetry.MeasureRelay(mp, "ORDERS", telemetry.RelayPorts{Publisher: discard{}}).Publisher
	allocations := func(size int) float64 {
		batch := unsampledBatch(size)
		return testing.AllocsPerRun(100, func() { _, _ = publisher.Publish(context.Background(), 0, batch) })
	}
	require.Less(t, allocations(1000)-allocations(1), 10.0, "batches may differ a little: what is pooled comes and goes")
}

func BenchmarkMeasuredPublish(b *testing.B) {
	real, _ := measuring()
	for name, mp := range map[string]metric.MeterProvider{"measured": real, "not measured": nometer.NewMeterProvider()} {
		publisher := telemetry.MeasureRelay(mp, "ORDERS", telemetry.RelayPorts{Publisher: discard{}}).Publisher
		batch := unsampledBatch(1000)
		b.Run(name+"/1000", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = publisher.Publish(context.Background(), 0, batch)
			}
		})
	}
}

type retention struct {
	removed int
	err     error
}

func (r *retention) Purge(context.Context, int64, time.Duration, int) (int, error) {
	return r.removed, r.err
}

func TestRetentionIsMeasured(t *testing.T) {
	mp, m := measuring()
	next := &retention{}
	measured := telemetry.MeasureRelay(mp, "ORDERS", telemetry.RelayPorts{Retention: next}).Retention
	require.Equal(t, values{"": 0}, m.values(t, "outboxie.retention.removed"))
	require.Equal(t, values{"": 0}, m.values(t, "outboxie.retention.failures"))
	for _, step := range []retention{{removed: 5}, {removed: 2}, {err: errDown}} {
		*next = step
		removed, err := measured.Purge(t.Context(), 1, time.Hour, 10)
		require.Equal(t, step, retention{removed, err})
	}
	require.Equal(t, values{"": 7}, m.values(t, "outboxie.retention.removed"))
	require.Equal(t, values{"": 1}, m.values(t, "outboxie.retention.failures"))
	stopped, stop := context.WithCancel(t.Context())
	stop()
	_, err := measured.Purge(stopped, 1, time.Hour, 10)
	require.Error(t, err)
	require.Equal(t, values{"": 1}, m.values(t, "outboxie.retention.failures"), "a stop is no failure")
}
