//go:build jaeger

package jaeger_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestCollector checks docker/otel-collector.yaml in a real Collector, that of Jaeger's binary. The trace of a delivery arrives whole, by
// the name of each service, and the metrics of instance and subscriber stand where a Prometheus reads them.
func TestCollector(t *testing.T) {
	backend := infra.Collector(t)
	const host = "127.79.80.81"
	var said bytes.Buffer
	collector := exec.Command(os.Getenv("JAEGER_BIN"), "--config=../../docker/otel-collector.yaml")
	collector.Env = append(os.Environ(), "COLLECTOR_HOST="+host, "DECISION_WAIT=5s", "TRACES_PERCENT=100", "TRACES_ENDPOINT="+backend.Endpoint())
	collector.Stdout, collector.Stderr = &said, &said
	require.NoError(t, collector.Start())
	t.Cleanup(func() {
		_ = collector.Process.Kill()
		_ = collector.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	require.True(t, eventually(func() bool {
		answer, err := http.Get("http://" + host + ":8889/metrics")
		return err == nil && answer.Body.Close() == nil
	}), "the collector starts")

	settings := []string{
		"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.NATS(t).URL, "OTEL_EXPORTER_OTLP_ENDPOINT=http://" + host + ":4318",
		"OTEL_METRICS_EXPORTER=otlp", "OTEL_METRIC_EXPORT_INTERVAL=500", "OTEL_BSP_SCHEDULE_DELAY=50",
	}
	app := infra.Serve(t, "app1", settings)
	infra.Launch(t, settings, "subscribe", "--id", "emails").WaitFor("subscribed")
	order, err := infra.Place(app.API())
	require.NoError(t, err)
	var trace, batch []infra.Span
	require.True(t, backend.WaitFor(func(all []infra.Span) bool {
		trace, batch = nil, infra.Named(all, "send ORDERS")
		for _, span := range all {
			if span.TraceID == order.TraceID {
				trace = append(trace, span)
			}
		}
		return infra.Delivered(trace, 1) && len(batch) == 1
	}, waitTimeout), "%+v", trace)
	infra.RequireDelivery(t, trace, batch[0], "emails")
	require.True(t, eventually(func() bool {
		answer, err := http.Get("http://" + host + ":8889/metrics")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		shown, err := io.ReadAll(answer.Body)
		return err == nil && strings.Contains(string(shown), `service_name="outboxie"`) && strings.Contains(string(shown), `service_name="outboxie-subscriber-emails"`)
	}), "the metrics of both services")
}
