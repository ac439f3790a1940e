package bench_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// measureTelemetry drains the same backlog without telemetry, and with an export to a collector that accepts everything.
func measureTelemetry(t *testing.T, size scale) []figure {
	t.Helper()
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	broker := infra.Broker(t)
	nc, err := nats.Connect(broker)
	require.NoError(t, err)
	defer nc.Close()
	js, err := natsjs.New(nc)
	require.NoError(t, err)
	databases := map[int]string{}
	for _, sampled := range []int{10, 1000} {
		databases[sampled] = infra.Database(t)
		fill(t, databases[sampled], size.events, sampled)
	}
	rates := map[bool]map[int][]float64{false: {}, true: {}}
	for round := range 3 * size.rounds {
		for _, sampled := range []int{10, 1000} {
			database := databases[sampled]
			for _, disabled := range []bool{round%2 == 0, round%2 != 0} { // the second drain has the warmer caches
				t.Setenv("OTEL_SDK_DISABLED", fmt.Sprint(disabled))
				name := fmt.Sprintf("TRACED-%d-%d-%t", round, sampled, disabled)
				taken := drain(t, database, broker, name, size.events, setup(t))
				rates[disabled][sampled] = append(rates[disabled][sampled], perSecond(size.events, taken))
				require.NoError(t, js.DeleteStream(t.Context(), name))
			}
		}
	}
	row := func(share string, sampled int, goal float64) figure {
		return figure{
			name:     "drain with " + share + " of the orders sampled and exported",
			measured: fmt.Sprintf("%.0f events/s", median(rates[false][sampled])),
			floor:    fmt.Sprintf("with OTEL_SDK_DISABLED: %.0f/s", median(rates[true][sampled])),
			ratio:    pairwise(rates[false][sampled], rates[true][sampled]), unit: "%", goal: goal,
		}
	}
	return []figure{row("1 %", 10, 0.97), row("100 %", 1000, 0.75)}
}
