package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestOneTrace checks that the spans of a POST, sent over real OTLP, form one trace from the request to both subscribers, which are other
// processes, with each span below its cause. test/jaeger checks the same in a real Jaeger.
func TestOneTrace(t *testing.T) {
	collector := infra.Collector(t)
	environment := append(collector.Environment(), "DATABASE_URL="+infra.Database(t), "NATS_URL="+infra.Broker(t))
	instance := infra.Serve(t, "traced", environment)
	subscribers := []string{"emails", "vouchers"}
	for _, id := range subscribers {
		infra.Launch(t, environment, "subscribe", "--id", id).WaitFor("subscribed")
	}
	order, err := infra.Place(instance.API())
	require.NoError(t, err)
	require.Len(t, order.TraceID, 32)

	var trace, batch []infra.Span
	require.True(t, collector.WaitFor(func(all []infra.Span) bool {
		trace, batch = nil, infra.Named(all, "send ORDERS")
		for _, span := range all {
			if span.TraceID == order.TraceID {
				trace = append(trace, span)
			}
		}
		return infra.Delivered(trace, len(subscribers)) && len(batch) == 1
	}, waitTimeout), "%+v", trace)
	infra.RequireDelivery(t, trace, batch[0], subscribers...)
}
