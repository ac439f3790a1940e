package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
)

// send makes one request with the browser's cookies, and follows no redirect.
func (b *browser) send(method, path, body, header, value string) *http.Response {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, b.base+console.Path+path, strings.NewReader(body))
	require.NoError(b.t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set(header, value)
	direct := *b.client
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := direct.Do(request)
	require.NoError(b.t, err)
	require.NoError(b.t, answer.Body.Close())
	return answer
}

// TestASessionNeedsTheToken checks that only the token opens a session, that a session is a cookie that scripts and other sites do not get, and
// that a changed cookie is no session.
func TestASessionNeedsTheToken(t *testing.T) {
	b := open(t, console.Options{Token: "the token"})
	for _, path := range []string{"", "/", "/live", "/nothing"} {
		require.Contains(t, []int{http.StatusSeeOther, http.StatusUnauthorized}, b.send("GET", path, "", "Accept", "*/*").StatusCode, path)
	}
	require.Equal(t, http.StatusSeeOther, b.send("POST", "/actions/nothing", "", "Accept", "*/*").StatusCode)
	for _, wrong := range []string{"", "the toke", "the token2"} {
		status, body := b.post("/sign-in", "token", wrong)
		require.Equal(t, http.StatusUnauthorized, status)
		require.Contains(t, body, "not the admin token")
	}
	signedIn := b.send("POST", "/sign-in", "token=the+token", "Accept", "*/*")
	require.Equal(t, http.StatusSeeOther, signedIn.StatusCode)
	cookies := signedIn.Cookies()
	require.Len(t, cookies, 1)
	require.True(t, cookies[0].HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, cookies[0].SameSite)
	require.NotContains(t, cookies[0].Value, "token")
	require.Equal(t, http.StatusOK, b.send("GET", "", "", "Accept", "*/*").StatusCode)

	address, err := url.Parse(b.base + console.Path)
	require.NoError(t, err)
	end, rest, _ := strings.Cut(cookies[0].Value, ".")
	b.client.Jar.SetCookies(address, []*http.Cookie{{Name: cookies[0].Name, Value: "9" + end + "." + rest, Path: console.Path}})
	require.Equal(t, http.StatusSeeOther, b.send("GET", "", "", "Accept", "*/*").StatusCode, "a longer session needs another code")
	other := open(t, console.Options{Token: "another token"})
	address, err = url.Parse(other.base + console.Path)
	require.NoError(t, err)
	other.client.Jar.SetCookies(address, []*http.Cookie{{Name: cookies[0].Name, Value: cookies[0].Value, Path: console.Path}})
	require.Equal(t, http.StatusSeeOther, other.send("GET", "", "", "Accept", "*/*").StatusCode, "a new token ends all sessions")
}

// TestAPageOfAnotherOriginUsesNoSession checks that a form of another origin is refused although the browser is signed in, and that the headers
// forbid other pages to show the console, and the console to load anything from others.
func TestAPageOfAnotherOriginUsesNoSession(t *testing.T) {
	b := open(t, console.Options{Token: "the token"})
	b.post("/sign-in", "token", "the token")
	for header, value := range map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"} {
		for _, path := range []string{"/actions/nothing", "/sign-out", "/sign-in"} {
			require.Equal(t, http.StatusForbidden, b.send("POST", path, "", header, value).StatusCode, "%s %s", header, path)
		}
	}
	page := b.send("GET", "", "", "Accept", "*/*")
	require.Equal(t, http.StatusOK, page.StatusCode, "still signed in")
	policy := page.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'"} {
		require.Contains(t, strings.Split(policy, "; "), part)
	}
	require.Equal(t, "no-store", page.Header.Get("Cache-Control"))
}
