package pages_test

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// pagesOf are the console's pages, with an order, a subscriber, a parked event and a dead letter behind them.
func pagesOf(d *deployment) []string {
	return []string{
		"", "/orders", "/orders/" + d.order, "/events", "/events/1", "/events/1?payload=1", "/parked", "/letters", "/letters/emails", "/halt", "/subscribers",
		"/subscribers/emails", "/settings", "/nothing",
	}
}

// finding is what axe found on a page.
type finding struct {
	ID, Impact, Help string
	Nodes            []struct{ HTML, FailureSummary string }
}

// prefer lets the browser prefer a color scheme.
func prefer(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}

// TestConsoleIsAccessible checks every page in both color schemes with axe-core: there is no serious problem. It also checks that no page is
// wider than a phone, and that no page reports an error or breaks its policy.
func TestConsoleIsAccessible(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe.min.js")
	require.NoError(t, err)
	d := deployInTrouble(t)
	b := open(t)
	b.signIn(d.console, "/sign-in")
	for _, scheme := range []string{"light", "dark"} {
		b.do(prefer(scheme))
		for _, path := range pagesOf(d) {
			b.do(chromedp.EmulateViewport(1400, 1200), chromedp.Navigate(d.console+path))
			evaluate[any](b, string(axe)+"; null")
			found, err := chromedp.Run(b, chromedp.Evaluate[[]finding]("axe.run().then(r => r.violations)", chromedp.EvalAwaitPromise))
			require.NoError(t, err)
			found = slices.DeleteFunc(found, func(f finding) bool { return f.Impact != "serious" && f.Impact != "critical" })
			require.Empty(t, found, "%s, %s", path, scheme)
			b.do(chromedp.EmulateViewport(390, 800))
			require.LessOrEqual(t, evaluate[int](b, "document.documentElement.scrollWidth"), 390, "%s is wider than a phone", path)
		}
	}
	for _, complaint := range b.taken() {
		require.Contains(t, complaint, "404", "of the page that does not exist")
	}
}

// TestConsoleForAReader checks in a browser that somebody who signs in with the read token sees pages that refresh by themselves, and finds no form
// that changes something. The pages have no serious problem of accessibility, fit on a phone, and report no error.
func TestConsoleForAReader(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile("testdata/axe.min.js")
	require.NoError(t, err)
	const readToken = "may-only-read-and-nothing-else"
	d := deploy(t, "ADMIN_READ_TOKEN="+readToken)
	d.subscribe("emails")
	b := open(t)
	b.do(chromedp.Navigate(d.console + "/subscribers/emails"))
	b.shows("With the token in ADMIN_READ_TOKEN you may only read.")
	b.fill("token", readToken)
	b.press("Sign in")
	b.shows("working")
	d.sql("UPDATE subscribers SET paused_at = now() WHERE subscriber = 'emails'")
	b.shows("paused for")
	for _, path := range []string{"", "/orders", "/parked", "/letters/emails", "/halt", "/subscribers/emails"} {
		b.do(chromedp.EmulateViewport(1400, 1200), chromedp.Navigate(d.console+path))
		b.shows("You are signed in to read only")
		require.Zero(t, evaluate[int](b, `document.querySelectorAll("main form[method=post]").length`), path)
		evaluate[any](b, string(axe)+"; null")
		found, err := chromedp.Run(b, chromedp.Evaluate[[]finding]("axe.run().then(r => r.violations)", chromedp.EvalAwaitPromise))
		require.NoError(t, err)
		found = slices.DeleteFunc(found, func(f finding) bool { return f.Impact != "serious" && f.Impact != "critical" })
		require.Empty(t, found, path)
		b.do(chromedp.EmulateViewport(390, 800))
		require.LessOrEqual(t, evaluate[int](b, "document.documentElement.scrollWidth"), 390, path)
	}
	b.requireCalm()
}
