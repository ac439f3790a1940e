package httpapi_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

func TestListShowsAPage(t *testing.T) {
	s := start(t)
	require.JSONEq(t, `{"orders":[]}`, s.send("GET", "/orders", "").body)
	require.Equal(t, orders.Filter{Limit: 50}, s.shop.filter)

	placed, err := order.Place(firstID, customer, value.NewMoney(10050, "USD"), noon)
	require.NoError(t, err)
	s.shop.page = orders.Page{Orders: []order.Snapshot{placed.Snapshot()}, Next: &orders.PageCursor{CreatedAt: noon, ID: firstID}}
	got := s.send("GET", "/orders", "")
	require.Equal(t, http.StatusOK, got.status)
	require.JSONEq(t, `{"orders":[`+orderJSON("100.50", "USD", "created", 1)+`],"next":"AAZfhqd1QgAAAAAAAABwAIAAAAAAAAAB"}`, got.body)

	var page httpapi.OrderPage
	require.NoError(t, json.Unmarshal([]byte(got.body), &page))
	s.send("GET", "/orders?cursor="+*page.Next, "")
	require.Equal(t, orders.PageCursor{CreatedAt: noon.UTC(), ID: firstID}, *s.shop.filter.After)
}

func TestListFilters(t *testing.T) {
	s := start(t)
	got := s.send("GET", "/orders?limit=200&status=paid&customer_id="+strings.ToUpper(customer)+
		"&created_from=2026-11-25T08:00:00.123456789%2B02:00&created_before=9999-12-31T23:59:59Z", "")
	require.Equal(t, http.StatusOK, got.status, got.body)
	from := s.shop.filter.CreatedFrom
	require.True(t, from.Equal(time.Date(2026, 11, 25, 6, 0, 0, 123456789, time.UTC)), from)
	s.shop.filter.CreatedFrom = time.Time{}
	require.Equal(t, orders.Filter{
		Limit: 200, Status: order.StatusPaid, Customer: customer, CreatedBefore: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}, s.shop.filter)
}

func TestWrongFiltersAreRefused(t *testing.T) {
	s := start(t)
	const known = "is not known; known are customer_id, status, created_from, created_before, cursor, limit"
	const when = "must be a time such as 2026-11-25T08:00:00Z"
	const number, cursor = "must be a whole number from 1 to 200", "must be the next of an earlier page"
	all := `[{"parameter":"x","reason":"` + known + `"},
		{"parameter":"created_from","reason":"` + when + `"},{"parameter":"limit","reason":"` + number + `"},
		{"parameter":"status","reason":"must be created, paid, shipped or cancelled"}]`
	for _, c := range []struct{ query, errors string }{
		{"client_id=" + customer, parameter("client_id", known)},
		{"status=lost", parameter("status", "must be created, paid, shipped or cancelled")},
		{"status=", parameter("status", "must be created, paid, shipped or cancelled")},
		{"limit=0", parameter("limit", number)},
		{"limit=201", parameter("limit", number)},
		{"limit=", parameter("limit", number)},
		{"limit=1e1", parameter("limit", number)},
		{"limit=99999999999999999999", parameter("limit", number)},
		{"created_from=yesterday", parameter("created_from", when)},
		{"created_from=2026-11-25T08:00:00+02:00", parameter("created_from", when+"; a + in a query means a space, so send %2B")},
		{"created_from=2026-11-25", parameter("created_from", when)},
		{"created_before=2026-11-25T08:00:00", parameter("created_before", when)},
		{"created_before=0000-12-31T23:59:59Z", parameter("created_before", when)},
		{"created_before=9999-12-31T23:59:59-00:01", parameter("created_before", when)},
		{"cursor=x", parameter("cursor", cursor)},
		{"cursor=AAZfhqd1QgAAAAAAAABwAIAAAAAAAAA", parameter("cursor", cursor)},
		{"cursor=AAZfhqd1QgAAAAAAAABwAIAAAAAAAAAB%3D", parameter("cursor", cursor)},
		{"cursor=f_____________________________w", parameter("cursor", cursor)},
		{"cursor=________________________________", ""}, // a time before 1970
		{"cursor=f___" + strings.Repeat("A", 28), parameter("cursor", cursor)},
		{"x=1&limit=x&status=y&created_from=z", all},
	} {
		got := s.send("GET", "/orders?"+c.query, "")
		if c.errors == "" {
			require.Equal(t, http.StatusOK, got.status, c.query)
			continue
		}
		requireProblem(t, got, 400, "invalid_request", wrongFields, c.errors)
	}
	requireProblem(t, s.send("GET", "/orders?customer_id=7", ""), 400, "invalid_id", "customer_id "+wrongUUID, parameter("customer_id", wrongUUID))
	requireProblem(t, s.send("GET", "/orders?"+strings.Repeat("é", 100)+"=1", ""), 400, "invalid_request", wrongFields,
		parameter(strings.Repeat("é", 32)+"…", known))
}

// FuzzCursor checks that any text is either refused, or read as the cursor of a page and written back with the same meaning.
func FuzzCursor(f *testing.F) {
	f.Add("AAZfhqd1QgAAAAAAAABwAIAAAAAAAAAB")
	f.Add("AAZfhqd1QgAAAAAAAABwAIAAAAAAAAAB\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		place, ok := httpapi.ReadCursor(text)
		if ok {
			require.Regexp(t, "^[A-Za-z0-9_-]{32}$", text)
			again, ok := httpapi.ReadCursor(httpapi.CursorOf(place))
			require.True(t, ok)
			require.Equal(t, place, again)
			_, err := order.ParseID(string(place.ID))
			require.NoError(t, err)
			require.False(t, place.CreatedAt.Year() < 1 || place.CreatedAt.Year() > 9999)
		}
	})
}

func TestEventsShowWhereTheyStand(t *testing.T) {
	s := start(t)
	path := s.place("1").header.Get("Location") + "/events"
	require.JSONEq(t, `{"events":[]}`, s.send("GET", path, "").body)
	entry := func(version int64) outbox.Entry {
		return outbox.Entry{Position: outbox.Position(40 + version), RecordedAt: noon, Message: outbox.Message{
			ID: customer, Type: "outboxie.order.created.v1", Version: version,
		}}
	}
	traced := entry(1)
	traced.Headers = map[string]string{"traceparent": "00-" + trace + "-00f067aa0ba902b7-01"}
	s.shop.events = []orders.Event{
		{Entry: traced, Delivery: orders.Published, PublishedAt: noon.Add(1250 * time.Millisecond)},
		{Entry: entry(2), Delivery: orders.Published, PublishedAt: noon.Add(-time.Second)},
		{Entry: entry(3), Delivery: orders.Parked, Reason: "too large"},
		{Entry: entry(4), Delivery: orders.Pending},
		{Entry: entry(5), Delivery: orders.Passed},
		{Entry: entry(6), Delivery: orders.Discarded, Reason: "too large"},
	}
	got := s.send("GET", path, "")
	require.Equal(t, http.StatusOK, got.status)
	const about = `"type":"outboxie.order.created.v1","event_id":"` + customer + `","recorded_at":"2026-11-05T12:30:00Z"`
	require.JSONEq(t, `{"events":[
		{`+about+`,"version":1,"position":41,"delivery":"published","published_at":"2026-11-05T12:30:01.25Z","lag_seconds":1.25,"trace_id":"`+trace+`"},
		{`+about+`,"version":2,"position":42,"delivery":"published","published_at":"2026-11-05T12:29:59Z","lag_seconds":0},
		{`+about+`,"version":3,"position":43,"delivery":"parked","reason":"too large"},
		{`+about+`,"version":4,"position":44,"delivery":"pending"},
		{`+about+`,"version":5,"position":45,"delivery":"passed"},
		{`+about+`,"version":6,"position":46,"delivery":"discarded","reason":"too large"}]}`, got.body)

	requireProblem(t, s.send("GET", "/orders/"+customer+"/events", ""), 404, "order_not_found", "there is no such order", "")
	requireProblem(t, s.send("GET", "/orders/"+url.PathEscape("a b")+"/events", ""), 400, "invalid_id", "id "+wrongUUID, parameter("id", wrongUUID))
}
