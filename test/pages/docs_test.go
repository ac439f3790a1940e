// Package pages_test tests the API's pages in a real browser.
package pages_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/test/contract"
	"github.com/assylzhan-a/outboxie/test/infra"
)

var screenshots = flag.String("screenshots", "", "folder for what the browser shows")

// browsers are the names under which Chromium is installed.
var browsers = []string{"chromium", "chromium-browser", "google-chrome"}

// browser is one tab, with the errors that it reported and the requests that it sent.
type browser struct {
	context.Context
	t *testing.T

	mu         sync.Mutex
	complaints []string
	requests   []string
}

func open(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range browsers {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" && os.Getenv("CI") == "" {
		t.Skip("there is no Chromium here; continuous integration has one")
	}
	require.NotEmpty(t, path, "no Chromium")
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1400, 1200))...)
	t.Cleanup(cancel)
	tab, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	tab, cancel = context.WithTimeout(tab, time.Minute)
	t.Cleanup(cancel)
	b := &browser{Context: tab, t: t}
	b.do() // opens the tab
	require.NoError(t, chromedp.Listen(tab, b.note))
	return b
}

func (b *browser) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch event := event.(type) {
	case *log.EventEntryAdded: // also what the page's policy forbids
		b.complaints = append(b.complaints, event.Entry.Text)
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, event.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if event.Type == runtime.ConsoleAPICalledTypeError {
			b.complaints = append(b.complaints, string(event.Args[0].Value))
		}
	case *network.EventLoadingFailed:
		b.complaints = append(b.complaints, event.ErrorText)
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, event.Request.Method+" "+event.Request.URL)
	}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b, steps...))
}

// evaluate returns the result of a script.
func evaluate[T any](b *browser, script string) T {
	b.t.Helper()
	result, err := chromedp.Run(b, chromedp.Evaluate[T](script))
	require.NoError(b.t, err)
	return result
}

// inside is a script that returns the text of the page, also in its shadow trees.
const inside = `(function text(node) {
		return [...node.childNodes].map(n => n.nodeType == 3 ? n.data : n.nodeName == "STYLE" ? "" : text(n)).join("")
			+ (node.shadowRoot ? text(node.shadowRoot) : "") + (node.value || "") })(document.body)`

// shows waits until the page says something.
func (b *browser) shows(text string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return strings.Contains(evaluate[string](b, inside), text) },
		20*time.Second, 50*time.Millisecond, "the page does not say %q", text)
}

// lacks checks that the page does not say something.
func (b *browser) lacks(text string) {
	b.t.Helper()
	require.NotContains(b.t, evaluate[string](b, inside), text)
}

// authenticate enters a token where the page asks for it.
func (b *browser) authenticate(token string) {
	b.t.Helper()
	script := fmt.Sprintf(`(function find(node) {
		const field = node.querySelector("input.api-key-input")
		if (field) {
			field.value = %q
			field.closest("form").querySelector("button").click()
			return true
		}
		return [...node.querySelectorAll("*")].some(n => n.shadowRoot && find(n.shadowRoot)) })(document)`, token)
	require.Eventually(b.t, func() bool { return evaluate[bool](b, script) }, 20*time.Second, 50*time.Millisecond, "the page asks for no token")
}

// click clicks the element whose text is exactly text.
func (b *browser) click(text string) {
	b.t.Helper()
	script := fmt.Sprintf(`(function find(node) {
		const found = [...node.querySelectorAll("*")].findLast(n => n.innerText && n.innerText.trim() == %q)
		if (found) { found.click(); return true }
		return [...node.querySelectorAll("*")].some(n => n.shadowRoot && find(n.shadowRoot)) })(document)`, text)
	require.Eventually(b.t, func() bool { return evaluate[bool](b, script) }, 20*time.Second, 50*time.Millisecond, "there is no %q to click", text)
}

func (b *browser) screenshot(name string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	image, err := chromedp.Run(b, chromedp.CaptureScreenshot())
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(*screenshots, name+".png"), image, 0o600))
}

// api serves orders that are kept in memory.
func api(t *testing.T) string {
	t.Helper()
	log := memory.NewLog()
	work := memory.NewUnitOfWork(log)
	newID := func() order.ID { return order.ID(uuid.NewString()) }
	service := ordering.New(ordering.Ports{
		Work: work, Orders: memory.NewOrderReader(work), Encoder: codec.New(nil), Notifier: quiet{},
		Log: memory.NewCursorStore(memory.NewLease(time.Minute), log), Finder: memory.NewStream(),
	}, newID, time.Now)
	server := httpapi.NewAPI(httpapi.Options{Addr: "127.0.0.1:0", Service: service, Logger: slog.New(slog.DiscardHandler)})
	return serve(t, server.Server)
}

// serve runs a server until the test ends, and returns its URL.
func serve(t *testing.T, server *httpapi.Server) string {
	t.Helper()
	require.NoError(t, server.Listen(t.Context()))
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	t.Cleanup(func() {
		require.NoError(t, server.Shutdown(context.Background()))
		require.NoError(t, <-served)
	})
	return "http://" + server.Addr()
}

type quiet struct{}

func (quiet) Notify() {}

// TestDocs checks that the page of the API shows every operation of the API and can place an order, without requests to other hosts and without
// errors.
func TestDocs(t *testing.T) {
	base := api(t)
	b := open(t)
	b.do(chromedp.Navigate(base + "/docs"))
	shown, elsewhere := summaries(t)
	for _, summary := range shown {
		b.shows(summary)
	}
	b.shows("idempotency_key_reused")
	b.lacks(elsewhere[0])
	b.screenshot("docs")

	b.click("Place an order")
	b.shows("REQUEST BODY")
	b.screenshot("place")
	b.click("EXECUTE")
	b.shows("Created (201)")
	b.screenshot("placed")
	b.asked(base, "POST "+base+"/orders")
}

// TestDocsOfTheAdminListener checks that the page of the admin listener shows every operation of that listener, and can call one that needs the
// token, at the address of the page.
func TestDocsOfTheAdminListener(t *testing.T) {
	base := "http://" + deploy(t).instance.Admin()
	b := open(t)
	b.do(chromedp.Navigate(base + "/docs"))
	elsewhere, shown := summaries(t)
	for _, summary := range shown {
		b.shows(summary)
	}
	b.lacks(elsewhere[0])
	b.screenshot("docs-admin")

	b.click("Check that the process is alive")
	b.click("EXECUTE")
	b.shows("OK (200)")
	b.click("Authentication")
	b.authenticate(infra.AdminToken)
	b.click("Show whether the relay publishes, and if not, why")
	b.click("EXECUTE")
	b.shows("oldest_unpublished_at")
	b.asked(base, "GET "+base+"/healthz", "GET "+base+"/outbox/status")
}

// TestDocsOnAPhone checks that the page fits the width of a phone.
func TestDocsOnAPhone(t *testing.T) {
	base := api(t)
	b := open(t)
	b.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile), chromedp.Navigate(base+"/docs"))
	b.shows("Place orders")
	b.screenshot("phone")
	require.LessOrEqual(t, evaluate[int](b, `document.scrollingElement.scrollWidth`), 390, "the page is wider than the phone")
	b.click("Place an order")
	b.shows("REQUEST BODY")
	b.click("EXECUTE")
	b.shows("Created (201)")
	b.screenshot("phone-place")
	require.LessOrEqual(t, evaluate[int](b, `document.scrollingElement.scrollWidth`), 390, "an operation is wider than the phone")
}

// summaries returns the summaries of the operations of the API and of the admin listener.
func summaries(t *testing.T) (api, admin []string) {
	t.Helper()
	doc, err := contract.OpenAPI()
	require.NoError(t, err)
	for _, item := range doc.Paths.Map() {
		for _, operation := range item.Operations() {
			if len(item.Servers) > 0 {
				admin = append(admin, operation.Summary)
			} else {
				api = append(api, operation.Summary)
			}
		}
	}
	require.NotEmpty(t, api)
	require.NotEmpty(t, admin)
	return api, admin
}

// asked checks that the page sent the requests, none to another host, and that the browser reported no error.
func (b *browser) asked(base string, requests ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b.t, b.complaints)
	for _, request := range requests {
		require.Contains(b.t, b.requests, request)
	}
	for _, request := range b.requests {
		_, url, _ := strings.Cut(request, " ")
		require.True(b.t, strings.HasPrefix(url, base+"/") || strings.HasPrefix(url, "data:"), request)
	}
}
