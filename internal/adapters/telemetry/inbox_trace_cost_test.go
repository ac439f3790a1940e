package telemetry_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TestUnsampledEventsCostNoAllocation checks that a batch of unsampled events costs no allocation. In a mixed batch, only the
// sampled events cost allocations.
func TestUnsampledEventsCostNoAllocation(t *testing.T) {
	work := telemetry.TraceInbox(sdktrace.NewTracerProvider(), "billing", "ORDERS", source, telemetry.InboxPorts{Work: handing{}}).Work
	allocations := func(sampled, size int) float64 {
		batch := batchIn(0, sampledAmong(sampled, size))
		return testing.AllocsPerRun(100, func() { _, _ = work.Apply(context.Background(), "billing", batch, nothing, nil) })
	}
	require.Zero(t, allocations(0, 1000))
	require.NotZero(t, allocations(1, 10))
	require.Equal(t, allocations(1, 10), allocations(1, 1000))
}

// handing is a database that only calls the handler, and allocates nothing.
type handing struct{}

func (handing) Apply(ctx context.Context, _ string, batch inbox.Batch, handler inbox.Handler, _ inbox.FailurePolicy) (inbox.Outcome, error) {
	for i := range batch.Events {
		if err := handler.Handle(ctx, nil, batch.Events[i].Entry); err != nil {
			return inbox.Outcome{}, err
		}
	}
	return inbox.Outcome{Results: allApplied[:len(batch.Events)]}, nil
}

var (
	nothing    inbox.Handler = handlerFunc(func(context.Context, outbox.Entry) error { return nil })
	allApplied               = make([]inbox.Result, 1000)
)

// sampledAmong returns size events. The given number of them is sampled, evenly spread.
func sampledAmong(sampled, size int) []inbox.Event {
	headers := make([]map[string]string, size)
	for i := range headers {
		headers[i] = map[string]string{"traceparent": unsampledParent, "tracestate": "vendor=1"}
		if (i+1)*sampled/size > i*sampled/size {
			headers[i]["traceparent"] = sampledParent
		}
	}
	return delivered(headers...)
}

// BenchmarkApply measures the cost of tracing and measuring for a batch of 500 events. Of the events, 1 %, none or all are
// sampled.
func BenchmarkApply(b *testing.B) {
	mp, _ := measuring()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))
	plain := telemetry.InboxPorts{Work: handing{}}
	traced := telemetry.TraceInbox(tp, "billing", "ORDERS", source, plain)
	for _, c := range []struct {
		name    string
		ports   telemetry.InboxPorts
		sampled int
	}{
		{"plain", plain, 0},
		{"traced/0 of 500", traced, 0},
		{"traced/5 of 500", traced, 5},
		{"traced/500 of 500", traced, 500},
		{"measured/0 of 500", telemetry.MeasureInbox(mp, "billing", "ORDERS", plain), 0},
		{"both/0 of 500", telemetry.MeasureInbox(mp, "billing", "ORDERS", traced), 0},
		{"both/5 of 500", telemetry.MeasureInbox(mp, "billing", "ORDERS", traced), 5},
	} {
		b.Run(c.name, func(b *testing.B) {
			batch := batchIn(0, sampledAmong(c.sampled, 500))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.ports.Work.Apply(context.Background(), "billing", batch, nothing, lenient)
			}
		})
	}
}
