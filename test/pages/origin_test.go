package pages_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/infra"
)

// foreign is a page that cancels an order in every way in which a browser sends a POST without asking the server first.
const foreign = `<!doctype html><body><form method="post" action="%[1]s" enctype="text/plain"></form><script>
	navigator.sendBeacon("%[1]s")
	fetch("%[1]s", {method: "POST", mode: "no-cors"}).then(() => document.body.append("It was sent."), e => document.body.append("It failed: " + e))
</script></body>`

// TestAPageOfAnotherOriginCancelsNothing checks that the API refuses requests of another origin's page, even if the page is of the same site and
// machine, and accepts those of its own page.
func TestAPageOfAnotherOriginCancelsNothing(t *testing.T) {
	base := api(t)
	placed, err := infra.Place(strings.TrimPrefix(base, "http://"))
	require.NoError(t, err)
	cancel := base + "/orders/" + placed.ID + "/cancel"
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, foreign, cancel)
	}))
	defer page.Close()
	_, port, err := net.SplitHostPort(page.Listener.Addr().String())
	require.NoError(t, err)
	status := func() string {
		t.Helper()
		order, err := infra.Read(strings.TrimPrefix(base, "http://"), placed.ID)
		require.NoError(t, err)
		return order.Status
	}
	b := open(t)
	for _, host := range []string{"127.0.0.1", "localhost"} { // the same site, and another one
		b.do(chromedp.Navigate("http://" + host + ":" + port))
		b.shows("It was sent.")
		require.Equal(t, "created", status(), host)
		evaluate[any](b, "document.forms[0].submit()")
		b.shows(`"code":"cross_origin"`)
		require.Equal(t, "created", status(), host)
	}
	b.do(chromedp.Navigate(base + "/docs"))
	evaluate[any](b, fmt.Sprintf("fetch(%q, {method: 'POST'}).then(() => document.body.append('It was sent.'))", cancel))
	b.shows("It was sent.")
	require.Equal(t, "cancelled", status())
}
