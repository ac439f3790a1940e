package pages_test

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// links returns the names of the pages in the navigation.
func (b *browser) links() []string {
	b.t.Helper()
	return evaluate[[]string](b, `[...document.querySelectorAll("nav a")].map(a => a.innerText)`)
}

// showsMatch waits until the text of the page matches.
func (b *browser) showsMatch(pattern string) {
	b.t.Helper()
	text := regexp.MustCompile(pattern)
	require.Eventually(b.t, func() bool { return text.MatchString(evaluate[string](b, "document.body.innerText")) },
		20*time.Second, 50*time.Millisecond, "the page does not match %s", pattern)
}

// TestConsoleOfSeparateProcesses checks the console while the API, the relay and two subscribers are processes of their own. The admin listeners
// of the API and of the relay show the same: who leads and since when, the lag and the rate of each subscriber, and every process. Only where
// the API is served are there orders.
func TestConsoleOfSeparateProcesses(t *testing.T) {
	t.Parallel()
	database, broker := infra.Database(t), infra.Broker(t)
	environment := []string{"DATABASE_URL=" + database, "NATS_URL=" + broker, "OUTBOX_LEASE_TTL=1s"}
	as := func(id string, settings ...string) []string {
		return slices.Concat([]string{"INSTANCE_ID=" + id, "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"}, environment, settings)
	}
	relay := infra.Launch(t, as("relay1", "OUTBOXIE_ROLES=relay"), "serve")
	relay.WaitFor("created the stream")
	api := infra.Launch(t, as("api1", "OUTBOXIE_ROLES=api"), "serve")
	for _, id := range []string{"emails", "billing"} {
		infra.Launch(t, as(id+"-1"), "subscribe", "--id", id).WaitFor("subscribed")
	}
	stop := infra.KeepOrdering(t, 1, func(int) (string, string) { return api.API(), infra.Customer })
	b := open(t)
	b.signIn("http://"+relay.Admin()+"/console", "") // a session of one process is good for the others
	for _, process := range []*infra.Process{relay, api} {
		b.do(chromedp.Navigate("http://" + process.Admin() + "/console"))
		b.showsMatch(`leader\s+relay1, for \d+s \(token 1\)`)
		b.showsMatch(`relay1\s+leads for \d+s \(term 1\)`)
		b.shows("relay1 (term 1)")
		for _, subscriber := range []string{"emails", "billing"} {
			b.showsMatch(subscriber + `: working, \d+ behind, (0\.[1-9]|[1-9]\d*\.\d)/s`)
		}
		for _, seen := range []string{"api1", "relay1", "emails-1", "billing-1"} {
			b.showsMatch(`Connected to the database[\s\S]*\n` + seen + `\b`)
		}
	}
	stop()
	b.shows("relaying")
	b.shows("emails: working, 0 behind")
	b.shows("billing: working, 0 behind")
	require.Contains(t, b.links(), "Orders")
	b.do(chromedp.Navigate("http://" + api.Admin() + "/console/orders"))
	b.shows("Place the order")
	b.do(chromedp.Navigate("http://" + relay.Admin() + "/console/orders"))
	b.shows("This process does not serve the API")
	require.NotContains(t, b.links(), "Orders")
	b.requireCalm()
}
