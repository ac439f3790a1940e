package console_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/operating"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
)

// reading is a view with subscribers, one of which has a hostile name.
func reading(now time.Time, more int) operations.View {
	behind := uint64(30)
	emails := operations.SubscriberSummary{
		Overview: inbox.Overview{
			Subscriber: "emails", Subscription: inbox.Subscription{Handler: "totals", Types: []string{"paid", hostileText}}, Copies: []string{"one", hostileText},
			Rate: 12.34, Dead: 1, Waiting: 4, MissedMessages: 2, FilledEvents: 3,
			Lanes: []inbox.Checkpoint{
				{Lane: 0, StreamPosition: inbox.StreamPosition{Sequence: 90, StoredAt: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)}, Idle: time.Second},
				{Lane: 1, StreamPosition: inbox.StreamPosition{Sequence: 70}, Idle: 90 * time.Second},
			},
		},
		MessagesBehind: &behind, Stalled: 90 * time.Second,
	}
	hostile := operations.SubscriberSummary{Overview: inbox.Overview{Subscriber: hostileText, Subscription: inbox.Subscription{Handler: hostileText}}}
	view := operations.View{
		Reading: operations.Reading{At: now, Relay: operations.RelayStatus{Now: now, Sequence: 100}, Subscribers: []operations.SubscriberSummary{hostile, emails}},
		Points:  []operations.Point{{At: now, Lags: map[string]uint64{"emails": 30, "x": 77}, Applied: map[string]float64{"emails": 12}}},
	}
	for n := range more {
		view.Subscribers = append(view.Subscribers, operations.SubscriberSummary{Overview: inbox.Overview{Subscriber: fmt.Sprintf("more-%03d", n)}})
	}
	return view
}

const hostileText = "<script>a/b?\u202e\"'"

// TestPagesOfSubscribers checks what the list and the page of one subscriber show. The console has no port beside the Watcher, so a page that
// asked the database would fail.
func TestPagesOfSubscribers(t *testing.T) {
	b := open(t, console.Options{Watcher: stillWatcher{reading(time.Now(), 0)}})
	status, body := b.get("/subscribers")
	require.Equal(t, http.StatusOK, status)
	for _, text := range []string{
		`href="/console/subscribers/emails"`, "stalled for 1m30s", "totals", ">70<", ">30<", "12.3/s", `href="/console/letters/emails"`, "not begun", `hx-get="/console/subscribers"`,
	} {
		require.Contains(t, body, text)
	}
	requireTame(t, body)
	address := regexp.MustCompile(`href="/console(/subscribers/[^"]*script[^"]*)"`).FindStringSubmatch(body)
	require.NotEmpty(t, address)
	status, body = b.get(address[1])
	require.Equal(t, http.StatusOK, status, "the link of a hostile name leads to its page")
	require.Contains(t, body, "not begun")
	requireTame(t, body)
	require.Contains(t, fieldsOf(body), hostileText)

	status, body = b.get("/subscribers/emails")
	require.Equal(t, http.StatusOK, status)
	for _, text := range []string{
		"<h1>Subscriber emails</h1>", "stalled for 1m30s", "2026-11-29T12:00:00Z", "1m30s ago", "unknown", ">10<", "<li>one</li>", "<li>paid</li>", "1 dead letter", "4 retried or waiting",
		"Messages behind: <b>30</b>", "Applied: <b>12/s</b>", "subscriber-pause", "subscriber-forget", `value="2"`,
	} {
		require.Contains(t, body, text)
	}
	require.NotContains(t, body, "subscriber-lift")
	require.NotContains(t, body, "77")
	requireTame(t, body)
}

func requireTame(t *testing.T, body string) {
	t.Helper()
	require.NotContains(t, body, "<script>a")
	require.NotContains(t, strings.ReplaceAll(body, `value="`+`&lt;script&gt;a/b?`+"\u202e", ""), "\u202e", "except in the value of a field, which nobody sees")
}

// TestListOfManySubscribers checks that a list has at most 100 subscribers, and a link to the next ones.
func TestListOfManySubscribers(t *testing.T) {
	b := open(t, console.Options{Watcher: stillWatcher{reading(time.Now(), 150)}})
	_, body := b.get("/subscribers")
	require.Equal(t, 100, strings.Count(body, `<tr><th scope="row">`))
	next := regexp.MustCompile(`href="/console(/subscribers\?from=[^"]*)"`).FindStringSubmatch(body)
	require.NotEmpty(t, next)
	_, body = b.get(next[1])
	require.Equal(t, 52, strings.Count(body, `<tr><th scope="row">`))
	require.NotContains(t, body, "Show the next")
	_, body = b.get("/subscribers?from=zzz")
	require.Contains(t, body, "There are no more subscribers")

	many := reading(time.Now(), 0)
	many.Subscribers[1].Lanes = make([]inbox.Checkpoint, 1024)
	for n := range many.Subscribers[1].Lanes {
		many.Subscribers[1].Lanes[n].Lane, many.Subscribers[1].Lanes[n].Sequence = n, uint64(5000-n)
		many.Subscribers[1].Copies = append(many.Subscribers[1].Copies, fmt.Sprint("copy", n))
	}
	_, body = open(t, console.Options{Watcher: stillWatcher{many}}).get("/subscribers/emails")
	require.Contains(t, body, "The slowest lanes; 924 more are not shown.")
	require.Contains(t, body, `class="number">1023</th>`)
	require.NotContains(t, body, `class="number">0</th>`)
	require.Contains(t, body, "and 926 more")
}

// TestUnknownSubscriber checks the answer for a subscriber that neither the reading nor the database has, and that a live part says so in its page. It also
// checks the pages before the first reading and in an outage.
func TestUnknownSubscriber(t *testing.T) {
	admin := operating.NewSubscribers(operating.SubscriberPorts{Operator: memory.NewOperator(memory.NewInbox())})
	b := open(t, console.Options{Watcher: stillWatcher{reading(time.Now(), 0)}, Subscribers: admin})
	status, body := b.get("/subscribers/email%3Cb%3E")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, body, "there is no subscriber email&lt;b&gt;; `outboxie subscriber status` lists the subscribers")

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.base+console.Path+"/subscribers/"+url.PathEscape("gone"), nil)
	require.NoError(t, err)
	request.Header.Set("HX-Request", "true")
	status, body = b.read(b.client.Do(request))
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "There is no subscriber gone any more.")
	require.NotContains(t, body, "<h1>")

	for _, page := range []string{"/subscribers", "/subscribers/emails"} {
		_, body = open(t, console.Options{}).get(page)
		require.Contains(t, body, "The first reading is on its way")
		old := reading(time.Now().Add(-time.Minute), 0)
		old.Err = errors.New("no database")
		_, body = open(t, console.Options{Watcher: stillWatcher{old}}).get(page)
		require.Contains(t, body, "The state cannot be read: no database. What is shown is 1m0s old")
		require.Contains(t, body, "stalled")
	}
	_, body = open(t, console.Options{Watcher: stillWatcher{operations.View{Reading: operations.Reading{At: time.Now()}}}}).get("/subscribers")
	require.Contains(t, body, "There are no subscribers.")
}

// TestSubscriberAfterTheReading checks that a page shows a subscriber that began after the newest reading.
func TestSubscriberAfterTheReading(t *testing.T) {
	kept := memory.NewInbox()
	require.NoError(t, kept.CreateLanes(t.Context(), "late", 2, "S", inbox.StreamPosition{}))
	admin := operating.NewSubscribers(operating.SubscriberPorts{Operator: memory.NewOperator(kept)})
	status, body := open(t, console.Options{Watcher: stillWatcher{reading(time.Now(), 0)}, Subscribers: admin}).get("/subscribers/late")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "<h1>Subscriber late</h1>")
}
