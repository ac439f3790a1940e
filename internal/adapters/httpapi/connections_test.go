package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
)

const (
	postOrder  = "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	overloaded = `{"type":"about:blank","title":"Service Unavailable","status":503,` +
		`"detail":"too many connections or long bodies at a time; nothing was done","code":"overloaded"`
)

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

// read reads one answer from a connection.
func read(t *testing.T, conn net.Conn) (*http.Response, string) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response, string(body)
}

// TestOneConnectionTooManyIsRefused checks that the server refuses a connection over the limit at once, and serves a new one as soon as
// another connection has ended.
func TestOneConnectionTooManyIsRefused(t *testing.T) {
	s := start(t, func(o *httpapi.Options) { o.MaxConnections = 3 })
	var held []net.Conn
	for range 3 {
		conn := dial(t, s.api.Server)
		write(t, conn, postOrder+"Content-Length: 50\r\n\r\n{")
		held = append(held, conn)
	}
	for range 5 {
		conn := dial(t, s.api.Server)
		write(t, conn, postOrder+"Content-Length: 50000\r\n\r\n{"+strings.Repeat(" ", 40_000)) // the server reads the body for a short time
		response, body := read(t, conn)
		require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
		require.Equal(t, "1", response.Header.Get("Retry-After"))
		require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
		require.True(t, response.Close)
		require.JSONEq(t, overloaded+"}", body)
		require.NoError(t, conn.Close())
	}
	s.logged.has(t, `"level":"WARN"`, "HTTP_MAX_CONNECTIONS", `"most":3`, `"times":1`)
	require.Equal(t, 1, strings.Count(s.logged.String(), "refused connections"), "once in ten seconds")
	require.NoError(t, held[0].Close())
	require.Eventually(t, func() bool {
		response, err := http.Get(s.base + "/orders/" + firstID)
		return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusNotFound
	}, 5*time.Second, 10*time.Millisecond)
}

// TestIdleConnectionsMakeRoom checks that a new connection replaces an idle one, and that the longest idle one goes first.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	s := start(t, func(o *httpapi.Options) { o.MaxConnections = 3 })
	var idle []net.Conn
	for range 3 {
		conn := dial(t, s.api.Server)
		write(t, conn, "GET /orders/"+firstID+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		response, _ := read(t, conn)
		require.Equal(t, http.StatusNotFound, response.StatusCode)
		require.Eventually(t, func() bool { return s.api.Idle() == len(idle)+1 }, 5*time.Second, time.Millisecond)
		idle = append(idle, conn)
	}
	s.place("1")
	_, err := idle[0].Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	for _, conn := range idle[1:] {
		write(t, conn, "GET /orders/"+firstID+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		response, _ := read(t, conn)
		require.Equal(t, http.StatusOK, response.StatusCode)
	}
}

// TestLongBodiesTakeTurns checks that the server still reads short bodies while many long bodies never end.
func TestLongBodiesTakeTurns(t *testing.T) {
	s := start(t)
	const fine = `{"customer_id":"` + customer + `","amount":1}`
	long := fine + strings.Repeat(" ", 60<<10)
	const places = 32
	var answered atomic.Int32
	for range 2 * places {
		conn := dial(t, s.api.Server)
		write(t, conn, fmt.Sprintf("%sContent-Length: %d\r\n\r\n", postOrder, len(long)))
		go func() {
			if n, _ := conn.Read(make([]byte, 1)); n == 1 {
				answered.Add(1) // the server has refused the request before its body came
			}
		}()
	}
	require.Eventually(t, func() bool { return answered.Load() == places }, 5*time.Second, time.Millisecond)
	got := s.send("POST", "/orders", long)
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Contains(t, got.body, `"code":"overloaded"`)
	require.Equal(t, "1", got.header.Get("Retry-After"))
	chunked := s.sendReader("POST", "/orders", io.MultiReader(strings.NewReader(long)))
	require.Equal(t, http.StatusServiceUnavailable, chunked.status)
	for _, body := range []func(text string) io.Reader{
		func(text string) io.Reader { return strings.NewReader(text) },
		func(text string) io.Reader { return io.MultiReader(strings.NewReader(text)) }, // chunked
	} {
		limit := fine + strings.Repeat(" ", 8<<10-len(fine))
		require.Equal(t, http.StatusCreated, s.sendReader("POST", "/orders", body(limit)).status, "8 KiB are not long")
		require.Equal(t, http.StatusServiceUnavailable, s.sendReader("POST", "/orders", body(limit+" ")).status)
	}
	for range 40 {
		s.place("1")
	}
	longest := `{"carrier":"` + strings.Repeat(`\ud83d\ude00`, 200) + `","tracking":"` + strings.Repeat(`\ud83d\ude00`, 200) + `"}`
	require.Less(t, len(longest), 8<<10)
	require.Equal(t, http.StatusOK, s.send("POST", "/orders/"+firstID+"/pay", "").status)
	require.Equal(t, http.StatusOK, s.send("POST", "/orders/"+firstID+"/ship", longest).status)
}

// TestLongBodiesGiveTheirPlaceBack checks that the place of a long body is free again after its request, whatever the answer is.
func TestLongBodiesGiveTheirPlaceBack(t *testing.T) {
	s := start(t)
	fine := `{"customer_id":"` + customer + `","amount":1}` + strings.Repeat(" ", 20<<10)
	for range 40 {
		require.Equal(t, http.StatusCreated, s.send("POST", "/orders", fine).status)
		require.Equal(t, http.StatusBadRequest, s.send("POST", "/orders", fine+"}").status)
	}
	s.shop.instead = func(ctx context.Context) error { panic("a bug") }
	for range 40 {
		require.Equal(t, http.StatusInternalServerError, s.send("POST", "/orders", fine).status)
	}
	s.shop.instead = nil
	require.Equal(t, http.StatusCreated, s.send("POST", "/orders", fine).status)
}

// TestManyHeadersAreRefused checks that the server refuses many short headers, which need more memory than their text.
func TestManyHeadersAreRefused(t *testing.T) {
	s := start(t)
	many := make([]string, 500)
	got := s.sendLines("/orders", "", "X", many...)
	requireProblem(t, got, http.StatusRequestHeaderFieldsTooLarge, "headers_too_large", "the request's headers are larger than 16 KiB", "")
	require.Equal(t, http.StatusBadRequest, s.sendLines("/orders", "", "X", many[:200]...).status)
}
