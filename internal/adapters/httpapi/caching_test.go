package httpapi_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
)

// TestAKnownVersionIsNotSentAgain checks that the answer is 304 if the client knows the version of an order or of a document.
func TestAKnownVersionIsNotSentAgain(t *testing.T) {
	s := start(t)
	path := s.place("1").header.Get("Location")
	for _, known := range []string{`"1"`, `W/"1"`, `"7", "1"`, `*`, `"7","1","8"`} {
		got := s.send("GET", path, "", "If-None-Match: "+known)
		require.Equal(t, http.StatusNotModified, got.status, known)
		require.Equal(t, `"1"`, got.header.Get("ETag"))
		require.Empty(t, got.body)
	}
	for _, other := range []string{`"2"`, `1`, `"11"`, `"01"`, `x`, ""} {
		require.Equal(t, http.StatusOK, s.send("GET", path, "", "If-None-Match: "+other).status, other)
	}
	require.Equal(t, http.StatusOK, s.send("POST", path+"/pay", "", `If-None-Match: "1"`).status, "a change is made")
	require.Equal(t, http.StatusOK, s.send("GET", path, "", `If-None-Match: "1"`).status, "the order has changed")

	for _, document := range []string{"/openapi.yaml", "/docs", "/docs/served.yaml", "/docs/openapi-explorer.min.js"} {
		first := s.send("GET", document, "")
		require.Equal(t, http.StatusOK, first.status)
		again := s.send("GET", document, "", "If-None-Match: "+first.header.Get("ETag"))
		require.Equal(t, http.StatusNotModified, again.status, document)
		require.Equal(t, first.header.Get("ETag"), again.header.Get("ETag"))
	}
}

// TestLargeAnswersAreCompressed checks that a client that accepts gzip gets large answers compressed, and small ones and those with a strong
// ETag as they are.
func TestLargeAnswersAreCompressed(t *testing.T) {
	s := start(t)
	path := s.place("1").header.Get("Location")
	long := "{\"reference\":\"" + strings.Repeat("é", 200) + "\"}"
	require.Equal(t, http.StatusOK, s.send("POST", path+"/pay", long).status)
	for range 10 {
		placed, err := order.Place(firstID, customer, usd(t, "1"), noon)
		require.NoError(t, err)
		s.shop.page.Orders = append(s.shop.page.Orders, placed.Snapshot())
	}
	for path, compressed := range map[string]bool{
		"/orders": true, "/docs/openapi-explorer.min.js": true, "/openapi.yaml": true, path: false, "/nothing": false,
	} {
		plain := s.send("GET", path, "", "Accept-Encoding: identity")
		require.Empty(t, plain.header.Get("Content-Encoding"), path)
		request := s.request("GET", path, http.NoBody)
		request.Header.Set("Accept-Encoding", "gzip, zstd")
		answer, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		body := io.Reader(answer.Body)
		require.Equal(t, compressed, answer.Header.Get("Content-Encoding") == "gzip", path)
		if compressed {
			require.Equal(t, "Accept-Encoding", answer.Header.Get("Vary"), path)
			body, err = gzip.NewReader(body)
			require.NoError(t, err)
		}
		text, err := io.ReadAll(body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Len(t, text, len(plain.body), path)
		require.Empty(t, answer.Header.Get("No-Gzip-Compression"), "this is a note to the server itself")
	}
}

func usd(t *testing.T, text string) value.Money {
	t.Helper()
	amount, err := value.ParseMoney(text, value.DefaultCurrency)
	require.NoError(t, err)
	return amount
}
