package console_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

const token = "correct-horse-battery-staple"

// TestSignIn checks that nothing is shown without the token, that the token opens the page that was asked for, and that signing out ends the
// session.
func TestSignIn(t *testing.T) {
	b := open(t, console.Options{Token: token, Instance: "app1"})
	status, body := b.get("/subscribers?x=1")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "<h1>Sign in</h1>")
	require.Contains(t, body, `value="/console/subscribers?x=1"`)
	require.NotContains(t, body, "app1")

	status, body = b.post("/sign-in", "token", "wrong", "next", "/console")
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, body, "That is not the admin token")
	_, body = b.get("")
	require.Contains(t, body, "<h1>Sign in</h1>")

	status, body = b.post("/sign-in", "token", " "+token+"\n", "next", "/console")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "<h1>Overview</h1>")
	require.Contains(t, body, "app1")

	_, body = b.post("/sign-out")
	require.Contains(t, body, "<h1>Sign in</h1>")
	_, body = b.get("")
	require.Contains(t, body, "<h1>Sign in</h1>")
}

// TestSignInLeadsToOwnPagesOnly checks that nobody can make a link to the sign-in page that leads to another server afterwards.
func TestSignInLeadsToOwnPagesOnly(t *testing.T) {
	pages := console.New(console.Options{Token: token, Watcher: stillWatcher{}, Logger: slog.New(slog.DiscardHandler)})
	for next, want := range map[string]string{
		"https://evil.example/console": "/console", "//evil.example/console": "/console", "/orders": "/console", "": "/console",
		"javascript:alert(1)": "/console", "/console/events?type=a": "/console/events?type=a", "/consolex": "/console",
	} {
		answer := signIn(pages, token, next)
		require.Equal(t, http.StatusSeeOther, answer.Code)
		require.Equal(t, want, answer.Header().Get("Location"), next)
	}
}

func signIn(pages http.Handler, with, next string) *httptest.ResponseRecorder {
	form := url.Values{"token": {with}, "next": {next}}
	request := httptest.NewRequest(http.MethodPost, console.Path+"/sign-in", strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := httptest.NewRecorder()
	pages.ServeHTTP(answer, request)
	return answer
}

// ask asks for a path with a cookie, and returns the status.
func ask(pages http.Handler, path, cookie string, headers ...string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodGet, console.Path+path, nil)
	request.Header.Set("Cookie", cookie)
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	answer := httptest.NewRecorder()
	pages.ServeHTTP(answer, request)
	return answer
}

// TestSession checks the cookie: script cannot read it, no other site sends it, it ends after twelve hours, another token makes it useless,
// every instance with the same token accepts it, and nobody can change it.
func TestSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		create := func(with string) *console.Console {
			return console.New(console.Options{Token: with, Watcher: stillWatcher{}, Logger: slog.New(slog.DiscardHandler)})
		}
		pages := create(token)
		cookie := signIn(pages, token, "/console").Result().Cookies()[0]
		require.True(t, cookie.HttpOnly)
		require.Equal(t, http.SameSiteStrictMode, cookie.SameSite)
		require.Equal(t, console.Path, cookie.Path)
		sent := cookie.Name + "=" + cookie.Value
		require.Equal(t, http.StatusOK, ask(pages, "", sent).Code)
		require.Equal(t, http.StatusOK, ask(create(token), "", sent).Code, "another instance")
		require.Equal(t, http.StatusSeeOther, ask(create(token+"2"), "", sent).Code, "a new token")
		require.Equal(t, http.StatusSeeOther, ask(create(""), "", sent).Code, "no token")
		longer := strings.Replace(sent, "=9", "=99", 1) // fake time begins in 2000
		require.NotEqual(t, sent, longer)
		for _, forged := range []string{"", longer, cookie.Name + "=", cookie.Name + "=x.y", cookie.Name + "=9999999999." + strings.SplitN(cookie.Value, ".", 2)[1], sent + "x"} {
			require.Equal(t, http.StatusSeeOther, ask(pages, "", forged).Code, forged)
		}
		time.Sleep(12*time.Hour - time.Second)
		require.Equal(t, http.StatusOK, ask(pages, "", sent).Code)
		time.Sleep(2 * time.Second)
		require.Equal(t, http.StatusSeeOther, ask(pages, "", sent).Code, "the session has ended")
		answer := ask(pages, "", sent, "HX-Request", "true")
		require.Equal(t, http.StatusUnauthorized, answer.Code, "a live page")
		require.Equal(t, "/console/sign-in", answer.Header().Get("HX-Redirect"))
		answer = ask(pages, "", sent, "HX-Request", "true", "HX-Current-URL", "http://here/console/events?type=a")
		require.Equal(t, "/console/sign-in?next=%2Fconsole%2Fevents%3Ftype%3Da", answer.Header().Get("HX-Redirect"))
		require.Equal(t, http.StatusUnauthorized, ask(pages, "/live", sent).Code)
	})
}

// TestNobodySignsInWithoutAToken checks a process that has no token: its console stays closed, and says why.
func TestNobodySignsInWithoutAToken(t *testing.T) {
	pages := console.New(console.Options{Watcher: stillWatcher{}, Logger: slog.New(slog.DiscardHandler)})
	require.Equal(t, http.StatusUnauthorized, signIn(pages, "", "/console").Code)
	require.Contains(t, ask(pages, "/sign-in", "").Body.String(), "no admin token")
}

// TestForeignForms checks that a form which a browser sends for a page of another origin is refused, also with a session.
func TestForeignForms(t *testing.T) {
	pages := console.New(console.Options{Open: true, Watcher: stillWatcher{}, Logger: slog.New(slog.DiscardHandler)})
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		request := httptest.NewRequest(http.MethodPost, console.Path+"/actions/any", nil)
		request.Header.Set(header, value)
		answer := httptest.NewRecorder()
		pages.ServeHTTP(answer, request)
		require.Equal(t, http.StatusForbidden, answer.Code)
		require.Contains(t, answer.Body.String(), "a page of another origin sent this form")
	}
}

// TestEveryAnswerIsProtected checks the headers that keep other pages and other scripts out.
func TestEveryAnswerIsProtected(t *testing.T) {
	pages := console.New(console.Options{Open: true, Watcher: stillWatcher{}, Logger: slog.New(slog.DiscardHandler)})
	for _, path := range []string{"", "/sign-in", "/nothing", "/static/console.css", "/static/nothing"} {
		answer := ask(pages, path, "")
		policy := answer.Header().Get("Content-Security-Policy")
		require.Contains(t, policy, "default-src 'none'", path)
		require.NotContains(t, policy, "unsafe", path)
		require.Equal(t, "DENY", answer.Header().Get("X-Frame-Options"), path)
		require.NotContains(t, answer.Body.String(), "style=", path)
	}
	require.Equal(t, http.StatusNotFound, ask(pages, "/nothing", "").Code)
	require.Equal(t, http.StatusNotFound, ask(pages, "/static/nothing", "").Code)
}

// movingWatcher has a new view whenever a test says so.
type movingWatcher struct {
	stillWatcher
	newer    chan struct{}
	watching chan int
}

func (m movingWatcher) View() (operations.View, <-chan struct{}) { return m.view, m.newer }

func (m movingWatcher) Watch() (end func()) {
	m.watching <- 1
	return func() { m.watching <- -1 }
}

// TestLive checks that a viewer hears of each newer reading, that it counts as a watcher while it listens, and that Close ends it.
func TestLive(t *testing.T) {
	watcher := movingWatcher{newer: make(chan struct{}), watching: make(chan int, 9)}
	pages := console.New(console.Options{Open: true, Watcher: watcher, Logger: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(pages)
	defer server.Close()
	answer, err := http.Get(server.URL + console.Path + "/live")
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	require.Equal(t, "text/event-stream", answer.Header.Get("Content-Type"))
	require.Equal(t, 1, <-watcher.watching)
	read := func() string {
		text := make([]byte, 100)
		n, err := answer.Body.Read(text)
		require.NoError(t, err)
		return string(text[:n])
	}
	require.Equal(t, "event: reading\ndata: 0\n\n", read())
	watcher.newer <- struct{}{}
	require.Equal(t, "event: reading\ndata: 1\n\n", read())
	pages.Close()
	_, err = io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, -1, <-watcher.watching)
}

// TestRefusedActionLeadsBack checks that the page of a refused action leads to the page from which its form came.
func TestRefusedActionLeadsBack(t *testing.T) {
	status, body := open(t, console.Options{}).post("/actions/parked-redrive")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "nothing is chosen")
	require.Contains(t, body, `<a href="/console/parked">To the page before</a>`)
	_, body = open(t, console.Options{}).get("/nothing")
	require.Contains(t, body, `<a href="/console">To the overview</a>`)
}

// TestFormsWithoutASession checks that a form without a session changes nothing, whatever it asks for. The sign-in page says so, and leads back
// to the page from which the form came.
func TestFormsWithoutASession(t *testing.T) {
	for path, back := range map[string]string{
		"/actions/subscriber-pause": "/console/subscribers/emails", "/actions/parked-redrive": "/console/parked",
		"/actions/letters-discard": "/console/letters/emails", "/actions/adopt": "/console/halt", "/actions/nothing": "/console",
		"/orders": "/console/orders", "/orders/" + first + "/pay": "/console/orders/" + first, "/nothing": "/console",
	} {
		b := open(t, console.Options{Token: token}) // its ports are nil: a form that is carried out panics
		status, body := b.post(path, "subscriber", "emails", "step", "do")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, "<h1>Sign in</h1>", path)
		require.Contains(t, body, "Nothing was done, because your session has ended.", path)
		require.Contains(t, body, `name="next" value="`+back+`"`, path)
	}
}
