package httpapi_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
)

func get(t *testing.T, method, url string) orderResponse {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	got := orderResponse{response.StatusCode, response.Header, string(body)}
	requireConforming(t, request, got)
	return got
}

func admin(t *testing.T, checks ...httpapi.Check) string {
	t.Helper()
	return run(t, httpapi.NewAdmin(httpapi.AdminOptions{
		Addr: "127.0.0.1:0", Open: true, Checks: checks, Logger: slog.New(slog.DiscardHandler),
	}).Server)
}

func TestHealth(t *testing.T) {
	base := admin(t)
	got := get(t, "GET", base+"/healthz")
	require.Equal(t, http.StatusOK, got.status)
	require.JSONEq(t, `{"status":"ok"}`, got.body)
	require.Equal(t, http.StatusOK, get(t, "HEAD", base+"/healthz").status)

	lost := get(t, "GET", base+"/orders/"+firstID)
	require.Equal(t, http.StatusNotFound, lost.status)
	require.Equal(t, "application/problem+json", lost.header.Get("Content-Type"))
}

func TestMetricsAreServed(t *testing.T) {
	shown := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("up 1\n")) })
	base := run(t, httpapi.NewAdmin(httpapi.AdminOptions{
		Addr: "127.0.0.1:0", Open: true, Metrics: shown, Logger: slog.New(slog.DiscardHandler),
	}).Server)
	answer, err := http.Get(base + "/metrics")
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, "up 1\n", string(body))
	require.Equal(t, http.StatusNotFound, get(t, "GET", admin(t)+"/metrics").status, "when nothing is measured")
}

func TestReadiness(t *testing.T) {
	fine := func(context.Context) error { return nil }
	broken := func(context.Context) error { return errors.New("connection refused") }
	halted := func(context.Context) error { return errors.New("HALT: the stream was deleted") }
	panics := func(context.Context) error { panic("boom") }
	type checks []httpapi.Check
	for name, c := range map[string]struct {
		checks checks
		status int
		want   string
	}{
		"nothing to check": {nil, 200, `{"status":"ready","checks":[]}`},
		"all is well": {
			checks{{"postgres", true, fine}, {"relay", false, fine}},
			200, `{"status":"ready","checks":[{"name":"postgres","status":"ok"},{"name":"relay","status":"ok"}]}`,
		},
		"an optional one fails": {
			checks{{"postgres", true, fine}, {"relay", false, halted}},
			200, `{"status":"degraded","checks":[{"name":"postgres","status":"ok"},
				{"name":"relay","status":"failed","reason":"HALT: the stream was deleted"}]}`,
		},
		"a required one fails": {
			checks{{"postgres", true, broken}, {"relay", false, fine}},
			503, `{"status":"unavailable","checks":[{"name":"postgres","status":"failed","reason":"connection refused"},
				{"name":"relay","status":"ok"}]}`,
		},
		"both fail": {
			checks{{"postgres", true, broken}, {"relay", false, halted}},
			503, `{"status":"unavailable","checks":[{"name":"postgres","status":"failed","reason":"connection refused"},
				{"name":"relay","status":"failed","reason":"HALT: the stream was deleted"}]}`,
		},
		"one panics": {
			checks{{"relay", false, panics}},
			200, `{"status":"degraded","checks":[{"name":"relay","status":"failed","reason":"the check panicked: boom"}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := get(t, "GET", admin(t, c.checks...)+"/readyz")
			require.Equal(t, c.status, got.status)
			require.JSONEq(t, c.want, got.body)
		})
	}
}
