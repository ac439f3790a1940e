package httpapi_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// endlessConsole answers /console/live without an end, until Close.
type endlessConsole struct{ closed chan struct{} }

func (e endlessConsole) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write([]byte("console " + r.URL.Path))
	if r.URL.Path == "/console/live" {
		_ = http.NewResponseController(w).Flush()
		<-e.closed
	}
}

func (e endlessConsole) Operator(*http.Request) operations.Operator { return operations.Operator{} }

func (e endlessConsole) Close() { close(e.closed) }

// TestConsoleIsServed checks that the admin listener leads to the console, leaves its paths to it without a token, still refuses foreign hosts
// for it, and can stop while somebody watches.
func TestConsoleIsServed(t *testing.T) {
	server := httpapi.NewAdmin(httpapi.AdminOptions{
		Addr: "127.0.0.1:0", Token: "secret", Console: endlessConsole{make(chan struct{})}, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, server.Listen(t.Context()))
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	base := "http://" + server.Addr()
	read := func(path string) (int, string) {
		answer, err := http.Get(base + path)
		require.NoError(t, err)
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body)
	}
	for path, want := range map[string]string{"/": "console /console", "/console": "console /console", "/console/orders/1": "console /console/orders/1"} {
		status, body := read(path)
		require.Equal(t, http.StatusOK, status, path)
		require.Equal(t, want, body, path)
	}
	status, _ := read("/consoles")
	require.Equal(t, http.StatusUnauthorized, status, "another path")
	foreign, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/console", nil)
	require.NoError(t, err)
	foreign.Host = "evil.example"
	answer, err := http.DefaultClient.Do(foreign)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusMisdirectedRequest, answer.StatusCode)

	live, err := http.Get(base + "/console/live")
	require.NoError(t, err)
	defer func() { _ = live.Body.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, server.Shutdown(ctx))
	require.NoError(t, <-served)
}
