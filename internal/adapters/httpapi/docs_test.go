package httpapi_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheContractIsServed(t *testing.T) {
	s := start(t)
	got := s.send("GET", "/openapi.yaml", "")
	want, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	require.Equal(t, string(want), got.body)
	require.Equal(t, "application/openapi+yaml", got.header.Get("Content-Type"))
	require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
	require.Equal(t, http.StatusOK, s.send("HEAD", "/openapi.yaml", "").status)
}

// TestThePageIsServed checks the page /docs over HTTP. A test in test/pages opens it in a browser.
func TestThePageIsServed(t *testing.T) {
	s := start(t)
	page := s.send("GET", "/docs", "")
	require.Equal(t, http.StatusOK, page.status)
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
			"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	} {
		require.Equal(t, want, page.header.Get(name))
	}
	script := s.send("GET", "/docs/openapi-explorer.min.js", "")
	require.Equal(t, "text/javascript; charset=utf-8", script.header.Get("Content-Type"))
	terms := s.send("GET", "/docs/openapi-explorer.LICENSE", "")
	require.Contains(t, terms.body, "Apache License")
	for _, path := range []string{"/docs/index", "/docs/index.html", "/docs/docs.html", "/docs/..", "/docs/..%2Fopenapi.yaml", "/docs/%2e%2e", "/docs/a/b", "/docs/."} {
		requireProblem(t, s.send("GET", path, ""), 404, "route_not_found", "there is nothing at this path", "")
	}
}

// TestTheRootLeadsToThePage checks that a person who opens the address of the API comes to the page that shows it.
func TestTheRootLeadsToThePage(t *testing.T) {
	s := start(t)
	for _, method := range []string{"GET", "HEAD"} {
		request, err := http.NewRequestWithContext(t.Context(), method, s.base+"/", http.NoBody)
		require.NoError(t, err)
		answer, err := direct.Do(request)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusSeeOther, answer.StatusCode, method)
		require.Equal(t, "/docs", answer.Header.Get("Location"), method)
	}
}
