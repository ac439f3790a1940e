package telemetry_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
)

// TestForRelay checks that a scrape shows the measurements of each relay with labels of its own, those of the process without, and the metrics
// of a relay that is made twice once.
func TestForRelay(t *testing.T) {
	setup, err := telemetry.Setup(t.Context(), telemetry.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	for name, leads := range map[string]bool{"billing": true, "shop": false} {
		meters, err := setup.ForRelay(t.Context(), name, "S-"+name)
		require.NoError(t, err)
		observe := func() (metric.Registration, error) {
			return telemetry.ObserveRelay(meters, func() telemetry.RelayState { return telemetry.RelayState{Leads: leads} })
		}
		former, err := observe()
		require.NoError(t, err)
		require.NoError(t, former.Unregister())
		_, err = observe()
		require.NoError(t, err)
	}
	_, err = telemetry.ObserveRelay(setup.MeterProvider(), func() telemetry.RelayState { return telemetry.RelayState{} })
	require.NoError(t, err)

	answer := httptest.NewRecorder()
	setup.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, answer.Code)
	require.Contains(t, answer.Body.String(), `outboxie_relay_leader{outboxie_relay="billing",outboxie_stream="S-billing"} 1`)
	require.Contains(t, answer.Body.String(), `outboxie_relay_leader{outboxie_relay="shop",outboxie_stream="S-shop"} 0`)
	require.Contains(t, answer.Body.String(), "\noutboxie_relay_leader 0\n")
	require.Contains(t, answer.Body.String(), "\ngo_goroutine_count ")
	require.NoError(t, setup.Shutdown(t.Context()))
}
