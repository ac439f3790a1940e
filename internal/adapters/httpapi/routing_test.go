package httpapi_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestASlashTooManyIsRedirected checks that a path with a slash at its end leads to the path without it, with the same method and query, and
// never to another host.
func TestASlashTooManyIsRedirected(t *testing.T) {
	s := start(t)
	for _, test := range []struct{ method, path, want string }{
		{"GET", "/orders/", "/orders"},
		{"GET", "/orders/?limit=1&status=paid", "/orders?limit=1&status=paid"},
		{"POST", "/orders/", "/orders"},
		{"HEAD", "/orders/" + firstID + "/", "/orders/" + firstID},
		{"POST", "/orders/" + firstID + "/pay/", "/orders/" + firstID + "/pay"},
		{"GET", "/orders/a%20b/", "/orders/a%20b"},
		{"GET", "/docs/", "/docs"},
		{"GET", "/openapi.yaml/", "/openapi.yaml"},
		{"GET", "//", "/"},
		{"GET", "//evil.example/", ""},
		{"GET", "/orders//", ""},
		{"GET", "/order/", ""},
	} {
		request := s.request(test.method, "/", http.NoBody)
		request.URL.Opaque = test.path // so that the client does not change it
		if strings.HasPrefix(test.path, "//") {
			request.URL.Opaque = "http:" + "//" + request.URL.Host + test.path
		}
		answer, err := direct.Do(request)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		if test.want == "" {
			require.Equal(t, http.StatusNotFound, answer.StatusCode, test.path)
			continue
		}
		require.Equal(t, http.StatusPermanentRedirect, answer.StatusCode, test.path)
		require.Equal(t, test.want, answer.Header.Get("Location"))
	}
}

// TestAPathIsJudgedBeforeABody checks that a wrong path or method is reported whatever the query, the body and their types are.
func TestAPathIsJudgedBeforeABody(t *testing.T) {
	s := start(t)
	for _, body := range []string{"a=b", strings.Repeat("x", 70<<10), "{"} {
		requireProblem(t, s.send("POST", "/order?x=%zz", body, "Content-Type: text/plain"), 404, "route_not_found", "there is nothing at this path", "")
		requireProblem(t, s.send("PUT", "/orders?x=%zz", body, "Content-Type: text/plain"), 405, "method_not_allowed",
			"the path has no such method; Allow names those it has", "")
	}
}

// TestABodyIsNotAskedForIfTheHeadersAreWrong checks that a client that waits for 100 Continue gets the refusal instead, if the headers decide.
func TestABodyIsNotAskedForIfTheHeadersAreWrong(t *testing.T) {
	s := start(t)
	ask := func(path string, headers ...string) string {
		address, err := url.Parse(s.base)
		require.NoError(t, err)
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address.Host)
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 60000\r\n%s\r\n\r\n",
			path, strings.Join(headers, "\r\n"))
		require.NoError(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		return strings.TrimSpace(line)
	}
	const asJSON = "Content-Type: application/json"
	for _, test := range []struct {
		path, want string
		headers    []string
	}{
		{"/orders", "100 Continue", []string{asJSON, "Idempotency-Key: k"}},
		{"/orders/" + firstID + "/pay", "100 Continue", []string{asJSON, `If-Match: "1"`}},
		{"/orders", "415 Unsupported Media Type", []string{"Content-Type: text/plain"}},
		{"/orders", "415 Unsupported Media Type", []string{asJSON, "Content-Encoding: gzip"}},
		{"/orders", "400 Bad Request", []string{asJSON, "Idempotency-Key: a b"}},
		{"/orders", "400 Bad Request", []string{asJSON, "Idempotency-Key: a", "Idempotency-Key: a"}},
		{"/orders/42/pay", "400 Bad Request", []string{asJSON}},
		{"/orders/" + firstID + "/pay", "400 Bad Request", []string{asJSON, `If-Match: 1`}},
		{"/orders?x=%zz", "400 Bad Request", []string{asJSON}},
		{"/order", "404 Not Found", []string{asJSON}},
		{"/openapi.yaml", "405 Method Not Allowed", []string{asJSON}},
		{"/orders", "403 Forbidden", []string{asJSON, "Origin: https://evil.example"}},
	} {
		require.Equal(t, "HTTP/1.1 "+test.want, ask(test.path, test.headers...), "%s %s", test.path, test.headers)
	}
}
