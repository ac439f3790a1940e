package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
)

// TestOriginsThatMayCallTheAPI checks that scripts of the pages of the named origins, and of no other, may call the API and read its answers.
func TestOriginsThatMayCallTheAPI(t *testing.T) {
	const shop, evil = "https://shop.example.com", "https://evil.example"
	open := start(t, func(o *httpapi.Options) { o.CORSOrigins = []string{shop} })
	closed := start(t)
	preflight := func(s *service, origin string) orderResponse {
		request := s.request(http.MethodOptions, "/orders", http.NoBody)
		request.Header.Set("Origin", origin)
		request.Header.Set("Access-Control-Request-Method", "POST")
		request.Header.Set("Access-Control-Request-Headers", "content-type,idempotency-key")
		return s.exchange(request)
	}
	allowed := preflight(open, shop)
	require.Equal(t, http.StatusNoContent, allowed.status)
	require.Equal(t, shop, allowed.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "POST", allowed.header.Get("Access-Control-Allow-Methods"))
	require.Equal(t, "content-type,idempotency-key", allowed.header.Get("Access-Control-Allow-Headers"))
	require.Equal(t, "600", allowed.header.Get("Access-Control-Max-Age"))
	require.Empty(t, allowed.header.Get("Access-Control-Allow-Credentials"))
	require.Empty(t, preflight(open, evil).header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, http.StatusMethodNotAllowed, preflight(closed, shop).status)
	require.Empty(t, preflight(closed, shop).header.Get("Access-Control-Allow-Origin"))

	place := func(s *service, origin string) orderResponse {
		return s.send("POST", "/orders", `{"customer_id":"`+customer+`","amount":1}`, "Origin: "+origin, "Sec-Fetch-Site: cross-site")
	}
	placed := place(open, shop)
	require.Equal(t, http.StatusCreated, placed.status)
	require.Equal(t, shop, placed.header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, placed.header.Values("Vary"), "Origin")
	require.Equal(t, "Etag, Location, Retry-After, Trace-Id, Www-Authenticate", placed.header.Get("Access-Control-Expose-Headers"))
	require.Equal(t, http.StatusForbidden, place(open, evil).status)
	require.Equal(t, http.StatusForbidden, place(closed, shop).status)
	read := open.send("GET", "/orders", "", "Origin: "+evil)
	require.Equal(t, http.StatusOK, read.status, "a browser keeps the answer from the page")
	require.Empty(t, read.header.Get("Access-Control-Allow-Origin"))
}
