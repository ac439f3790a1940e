package pages_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// sessionUntil gives the browser a session that ends at a time. The instance cannot tell it from a session that it made itself.
func (b *browser) sessionUntil(page string, end time.Time) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.SetCookie, network.SetCookieParams{
			Name: console.SessionCookie, Value: console.NewSession(infra.AdminToken, end), URL: page, Path: console.Path,
		})
		return err
	}))
}

// at waits until the browser has loaded a page.
func (b *browser) at(page string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { // during a navigation, a script may fail
		at, err := chromedp.Run(b, chromedp.Evaluate[string](`document.readyState == "complete" ? location.origin + location.pathname : ""`))
		return err == nil && at == page
	}, 20*time.Second, 50*time.Millisecond, "the browser does not come to %s", page)
}

// signInAgain waits for the sign-in page, signs in, and waits for the page before.
func (b *browser) signInAgain(console, page string) {
	b.t.Helper()
	b.at(console + "/sign-in")
	b.fill("token", infra.AdminToken)
	b.press("Sign in")
	b.at(page)
}

// TestConsoleSessionEnds checks what happens when a session ends: a form changes nothing, and a page that refreshes leads to the sign-in page by
// itself, whether its connection is cut or not. After the sign-in one is back.
func TestConsoleSessionEnds(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.subscribe("emails")
	page := d.console + "/subscribers/emails"
	b := open(t)
	b.signIn(d.console, "/subscribers/emails")
	b.shows("working")

	b.press("Pause …") // this page has nothing that refreshes
	b.shows("Do nothing")
	b.sessionUntil(page, time.Now().Add(-time.Second))
	b.press("Pause")
	b.shows("Nothing was done, because your session has ended.")
	d.waitFor("SELECT count(*) FROM subscribers WHERE paused_at IS NOT NULL", 0)
	b.signInAgain(d.console, page)
	b.shows("working")
	b.requireCalm()

	b.sessionUntil(page, time.Now().Add(-time.Second)) // the page asks for its live part with it
	b.signInAgain(d.console, page)
	b.shows("working")

	b.sessionUntil(page, time.Now().Add(5*time.Second)) // then the instance cuts the connection of a page that waits
	b.do(chromedp.Navigate(page))
	b.signInAgain(d.console, page)
	b.shows("working")
	for _, complaint := range b.taken() {
		require.True(t, strings.Contains(complaint, "401") || strings.Contains(complaint, "ERR_"), complaint)
	}
	b.press("Pause …")
	b.press("Pause")
	b.shows("paused for")
	d.waitFor("SELECT count(*) FROM subscribers WHERE paused_at IS NOT NULL", 1)
}
