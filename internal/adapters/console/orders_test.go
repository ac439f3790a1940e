package console_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// TestPlaceOrder checks that the form of the list places an order with one click, and that a form that is sent twice makes one order.
func TestPlaceOrder(t *testing.T) {
	s := openShop(t)
	status, form := s.get("/orders")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, form, "There are no such orders")
	key, buyer := field(t, form, "key"), field(t, form, "customer_id")
	require.NoError(t, uuid.Validate(buyer))
	for range 2 {
		status, body := s.post("/orders", "key", key, "customer_id", buyer, "amount", "100.5", "currency", "usd")
		require.Equal(t, http.StatusOK, status, body)
		require.Contains(t, body, "The order is placed.")
		require.Contains(t, body, "100.50 USD")
	}
	page, err := s.List(t.Context(), order.Anyone(), orders.Filter{Limit: 10})
	require.NoError(t, err)
	require.Len(t, page.Orders, 1)
	_, next := s.get("/orders")
	require.Contains(t, next, "/console/orders/"+string(page.Orders[0].ID))
	require.NotEqual(t, key, field(t, next, "key"))
	require.NotEqual(t, buyer, field(t, next, "customer_id"))

	status, body := s.post("/orders", "key", key, "customer_id", buyer, "amount", "7", "currency", "USD")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "idempotency key was used for another request")
}

// TestPlaceOrderRefused checks that bad input is named, and that nothing is placed.
func TestPlaceOrderRefused(t *testing.T) {
	s := openShop(t)
	key := uuid.NewString()
	for want, fields := range map[string][]string{
		"customer_id must be a UUID":                   {"key", key, "customer_id", "<b>", "amount", "1", "currency", "USD"},
		"amount must be a decimal number":              {"key", key, "customer_id", customer, "amount", "ten", "currency", "USD"},
		"amount must be greater than zero":             {"key", key, "customer_id", customer, "amount", "0", "currency", "USD"},
		"amount has more decimals than JPY has":        {"key", key, "customer_id", customer, "amount", "1.5", "currency", "JPY"},
		"currency must be an ISO 4217 code":            {"key", key, "customer_id", customer, "amount", "1", "currency", "XYZ"},
		"the form has no valid key":                    {"key", "\x00", "customer_id", customer, "amount", "1", "currency", "USD"},
		"amount is too large: the largest is 10000000": {"key", key, "customer_id", customer, "amount", "1e15", "currency", "USD"},
	} {
		status, body := s.post("/orders", fields...)
		require.Equal(t, http.StatusBadRequest, status, want)
		require.Contains(t, body, want)
	}
	require.Empty(t, s.log.Committed())
}

// TestListOrders checks the filters, and that links lead through all pages with the filter.
func TestListOrders(t *testing.T) {
	s := openShop(t)
	first := s.place(t, "550e8400-e29b-41d4-a716-44665544ffff", 700)
	for range 51 {
		s.place(t, customer, 10050)
	}
	paid := s.place(t, customer, 999)
	_, err := s.Pay(t.Context(), order.Anyone(), paid.ID, "", orders.Precondition{})
	require.NoError(t, err)
	rows := func(query string) (ids []string, body string) {
		status, body := s.get("/orders" + query)
		require.Equal(t, http.StatusOK, status, body)
		for _, found := range regexp.MustCompile(`href="/console/orders/([0-9a-f-]{36})"`).FindAllStringSubmatch(body, -1) {
			ids = append(ids, found[1])
		}
		return ids, body
	}
	ids, body := rows("")
	require.Len(t, ids, 50)
	require.Equal(t, string(paid.ID), ids[0])
	require.NotContains(t, body, "First page")

	ids, body = rows("?customer_id=" + customer)
	require.Len(t, ids, 50)
	next := regexp.MustCompile(`href="/console(/orders\?[^"]*)" rel="next"`).FindStringSubmatch(body)
	require.NotNil(t, next)
	require.Contains(t, next[1], "customer_id="+customer)
	rest, body := rows(strings.TrimPrefix(strings.ReplaceAll(next[1], "&amp;", "&"), "/orders"))
	require.Len(t, rest, 2)
	require.NotContains(t, rest, ids[49])
	require.NotContains(t, body, `rel="next"`)
	require.Contains(t, body, "First page")

	ids, _ = rows("?status=paid&customer_id=&created_from=")
	require.Equal(t, []string{string(paid.ID)}, ids)
	until := first.CreatedAt.Add(time.Microsecond).Format(time.RFC3339Nano)
	ids, body = rows("?created_before=" + url.QueryEscape(until))
	require.Equal(t, []string{string(first.ID)}, ids)
	require.Contains(t, body, `name="created_before" value="`+first.CreatedAt.Format("2006-01-02T15:04"))
	ids, _ = rows("?created_from=2999-01-01T00:00")
	require.Empty(t, ids)
}

// TestListOrdersRefused checks that a bad parameter is named.
func TestListOrdersRefused(t *testing.T) {
	s := openShop(t)
	for query, want := range map[string]string{
		"customer_id=7":                                   "customer_id must be a UUID",
		"status=lost":                                     "status must be created, paid, shipped or cancelled",
		"created_from=yesterday":                          "created_from must be a time",
		"created_before=0000-01-01T00:00":                 "created_before must be a time",
		"cursor=AAAA":                                     "cursor must be the one of a link",
		"cursor=" + strings.Repeat("x", 5000):             "cursor must be the one of a link",
		"cursor=OTIyMzM3MjAzNjg1NDc3NTgwNyA1NTBlODQwMC1l": "cursor must be the one of a link",
	} {
		status, body := s.get("/orders?" + query)
		require.Equal(t, http.StatusBadRequest, status, query)
		require.Contains(t, body, want)
	}
	for path, status := range map[string]int{"/orders/7": http.StatusBadRequest, "/orders/" + customer: http.StatusNotFound} {
		got, _ := s.get(path)
		require.Equal(t, status, got)
	}
}

// TestChangeOrder checks the whole life of an order through the buttons that its page has.
func TestChangeOrder(t *testing.T) {
	s := openShop(t)
	id := s.place(t, customer, 10050).ID
	path := "/orders/" + string(id)
	buttons := func(body string) (names []string) {
		for _, found := range regexp.MustCompile(`>(Pay|Ship|Cancel) the order<`).FindAllStringSubmatch(body, -1) {
			names = append(names, found[1])
		}
		return names
	}
	body := s.shown(t, id)
	require.Equal(t, []string{"Pay", "Cancel"}, buttons(body))
	for range 2 {
		status, body := s.post(path+"/pay", "version", field(t, body, "version"), "reference", "<i>P-1</i>")
		require.Equal(t, http.StatusOK, status, body)
		require.Contains(t, body, "The order is paid.")
		require.Contains(t, body, "&lt;i&gt;P-1&lt;/i&gt;")
		require.Equal(t, []string{"Ship", "Cancel"}, buttons(body))
	}
	status, body := s.post(path+"/cancel", "version", "1", "reason", "")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "nothing was done, because the order has changed since its page was shown")
	back := `<a href="/console` + path + `">To the page before</a>`
	require.Contains(t, body, back)
	status, body = s.post(path+"/ship", "version", "2", "carrier", "UPS", "tracking", "")
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, "The order is shipped.")
	require.Contains(t, body, "<td>UPS</td>")
	require.Empty(t, buttons(body))
	status, body = s.post(path+"/cancel", "version", "3")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, back)

	for want, fields := range map[string][]string{
		"which version":          {"version", "x"},
		"must be 1 to 200":       {"version", "3", "reason", strings.Repeat("x", 201)},
		"does not say for which": {},
	} {
		status, body := s.post(path+"/cancel", fields...)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, body, want)
		require.Contains(t, body, back)
	}
	other := s.place(t, customer, 1).ID
	status, body = s.post("/orders/"+string(other)+"/cancel", "version", "1", "reason", "too late")
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, "The order is cancelled.")
	require.Contains(t, body, "too late")
	require.Empty(t, buttons(body))
}

// TestJourney checks the way of an order's event: fresh, stored, applied, dead and not wanted.
func TestJourney(t *testing.T) {
	s := openShop(t)
	placed := s.place(t, customer, 10050)
	body := s.shown(t, placed.ID)
	require.Contains(t, body, `<ol class="timeline">`)
	require.Contains(t, body, "committed at "+time.Now().UTC().Format("2006-01-02"))
	require.Contains(t, body, "waits for the relay")
	require.Contains(t, body, "no subscriber of this database has begun")
	require.Contains(t, body, `href="http://jaeger:16686/trace/`+traceID+`"`)

	other := s.place(t, customer, 1)
	entries := s.publish(t)
	s.subscribe(t, "billing", orders.TypeCreated)
	s.subscribe(t, "<b>/?0", orders.TypeCreated)
	s.subscribe(t, "shipping", orders.TypePaid)
	s.subscribe(t, "totals", orders.TypeCreated)
	s.handle(t, "billing", nil, entries...)
	s.handle(t, "<b>/?0", errors.New("no <stock>"), entries...)
	body = s.shown(t, other.ID)
	require.Regexp(t, `class="done">stored in the stream at sequence 2 <span class="after">\+[0-9.]+ ms</span>`, body)
	require.Regexp(t, `class="done">billing: took effect <span class="after">\+[0-9.]+ m?s</span>`, body)
	require.Contains(t, body, "&lt;b&gt;/?0: dead: no &lt;stock&gt;")
	require.Contains(t, body, `href="/console/letters/%3Cb%3E%2F%3F0"`)
	require.Contains(t, body, "shipping: does not want events of this type")
	require.Contains(t, body, "totals: no effect yet")
	require.NotContains(t, body, "<stock>")

	require.NoError(t, s.inbox.Discard(t.Context(), "<b>/?0", entries[0].ID))
	require.NoError(t, s.inbox.Retry(t.Context(), "<b>/?0", entries[1].ID))
	third := s.place(t, customer, 2)
	body = s.shown(t, third.ID)
	require.Contains(t, body, "waits for the relay", "the first of these orders is cached, this one is not")
	time.Sleep(time.Second)
	require.Contains(t, s.shown(t, placed.ID), "discarded by an operator: no &lt;stock&gt;")
	require.Contains(t, s.shown(t, other.ID), "is tried again: no &lt;stock&gt;")
}

// TestJourneyOfParked checks that a parked event leads to the parking lot, and that a gone event is not said to wait.
func TestJourneyOfParked(t *testing.T) {
	s := openShop(t)
	placed := s.place(t, customer, 10050)
	term, err := memory.NewElector(s.lease, "leader").Acquire(t.Context(), 0)
	require.NoError(t, err)
	entry := s.log.Committed()[0]
	meta := relay.MessageMeta{Own: true, Progress: entry.Progress(), Parked: "too <large>"}
	parking := memory.NewParking(s.cursors)
	_, err = parking.Reconcile(t.Context(), relay.WriteFence{Token: term.Token}, meta, 1, true)
	require.NoError(t, err)
	body := s.shown(t, placed.ID)
	require.Contains(t, body, `class="bad">parked: too &lt;large&gt; <a href="/console/parked">`)

	require.NoError(t, parking.Discard(t.Context(), entry.Position))
	time.Sleep(time.Second)
	require.Contains(t, s.shown(t, placed.ID), "discarded by an operator; it was parked: too &lt;large&gt;")
}

// noEffects is an EffectReader of a process that may not read the tables of subscribers.
type noEffects struct{}

// Effects fails.
func (noEffects) Effects(context.Context, []string) ([]operations.Effect, error) {
	return nil, errors.New("permission denied for table <inbox>")
}

// TestJourneyWithoutEffects checks that an order is shown even if the tables of subscribers cannot be read.
func TestJourneyWithoutEffects(t *testing.T) {
	s := openShop(t)
	placed := s.place(t, customer, 10050)
	status, body := open(t, console.Options{Orders: s, Effects: noEffects{}}).get("/orders/" + string(placed.ID))
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "What subscribers did cannot be read: permission denied for table &lt;inbox&gt;")
	require.Contains(t, body, "waits for the relay")
	require.NotContains(t, body, "no subscriber")
	require.NotContains(t, body, "See the trace")
}

// TestLiveOrder checks that the live part has no forms, whose texts would be lost, and says that the page is out of date.
func TestLiveOrder(t *testing.T) {
	s := openShop(t)
	id := s.place(t, customer, 10050).ID
	whole := s.shown(t, id)
	require.Contains(t, whole, `hx-get="/console/orders/`+string(id)+`?seen=1" hx-trigger="reading from:body"`)
	part := s.live(t, "/orders/"+string(id)+"?seen=1")
	require.NotContains(t, part, "<form")
	require.NotContains(t, part, "has changed since")
	_, err := s.Pay(t.Context(), order.Anyone(), id, "", orders.Precondition{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(s.live(t, "/orders/"+string(id)+"?seen=1"), "has changed since") }, 5*time.Second, 100*time.Millisecond)
}

// TestOrderReadsAreShared checks that many viewers of an order cost one read a second, also if all of them ask at once, and that the cache
// holds a bounded number of orders.
func TestOrderReadsAreShared(t *testing.T) {
	s := openShop(t)
	id := s.place(t, customer, 10050).ID
	s.slow = make(chan struct{})
	var viewers sync.WaitGroup
	for range 20 {
		viewers.Go(func() { s.live(t, "/orders/"+string(id)) })
	}
	require.Eventually(t, func() bool { return s.reads.Load() > 0 }, 5*time.Second, time.Millisecond)
	time.Sleep(50 * time.Millisecond)
	close(s.slow)
	viewers.Wait()
	for range 20 {
		s.live(t, "/orders/"+string(id))
	}
	require.LessOrEqual(t, s.reads.Load(), int64(2), "the second one only if this machine is slow")
	time.Sleep(time.Second)
	before := s.reads.Load()
	s.live(t, "/orders/"+string(id))
	require.Equal(t, before+1, s.reads.Load())

	for range 150 { // a missing order is kept too
		_, _ = s.get("/orders/" + uuid.NewString())
	}
	s.live(t, "/orders/"+string(id))
	require.GreaterOrEqual(t, s.reads.Load(), before+151)
}

// TestNoOrders checks a process that does not serve the API.
func TestNoOrders(t *testing.T) {
	b := open(t, console.Options{})
	status, body := b.get("/orders")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "This process does not serve the API")
	for _, path := range []string{"/orders", "/orders/" + customer + "/pay"} {
		status, body = b.post(path, "version", "1")
		require.Equal(t, http.StatusNotFound, status)
		require.Contains(t, body, "this process does not serve the API")
	}
	status, _ = b.get("/orders/" + customer)
	require.Equal(t, http.StatusNotFound, status)
}
