package console_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// stillWatcher always has the same view.
type stillWatcher struct{ view operations.View }

func (stillWatcher) Watch() (end func()) { return func() {} }

func (s stillWatcher) View() (operations.View, <-chan struct{}) { return s.view, nil }

// browser is a client with cookies that follows redirects, as a browser does.
type browser struct {
	t      *testing.T
	base   string
	client *http.Client
}

// open serves a console, and returns a browser for it. Without a Token the console is open to everybody.
func open(t *testing.T, options console.Options, adjust ...func(*console.Options)) *browser {
	t.Helper()
	for _, change := range adjust {
		change(&options)
	}
	options.Open = options.Token == ""
	if options.Watcher == nil {
		options.Watcher = stillWatcher{}
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	pages := console.New(options)
	server := httptest.NewServer(pages)
	t.Cleanup(server.Close)
	t.Cleanup(pages.Close)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &browser{t: t, base: server.URL, client: &http.Client{Jar: jar}}
}

// get returns the status and the body of a page below console.Path.
func (b *browser) get(path string) (status int, body string) {
	b.t.Helper()
	answer, err := b.client.Get(b.base + console.Path + path)
	return b.read(answer, err)
}

// post sends a form, and returns the page to which it leads.
func (b *browser) post(path string, fields ...string) (status int, body string) {
	b.t.Helper()
	form := make(url.Values)
	for i := 0; i+1 < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	answer, err := b.client.PostForm(b.base+console.Path+path, form)
	return b.read(answer, err)
}

func (b *browser) read(answer *http.Response, err error) (status int, body string) {
	b.t.Helper()
	require.NoError(b.t, err)
	defer func() { _ = answer.Body.Close() }()
	content, err := io.ReadAll(answer.Body)
	require.NoError(b.t, err)
	return answer.StatusCode, string(content)
}
