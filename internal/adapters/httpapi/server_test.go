package httpapi_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

func dial(t *testing.T, server *httpapi.Server) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn
}

func TestATakenPortIsAClearError(t *testing.T) {
	first := start(t)
	second := httpapi.NewAPI(httpapi.Options{Addr: first.api.Addr(), Service: first.shop, Logger: slog.Default()})
	require.Equal(t, first.api.Addr(), second.Addr())
	err := second.Listen(t.Context())
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.ErrorContains(t, err, "the API cannot listen on "+first.api.Addr())
	require.NoError(t, second.Shutdown(t.Context()), "what never listened can be shut down")
}

func TestWhatListensButNeverServesGivesItsPortBack(t *testing.T) {
	options := httpapi.Options{Addr: "127.0.0.1:0", Logger: slog.Default()}
	first := httpapi.NewAPI(options)
	require.NoError(t, first.Listen(t.Context()))
	require.NoError(t, first.Shutdown(t.Context()))
	options.Addr = first.Addr()
	second := httpapi.NewAPI(options)
	require.NoError(t, second.Listen(t.Context()))
	require.NoError(t, second.Shutdown(t.Context()))
}

func TestServingEndsWithAnErrorWhenTheListenerDies(t *testing.T) {
	server := httpapi.NewAdmin(httpapi.AdminOptions{Addr: "127.0.0.1:0", Logger: slog.Default()})
	require.NoError(t, server.Listen(t.Context()))
	require.NoError(t, server.CloseListener())
	require.ErrorContains(t, server.Serve(), "the admin listener stopped")
}

func TestShutdownFinishesWhatIsInFlight(t *testing.T) {
	s := start(t)
	s.place("1")
	entered, release := make(chan struct{}), make(chan struct{})
	s.shop.instead = func(context.Context) error { close(entered); <-release; return nil }
	answered := make(chan int, 1)
	go func() {
		response, err := http.Get(s.base + "/orders/" + firstID)
		if err != nil {
			answered <- 0
			return
		}
		_ = response.Body.Close()
		answered <- response.StatusCode
	}()
	<-entered
	down := make(chan error, 1)
	go func() { down <- s.api.Shutdown(context.Background()) }()
	require.Eventually(t, func() bool { // the server accepts no new connection
		conn, err := net.Dial("tcp", s.api.Addr())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, 5*time.Second, time.Millisecond)
	require.Empty(t, down)
	close(release)
	require.Equal(t, http.StatusOK, <-answered)
	require.NoError(t, <-down)
}

func TestShutdownCutsOffWhatDoesNotFinish(t *testing.T) {
	s := start(t)
	entered, gone := make(chan struct{}), make(chan error, 1)
	s.shop.instead = func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		gone <- ctx.Err()
		return ctx.Err()
	}
	conn := dial(t, s.api.Server)
	_, err := io.WriteString(conn, "GET /orders/"+firstID+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = s.api.Shutdown(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "the API cut off requests in flight")
	require.ErrorIs(t, <-gone, context.Canceled, "the handler is told")
}

func TestAClientThatGoesAwayIsNoFailure(t *testing.T) {
	s := start(t)
	entered := make(chan struct{})
	s.shop.instead = func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		return fault.New(fault.Unavailable, "query_cancelled", "it was cancelled").Wrap(ctx.Err())
	}
	conn := dial(t, s.api.Server)
	_, err := io.WriteString(conn, "GET /orders/"+firstID+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	<-entered
	require.NoError(t, conn.Close())
	s.logged.has(t, `"level":"DEBUG"`, `"status":499`)
}

func TestASlowServiceIsGivenUpOn(t *testing.T) {
	s := start(t, func(o *httpapi.Options) { o.Timeouts.Handle = 20 * time.Millisecond })
	s.shop.instead = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	requireProblem(t, s.send("GET", "/orders/"+firstID, ""), 503, "timeout",
		"the answer took too long; whether the change was made is not known", "")
}

func TestSlowClientsAreCutOff(t *testing.T) {
	s := start(t, func(o *httpapi.Options) {
		o.Timeouts = httpapi.Timeouts{
			ReadHeader: 200 * time.Millisecond, Read: 400 * time.Millisecond, Idle: 200 * time.Millisecond,
		}
	})
	const post = "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for name, c := range map[string]struct{ sent, want string }{
		"headers that never end":  {post, ""},
		"a body that never comes": {post + "Content-Length: 50\r\n\r\n{", "408 Request Timeout"},
		"chunks that never end":   {post + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "408 Request Timeout"},
		"an idle connection":      {"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", "404 Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, s.api.Server)
			_, err := io.WriteString(conn, c.sent)
			require.NoError(t, err)
			answer, err := io.ReadAll(conn) // to the end of the connection
			require.NoError(t, err)
			status, _, _ := strings.Cut(string(answer), "\r\n")
			require.Contains(t, status, c.want)
			require.Equal(t, c.want != "", strings.Contains(string(answer), "application/problem+json"))
		})
	}
}

// TestSlowClientsHoldNobodyUp checks that two hundred clients that never finish their requests do not delay another client, and do not
// reach the service.
func TestSlowClientsHoldNobodyUp(t *testing.T) {
	s := start(t)
	const post = "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for i := range 200 {
		sent := post
		if i%2 == 0 {
			sent += "Content-Length: 50\r\n\r\n{"
		}
		_, err := io.WriteString(dial(t, s.api.Server), sent)
		require.NoError(t, err)
	}
	for range 20 {
		s.place("1")
	}
	require.Len(t, s.shop.orders, 20)
}

// TestSlowReadersAreCutOff checks that the server cuts off a client that does not read its answers.
func TestSlowReadersAreCutOff(t *testing.T) {
	s := start(t, func(o *httpapi.Options) { o.Timeouts.Write = 300 * time.Millisecond })
	asset := s.send("GET", "/docs/openapi-explorer.min.js", "")
	require.Equal(t, http.StatusOK, asset.status)
	const requests = 30 // their answers are larger than any socket's buffer
	conn := dial(t, s.api.Server)
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(64<<10))
	_, err := io.WriteString(conn, strings.Repeat("GET /docs/openapi-explorer.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n", requests))
	require.NoError(t, err)
	time.Sleep(time.Second)
	got, _ := io.Copy(io.Discard, conn) // until the connection ends, perhaps with a reset
	require.Less(t, got, int64(requests*len(asset.body)))
}

func TestBrokenBodiesAreRefused(t *testing.T) {
	s := start(t)
	const post = "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for name, sent := range map[string]string{
		"cut off":      post + "Content-Length: 50\r\n\r\n{",
		"no chunks":    post + "Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
		"two requests": post + "Content-Length: 1\r\n\r\n{" + post,
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, s.api.Server)
			_, err := io.WriteString(conn, sent)
			require.NoError(t, err)
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusBadRequest, response.StatusCode)
			require.Contains(t, string(body), `"code":"malformed_body"`)
		})
	}
}

func TestHugeHeadersAreRefused(t *testing.T) {
	s := start(t)
	request, err := http.NewRequestWithContext(t.Context(), "GET", s.base+"/orders/"+firstID, nil)
	require.NoError(t, err)
	request.Header.Set("X", strings.Repeat("x", 64<<10))
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, response.StatusCode)
}

func TestEachRequestIsASpan(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	s := start(t, func(o *httpapi.Options) {
		o.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	})
	var inside oteltrace.SpanContext
	s.shop.instead = func(ctx context.Context) error {
		_, isGin := ctx.(*gin.Context)
		require.False(t, isGin, "gin uses its contexts again")
		inside = oteltrace.SpanContextFromContext(ctx)
		return nil
	}
	s.place("1")
	s.send("GET", "/orders/42", "")
	s.shop.instead = func(context.Context) error { return fault.New(fault.Unavailable, "down", "it is down") }
	s.send("GET", "/orders/"+firstID, "")
	require.Eventually(t, func() bool { return len(spans.Ended()) == 3 }, 5*time.Second, time.Millisecond)

	ended := spans.Ended()
	created, wrong, down := ended[0], ended[1], ended[2]
	require.Equal(t, "POST /orders", created.Name())
	require.Equal(t, oteltrace.SpanKindServer, created.SpanKind())
	require.Equal(t, trace, created.SpanContext().TraceID().String())
	require.Equal(t, "00f067aa0ba902b7", created.Parent().SpanID().String())
	require.Equal(t, created.SpanContext().SpanID(), inside.SpanID(), "the service works in it")
	require.Contains(t, created.Attributes(), attribute.Int("http.response.status_code", 201))
	require.Equal(t, codes.Unset, wrong.Status().Code, "the client's mistake is no error of the server")
	require.Equal(t, "GET /orders/:id", down.Name())
	require.Equal(t, codes.Error, down.Status().Code)
	require.Len(t, down.Events(), 1, "it says what failed")
}

func TestANewTraceIsToldToo(t *testing.T) {
	s := start(t)
	response, err := http.Get(s.base + "/orders/" + firstID)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Regexp(t, "^[0-9a-f]{32}$", response.Header.Get("Trace-Id"))
}
