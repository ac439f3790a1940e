package httpapi_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
)

// TestADrainingAPIAnswersAndClosesConnections checks that every request to a process that drains gets its answer, and that the connection is
// closed after the answer, also for a request that came before.
func TestADrainingAPIAnswersAndClosesConnections(t *testing.T) {
	drain := new(httpapi.Drain)
	s := start(t, func(o *httpapi.Options) { o.Drain = drain })
	closes := func(method, path string, status int) bool {
		answer, err := http.DefaultClient.Do(s.request(method, path, http.NoBody))
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, status, answer.StatusCode, path)
		return answer.Close // the client has removed the header
	}
	s.place("1")
	require.False(t, closes("GET", "/orders/"+firstID, 200))

	s.shop.instead = func(context.Context) error {
		drain.Begin() // while the request is in work
		return nil
	}
	require.True(t, closes("POST", "/orders/"+firstID+"/pay", 200))
	for _, request := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/orders/" + firstID, 200},
		{"HEAD", "/orders/" + firstID, 200},
		{"POST", "/orders/" + firstID + "/pay", 200},
		{"GET", "/nothing", 404},
		{"GET", "/docs", 200},
	} {
		require.True(t, closes(request.method, request.path, request.status), request.path)
	}
}

// TestADrainingProcessIsNotReady checks that readiness fails as soon as a process drains, and that the process is still alive.
func TestADrainingProcessIsNotReady(t *testing.T) {
	drain := new(httpapi.Drain)
	admin := httpapi.NewAdmin(httpapi.AdminOptions{
		Addr: "127.0.0.1:0", Open: true, Inspector: &fakeOperations{}, ParkingAdmin: &fakeOperations{}, Logger: slog.New(slog.DiscardHandler),
		Drain: drain,
	})
	base := run(t, admin.Server)
	get := func(path string) (int, string) {
		answer, err := http.Get(base + path)
		require.NoError(t, err)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return answer.StatusCode, string(text)
	}
	status, said := get("/readyz")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"ready","checks":[]}`, said)
	drain.Begin()
	status, said = get("/readyz")
	require.Equal(t, 503, status)
	require.JSONEq(t, `{"status":"unavailable","checks":[{"name":"shutdown","status":"failed",
		"reason":"the process is about to stop, and wants no further requests"}]}`, said)
	status, _ = get("/healthz")
	require.Equal(t, 200, status)
}
