package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

func TestChangesSayWhatIsKnownAboutThem(t *testing.T) {
	s := start(t)
	said := strings.NewReplacer(`}`, `,"payment_reference":"P-1"}`).Replace
	paid := orderJSON("1.00", "USD", "paid", 2)
	path := s.place("1").header.Get("Location")
	got := s.send("POST", path+"/pay", `{"reference":"P-1"}`)
	require.JSONEq(t, said(paid), got.body)
	got = s.send("POST", path+"/ship", `{"tracking":"1Z 999","carrier":"UPS"}`)
	require.JSONEq(t, strings.Replace(said(orderJSON("1.00", "USD", "shipped", 3)), `}`, `,"carrier":"UPS","tracking":"1Z 999"}`, 1), got.body)
	got = s.send("POST", path+"/pay", `{"reference":"P-1"}`)
	require.JSONEq(t, said(paid), got.body, "as the first time")
	require.Equal(t, `"2"`, got.header.Get("ETag"))

	second := s.place("1").header.Get("Location")
	got = s.send("POST", second+"/cancel", `{"reason":"слишком\u0020поздно"}`)
	require.Contains(t, got.body, `"cancel_reason":"слишком поздно"`)
	requireProblem(t, s.send("POST", second+"/cancel", ""), 409, "order_change_differs",
		"the order was cancelled before, for another reason or none", "")
	requireProblem(t, s.send("POST", path+"/ship", ""), 409, "order_change_differs",
		"the order was shipped before, with another carrier or tracking number or none", "")
	requireProblem(t, s.send("POST", path+"/pay", `{"reference":"P-2"}`), 409, "order_change_differs",
		"the order was paid before, with another reference or none", "")
}

const (
	wrongText = "must be 1 to 200 characters, without line breaks and other control characters"
	wrongTag  = `must be the ETag of an order, such as \"1\", several of them with commas between, or *`
)

func TestWrongChangesAreRefused(t *testing.T) {
	s := start(t)
	path := s.place("1").header.Get("Location")
	for _, c := range []struct{ verb, body, code, detail, errors string }{
		{"pay", `{"when":"now"}`, "", "", field("when", "is not known; known are reference")},
		{"pay", `{"reference":null}`, "", "", field("reference", "must be a string, not null")},
		{"pay", `{"reference":7}`, "", "", field("reference", "must be a string, not a number")},
		{"pay", `{"reference":""}`, "invalid_text", "reference " + wrongText, field("reference", wrongText)},
		{"pay", `{"reference":"a\nb"}`, "invalid_text", "reference " + wrongText, field("reference", wrongText)},
		{"pay", `{"reference":"\u0000"}`, "invalid_text", "reference " + wrongText, field("reference", wrongText)},
		{"pay", `{"reference":"` + strings.Repeat("é", 201) + `"}`, "invalid_text", "reference " + wrongText, field("reference", wrongText)},
		{"ship", `{"carrier":[],"tracking":"","reference":"x"}`, "", "", `[
			{"pointer":"/reference","reason":"is not known; known are carrier, tracking"},
			{"pointer":"/carrier","reason":"must be a string, not an array"},
			{"pointer":"/tracking","reason":"` + wrongText + `"}]`},
		{"cancel", `{"reason":"x","reason":"y"}`, "", "", field("reason", "is given more than once")},
		{"cancel", `{"Reason":"x"}`, "", "", field("Reason", "is not known; known are reason")},
	} {
		t.Run(c.verb+" "+c.body, func(t *testing.T) {
			if c.code == "" {
				c.code, c.detail = "invalid_request", wrongFields
			}
			requireProblem(t, s.send("POST", path+"/"+c.verb, c.body), 400, c.code, c.detail, c.errors)
			require.Equal(t, c.body != `{"reason":"x","reason":"y"}`, contractRefuses(t, path+"/"+c.verb, c.body), "what the contract says")
		})
	}
	requireProblem(t, s.send("POST", path+"/pay", `[]`), 400, "malformed_body", "the body must be a JSON object, not an array", "")
	requireProblem(t, s.send("POST", path+"/pay", `x`, "Content-Type: text/plain"), 415, "unsupported_media_type",
		"the body must be sent as application/json in UTF-8", "")

	got := s.send("POST", "/orders/42/ship?x=1&x=2", `{"a":1}`, "If-Match: 1", "Idempotency-Key"+": a b")
	requireProblem(t, got, 400, "invalid_request", wrongFields, parameter("x", "is given more than once"))
	got = s.send("POST", "/orders/42/ship", `{"a":1}`, "If-Match: 1", "Idempotency-Key"+": a b")
	requireProblem(t, got, 400, "invalid_request", wrongFields, `[
		{"pointer":"/a","reason":"is not known; known are carrier, tracking"},
		{"parameter":"id","reason":"`+wrongUUID+`"},
		{"parameter":"Idempotency-Key","reason":"must be 1 to 255 visible ASCII characters, such as a UUID"},
		{"parameter":"If-Match","reason":"`+wrongTag+`"}]`)
	require.Empty(t, s.shop.guards, "the service was not asked")
}

func TestPreconditionsReachTheService(t *testing.T) {
	s := start(t)
	path := s.place("1").header.Get("Location")
	for header, want := range map[string][]int64{
		"":                                nil,
		"*":                               nil,
		` * `:                             nil,
		`"1"`:                             {1},
		`"1", "2" ,"9223372036854775807"`: {1, 2, 9223372036854775807},
		`W/"1"`:                           {},
		`"01", "+1", "", "x", "1.0"`:      {},
		`"-1"`:                            {-1},
		`W/"1","2"`:                       {2},
	} {
		for _, verb := range []string{"pay", "ship", "cancel"} {
			s.send("POST", path+"/"+verb, "", "If-Match: "+header, "Idempotency-Key"+": k-"+verb)
			require.Equal(t, orders.Precondition{Key: orders.Key("k-" + verb), AllowedVersions: want}, s.shop.guards[len(s.shop.guards)-1], header)
		}
	}
	asked := len(s.shop.guards)
	for _, header := range []string{"1", `"1`, `"1" "2"`, `"1",`, `w/"1"`, `*, "1"`, `"a"b"`, `""x`} {
		requireProblem(t, s.sendLines(path+"/pay", "", "If-Match", header), 400, "invalid_request", wrongFields,
			`[{"parameter":"If-Match","reason":"`+wrongTag+`"}]`)
	}
	requireProblem(t, s.sendLines(path+"/pay", "", "If-Match", `"1"`, `"1"`), 400, "invalid_request", wrongFields,
		parameter("If-Match", "is given more than once"))
	require.Len(t, s.shop.guards, asked)
}

func TestAStaleChangeIsRefused(t *testing.T) {
	s := start(t)
	s.shop.instead = func(context.Context) error { return orders.ErrOrderVersion.With("the order is at version 2") }
	for _, verb := range []string{"pay", "ship", "cancel"} {
		requireProblem(t, s.send("POST", "/orders/"+firstID+"/"+verb, ""), 412, "order_version", "the order is at version 2", "")
	}
}

func TestLargeHeadersAreRefused(t *testing.T) {
	s := start(t)
	got := s.send("GET", "/orders/"+firstID, "", "X: "+strings.Repeat("x", 16<<10))
	requireProblem(t, got, http.StatusRequestHeaderFieldsTooLarge, "headers_too_large", "the request's headers are larger than 16 KiB", "")
	got = s.send("GET", "/orders?cursor="+strings.Repeat("x", 16<<10), "")
	requireProblem(t, got, http.StatusRequestHeaderFieldsTooLarge, "headers_too_large", "the request's headers are larger than 16 KiB", "")
	got = s.send("GET", "/orders/"+firstID, "", "X: "+strings.Repeat("x", 15<<10))
	require.Equal(t, http.StatusNotFound, got.status)
}

func TestUnreadableQueriesAreRefused(t *testing.T) {
	s := start(t)
	for _, query := range []string{"%zz", "a=%", "a;b=1"} {
		requireProblem(t, s.send("GET", "/orders?"+query, ""), 400, "invalid_request", "the query cannot be read", "")
	}
	requireProblem(t, s.send("GET", "/orders?limit=1&b=&limit=1&b=", ""), 400, "invalid_request", wrongFields, fmt.Sprintf(`[%s,%s]`,
		`{"parameter":"b","reason":"is given more than once"}`, `{"parameter":"limit","reason":"is given more than once"}`))
}
