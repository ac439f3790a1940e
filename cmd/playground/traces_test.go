package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/config"
)

// TestFindTraces checks that `run` sends traces to a Jaeger only if one is on this machine and OTEL_* does not say where traces
// go.
func TestFindTraces(t *testing.T) {
	for _, name := range []string{"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		t.Setenv(name, "")
	}
	none := findTraces(t.Context(), "http://127.0.0.1:1")
	require.Empty(t, none.environment())
	require.Contains(t, none.describe(), "start a Jaeger")

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"data":["outboxie"],"errors":null}`))
	}))
	t.Cleanup(server.Close)
	url := config.URL(server.URL)
	for _, host := range []string{"localhost", "127.0.0.9", "::1"} {
		require.True(t, isLoopback(host))
	}
	for _, host := range []string{"jaeger", "10.0.0.1", "0.0.0.0", ""} {
		require.False(t, isLoopback(host))
	}
	found := findTraces(t.Context(), url)
	require.Contains(t, found.environment(), "JAEGER_URL="+server.URL)
	taker, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", "127.0.0.1:4318")
	if err == nil { // something on this machine receives spans
		_ = taker.Close()
		require.Equal(t, "http://127.0.0.1:4318", found.endpoint)
	} else {
		require.Empty(t, found.endpoint)
		require.Contains(t, found.describe(), "takes none on port 4318")
	}
	found.endpoint = "http://127.0.0.1:4318"
	require.Contains(t, found.describe(), "outboxie trace ORDER_ID")
	require.Contains(t, found.environment(), "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318")

	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	found = findTraces(t.Context(), url)
	require.Empty(t, found.endpoint)
	require.Equal(t, "as the OTEL_* environment says", found.describe())
}
