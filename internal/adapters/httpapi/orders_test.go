package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

func orderJSON(amount, currency, status string, version int) string {
	return fmt.Sprintf(`{"id":%q,"customer_id":%q,"amount":%q,"currency":%q,"status":%q,"version":%d,`+
		`"created_at":"2026-11-05T12:30:00Z"}`, firstID, customer, amount, currency, status, version)
}

func TestAnOrdersWay(t *testing.T) {
	s := start(t)
	placed := s.place("100.50")
	require.Equal(t, "/orders/"+firstID, placed.header.Get("Location"))
	require.Equal(t, `"1"`, placed.header.Get("ETag"))
	require.Equal(t, "application/json", placed.header.Get("Content-Type"))
	require.JSONEq(t, orderJSON("100.50", "USD", "created", 1), placed.body)

	for _, step := range []struct{ method, path, body, want, etag string }{
		{"GET", "", "", orderJSON("100.50", "USD", "created", 1), `"1"`},
		{"POST", "/pay", "", orderJSON("100.50", "USD", "paid", 2), `"2"`},
		{"POST", "/ship", " { } ", orderJSON("100.50", "USD", "shipped", 3), `"3"`},
		{"GET", "", "", orderJSON("100.50", "USD", "shipped", 3), `"3"`},
	} {
		got := s.send(step.method, "/orders/"+strings.ToUpper(firstID)+step.path, step.body)
		require.Equal(t, http.StatusOK, got.status, got.body)
		require.JSONEq(t, step.want, got.body)
		require.Equal(t, step.etag, got.header.Get("ETag"))
	}

	second := s.place("1").header.Get("Location")
	got := s.send("POST", second+"/cancel", "", "Content-Type: ")
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, got.body, `"status":"cancelled"`)

	head := s.send("HEAD", second, "")
	require.Equal(t, http.StatusOK, head.status)
}

func TestKeysReachTheServiceAsTheyAre(t *testing.T) {
	s := start(t)
	const body = `{"customer_id":"` + customer + `","amount":1}`
	visible := ""
	for c := '!'; c <= '~'; c++ {
		visible += string(c)
	}
	sent := []string{"", "k", visible, strings.Repeat("x", 255), `"550e8400-e29b-41d4-a716-446655440000"`, "a,b", "%41"}
	for _, key := range sent {
		got := s.send("POST", "/orders", body, "Idempotency-Key: "+key)
		require.Equal(t, http.StatusCreated, got.status, got.body)
		require.Equal(t, orders.Key(key), s.shop.keys[len(s.shop.keys)-1])
	}
}

func TestWrongKeysAreRefused(t *testing.T) {
	s := start(t)
	const fine, reason = `{"customer_id":"` + customer + `","amount":1}`, "must be 1 to 255 visible ASCII characters, such as a UUID"
	for name, key := range map[string][]string{
		"empty": {""}, "too long": {strings.Repeat("x", 256)}, "space": {"a b"}, "tab": {"a\tb"}, "not ASCII": {"Schl\u00fcssel"},
	} {
		t.Run(name, func(t *testing.T) {
			requireProblem(t, s.sendLines("/orders", fine, "Idempotency-Key", key...), 400, "invalid_idempotency_key", "Idempotency-Key "+reason, parameter("Idempotency-Key", reason))
		})
	}
	requireProblem(t, s.sendLines("/orders", fine, "Idempotency-Key", "a", "a"), 400, "invalid_request", wrongFields, parameter("Idempotency-Key", "is given more than once"))
	requireProblem(t, s.sendLines("/orders", `{"customer_id":"`+customer+`"}`, "Idempotency-Key", ""), 400, "invalid_request", wrongFields,
		`[{"pointer":"/amount","reason":"is required"},{"parameter":"Idempotency-Key","reason":"`+reason+`"}]`)
	require.Empty(t, s.shop.orders, "nothing was placed")

	s.shop.instead = func(context.Context) error { return orders.ErrKeyReused }
	requireProblem(t, s.sendLines("/orders", fine, "Idempotency-Key", "k"), 422, "idempotency_key_reused", orders.ErrKeyReused.Detail, "")
}

func TestAmountsAreReadExactly(t *testing.T) {
	for _, amount := range []struct{ sent, currency, want string }{
		{`100.50`, "USD", "100.50"},
		{`100.5`, "USD", "100.50"},
		{`"100.50"`, "USD", "100.50"},
		{`"\u0031"`, "USD", "1.00"},
		{`1e2`, "USD", "100.00"},
		{`"1E+2"`, "USD", "100.00"},
		{`10050e-2`, "USD", "100.50"},
		{`100.500`, "KWD", "100.500"},
		{`7`, "JPY", "7"},
		{`0.29`, "USD", "0.29"},
		{`9999999999.99`, "USD", "9999999999.99"},
		{`10000000000`, "USD", "10000000000.00"},
		{`1000000000000`, "JPY", "1000000000000"},
		{`"999999999.999"`, "KWD", "999999999.999"},
	} {
		t.Run(amount.sent+" "+amount.currency, func(t *testing.T) {
			s := start(t)
			body := fmt.Sprintf(`{"customer_id":%q,"amount":%s,"currency":%q}`, customer, amount.sent, amount.currency)
			got := s.send("POST", "/orders", body, "Content-Type: application/json; charset=UTF-8")
			require.Equal(t, http.StatusCreated, got.status, got.body)
			require.JSONEq(t, orderJSON(amount.want, amount.currency, "created", 1), got.body)
			require.False(t, contractRefuses(t, "/orders", body), "the contract must allow what is accepted")
		})
	}
}

const (
	wrongFields = "the request is wrong in the fields that errors names"
	wrongUUID   = "must be a UUID such as 550e8400-e29b-41d4-a716-446655440000"
	wrongNumber = "must be a decimal number such as 100.50"
	notKnown    = "is not known; known are customer_id, amount, currency"
)

func field(name, reason string) string {
	return fmt.Sprintf(`[{"pointer":%q,"reason":%q}]`, "/"+name, reason)
}

func parameter(name, reason string) string {
	return fmt.Sprintf(`[{"parameter":%q,"reason":%q}]`, name, reason)
}

func TestWrongAmountsAreRefused(t *testing.T) {
	s := start(t)
	for _, amount := range []struct{ sent, reason string }{
		{`100.505`, "has more decimals than USD has (2)"},
		{`"100.505"`, "has more decimals than USD has (2)"},
		{`1e-3`, "has more decimals than USD has (2)"},
		{`-1`, "must be greater than zero, not negative"},
		{`0`, "must be greater than zero"},
		{`-0.00`, "must be greater than zero"},
		{`0e999999999999999999999`, "must be greater than zero"},
		{`1e-99999999999999999999`, "has more decimals than USD has (2)"},
		{strings.Repeat("9", 101), wrongNumber},
		{`""`, wrongNumber},
		{`"NaN"`, wrongNumber},
		{`"Infinity"`, wrongNumber},
		{`" 1"`, wrongNumber},
		{`"1,5"`, wrongNumber},
		{`"0x10"`, wrongNumber},
		{`"+1"`, wrongNumber},
		{`"01"`, wrongNumber},
	} {
		t.Run(amount.sent, func(t *testing.T) {
			got := s.send("POST", "/orders", `{"customer_id":"`+customer+`","amount":`+amount.sent+`}`)
			requireProblem(t, got, 400, "invalid_amount", "amount "+amount.reason, field("amount", amount.reason))
		})
	}
}

func TestLargeAmountsAreRefused(t *testing.T) {
	s := start(t)
	for _, amount := range []string{
		"10000000000.01", "92233720368547758.07", "92233720368547758.08", `"1e17"`, "1e400", "1e99999999999999999999",
	} {
		t.Run(amount, func(t *testing.T) {
			const reason = "is too large: the largest is 10000000000.00 USD"
			got := s.send("POST", "/orders", `{"customer_id":"`+customer+`","amount":`+amount+`}`)
			requireProblem(t, got, 400, "amount_too_large", "amount "+reason, field("amount", reason))
		})
	}
	require.Empty(t, s.shop.orders, "nothing was placed")
}

func TestWrongFieldsAreRefused(t *testing.T) {
	s := start(t)
	const ok = `"customer_id":"` + customer + `"`
	for name, c := range map[string]struct {
		body, code, detail, errors string
		unseen                     bool // the contract does not refuse the body, only the service does
	}{
		"unknown":        {body: `{` + ok + `,"amount":1,"note":"x"}`, errors: field("note", notKnown)},
		"other case":     {body: `{` + ok + `,"amount":1,"Amount":2}`, errors: field("Amount", notKnown)},
		"slashes":        {body: `{` + ok + `,"amount":1,"a/b~c":2}`, errors: field("a~1b~0c", notKnown)},
		"empty name":     {body: `{` + ok + `,"amount":1,"":2}`, errors: field("", notKnown)},
		"long name":      {body: `{` + ok + `,"amount":1,"` + strings.Repeat("é", 99) + `":2}`, errors: field(strings.Repeat("é", 32)+"…", notKnown)},
		"missing":        {body: `{"amount":1}`, errors: field("customer_id", "is required")},
		"null currency":  {body: `{` + ok + `,"amount":1,"currency":null}`, errors: field("currency", "must be a string, not null")},
		"null amount":    {body: `{` + ok + `,"amount":null}`, errors: field("amount", "must be a number or a string, not null")},
		"boolean amount": {body: `{` + ok + `,"amount":true}`, errors: field("amount", "must be a number or a string, not a boolean")},
		"object amount":  {body: `{` + ok + `,"amount":{"value":1}}`, errors: field("amount", "must be a number or a string, not an object")},
		"array amount":   {body: `{` + ok + `,"amount":[1]}`, errors: field("amount", "must be a number or a string, not an array")},
		"number as id":   {body: `{"customer_id":5,"amount":1}`, errors: field("customer_id", "must be a string, not a number")},
		"twice": {
			body: `{` + ok + `,"amount":1,"amount":1}`, errors: field("amount", "is given more than once"), unseen: true,
		},
		"twice, escaped": {
			body: `{` + ok + `,"amount":1,"\u0061mount":1}`, errors: field("amount", "is given more than once"), unseen: true,
		},
		"malformed UUID": {
			body: `{"customer_id":"42","amount":1}`, code: "invalid_id", detail: "customer_id " + wrongUUID,
			errors: field("customer_id", wrongUUID), unseen: true,
		},
		"UUID in braces": {
			body: `{"customer_id":"{` + customer + `}","amount":1}`, code: "invalid_id", detail: "customer_id " + wrongUUID,
			errors: field("customer_id", wrongUUID), unseen: true,
		},
		"currency": {
			body: `{` + ok + `,"amount":1,"currency":"usd"}`, code: "invalid_currency",
			detail: "currency must be an ISO 4217 code of three capital letters such as USD",
			errors: field("currency", "must be an ISO 4217 code of three capital letters such as USD"), unseen: true,
		},
		"nothing given": {
			body:   `{}`,
			errors: `[{"pointer":"/customer_id","reason":"is required"},{"pointer":"/amount","reason":"is required"}]`,
		},
		"everything wrong": {
			body: `{"x":1,"customer_id":"y","amount":-1,"currency":"JPY"}`,
			errors: `[{"pointer":"/x","reason":"` + notKnown + `"},{"pointer":"/customer_id","reason":"` + wrongUUID + `"},` +
				`{"pointer":"/amount","reason":"must be greater than zero, not negative"}]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.code == "" {
				c.code, c.detail = "invalid_request", wrongFields
			}
			requireProblem(t, s.send("POST", "/orders", c.body), 400, c.code, c.detail, c.errors)
			require.Equal(t, !c.unseen, contractRefuses(t, "/orders", c.body), "what the contract says")
		})
	}
	require.Empty(t, s.shop.orders, "nothing was placed")
}

func TestALongListOfWrongFieldsIsCut(t *testing.T) {
	var body strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&body, `,"x%d":1`, i)
	}
	got := start(t).send("POST", "/orders", "{"+body.String()[1:]+"}")
	require.Equal(t, http.StatusBadRequest, got.status)
	require.Equal(t, 20, strings.Count(got.body, `"pointer"`))
}

func TestWrongBodiesAreRefused(t *testing.T) {
	s := start(t)
	const fine = `{"customer_id":"` + customer + `","amount":1}`
	const media = "the body must be sent as application/json in UTF-8"
	type bad struct {
		body, header string
		status       int
		code, detail string
	}
	for name, c := range map[string]bad{
		"empty":         {"", "", 400, "malformed_body", "a body is required: a JSON object"},
		"blank":         {" \n", "", 400, "malformed_body", "a body is required: a JSON object"},
		"null":          {"null", "", 400, "malformed_body", "the body must be a JSON object, not null"},
		"array":         {"[1]", "", 400, "malformed_body", "the body must be a JSON object, not an array"},
		"text":          {`"x"`, "", 400, "malformed_body", "the body must be a JSON object, not a string"},
		"number":        {"1", "", 400, "malformed_body", "the body must be a JSON object, not a number"},
		"NaN":           {`{"amount":NaN}`, "", 400, "malformed_body", "the body is not JSON: invalid character 'N' looking for beginning of value"},
		"leading zero":  {`{"amount":01}`, "", 400, "malformed_body", "the body is not JSON: invalid character '1' after object key:value pair"},
		"cut off":       {`{"amount":1`, "", 400, "malformed_body", "the body is not JSON: unexpected end of JSON input"},
		"two documents": {fine + fine, "", 400, "malformed_body", "the body is not JSON: invalid character '{' after top-level value"},
		"too deep":      {strings.Repeat("[", 60<<10), "", 400, "malformed_body", "the body is not JSON: invalid character '[' exceeded max depth"},
		"form":          {"a=b", "Content-Type: application/x-www-form-urlencoded", 415, "unsupported_media_type", media},
		"no type":       {fine, "Content-Type: ", 415, "unsupported_media_type", media},
		"no media type": {fine, "Content-Type: json", 415, "unsupported_media_type", media},
		"Latin-1":       {fine, "Content-Type: application/json; charset=latin1", 415, "unsupported_media_type", media},
		"gzip":          {fine, "Content-Encoding: gzip", 415, "unsupported_media_type", "the body must be sent without a content encoding"},
		"too large":     {fine + strings.Repeat(" ", 64<<10), "", 413, "body_too_large", "the body is larger than 64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			requireProblem(t, s.send("POST", "/orders", c.body, c.header), c.status, c.code, c.detail, "")
		})
	}

	t.Run("too large, in chunks", func(t *testing.T) {
		body := io.MultiReader(strings.NewReader(fine), strings.NewReader(strings.Repeat(" ", 64<<10)))
		requireProblem(t, s.sendReader("POST", "/orders", body), 413, "body_too_large", "the body is larger than 64 KiB", "")
	})
	t.Run("as large as allowed", func(t *testing.T) {
		got := s.send("POST", "/orders", fine+strings.Repeat(" ", 64<<10-len(fine)))
		require.Equal(t, http.StatusCreated, got.status)
	})
	require.Len(t, s.shop.orders, 1, "nothing else was placed")
}

func TestWrongPathsAndMethodsAreRefused(t *testing.T) {
	s := start(t)
	for _, id := range []string{"42", "00000000-0000-7000-8000-00000000000x", "a,b", "%7B%7D", "urn:uuid:" + customer, "%FF", "*"} {
		for _, call := range []string{"GET ", "POST /pay", "POST /ship", "POST /cancel"} {
			method, verb, _ := strings.Cut(call, " ")
			requireProblem(t, s.send(method, "/orders/"+id+verb, ""), 400, "invalid_id", "id "+wrongUUID, parameter("id", wrongUUID))
		}
	}
	requireProblem(t, s.send("POST", "/orders//pay", ""), 400, "invalid_request", wrongFields, parameter("id", "is required"))
	const nowhere = "there is nothing at this path"
	for _, path := range []string{"/order", "/orders//pay/", "/orders//", "/orders/" + firstID + "//", "/orders/" + firstID + "/refund", "/orders/a%2Fb"} {
		requireProblem(t, s.send("GET", path, ""), 404, "route_not_found", nowhere, "")
	}
	for _, call := range []struct{ method, path, allow string }{
		{"PATCH", "/orders", "GET, POST, HEAD"},
		{"HEAD", "/orders/" + firstID + "/pay", "POST"},
		{"PUT", "/orders/" + firstID, "GET, HEAD"},
		{"DELETE", "/orders/" + firstID, "GET, HEAD"},
		{"BREW", "/orders", "GET, POST, HEAD"},
		{"POST", "/openapi.yaml", "GET, HEAD"},
	} {
		got := s.send(call.method, call.path, "")
		require.Equal(t, http.StatusMethodNotAllowed, got.status)
		require.Equal(t, call.allow, got.header.Get("Allow"))
		if call.method != "HEAD" {
			requireProblem(t, got, 405, "method_not_allowed", "the path has no such method; Allow names those it has", "")
		}
	}
}

func TestWhatTheServiceRefuses(t *testing.T) {
	s := start(t)
	path := s.place("1").header.Get("Location")
	requireProblem(t, s.send("POST", path+"/ship", ""), 409, "order_status",
		"cannot ship an order that is created; it must be paid", "")
	for _, call := range []string{"GET ", "POST /pay", "POST /ship", "POST /cancel"} {
		method, verb, _ := strings.Cut(call, " ")
		requireProblem(t, s.send(method, "/orders/"+customer+verb, ""), 404, "order_not_found", "there is no such order", "")
	}
}

func TestEveryKindOfFailure(t *testing.T) {
	s := start(t)
	cause := errors.New("dial tcp 10.0.0.7:5432: secret")
	const bug = "something went wrong on our side; the trace id helps to find out what"
	for _, c := range []struct {
		err          error
		status       int
		code, detail string
		level        string
	}{
		{value.ErrNote.With("it is odd"), 400, "invalid_text", "it is odd", "DEBUG"},
		{orders.ErrOrderChanged.Wrap(cause), 409, "order_changed", orders.ErrOrderChanged.Detail, "DEBUG"},
		{orders.ErrKeyReused, 422, "idempotency_key_reused", orders.ErrKeyReused.Detail, "DEBUG"},
		{fmt.Errorf("place: %w", fault.New(fault.Unavailable, "database_busy", "it is busy").Wrap(cause)), 503, "database_busy", "it is busy", "WARN"},
		{
			fmt.Errorf("place: %w", fault.New(fault.Unavailable, "down", "10.0.0.7 is down")), 503, "unavailable",
			"a server that this request needs cannot be reached at the moment", "WARN",
		},
		{fault.New(fault.Conflict, "unheard_of", "a code that the contract does not know"), 500, "internal", bug, "ERROR"},
		{fmt.Errorf("place: %w", context.DeadlineExceeded), 503, "timeout", "the answer took too long; whether the change was made is not known", "WARN"},
		{orders.ErrEventsNotPulled.Wrap(cause), 500, "internal", bug, "ERROR"},
		{fmt.Errorf("place: %w", cause), 500, "internal", bug, "ERROR"},
		{context.Canceled, 500, "internal", bug, "ERROR"}, // the client is still connected
	} {
		t.Run(c.code, func(t *testing.T) {
			s.shop.instead = func(context.Context) error { return c.err }
			got := s.send("POST", "/orders", `{"customer_id":"`+customer+`","amount":1}`)
			requireProblem(t, got, c.status, c.code, c.detail, "")
			require.NotContains(t, got.body, "secret")
			if c.status == http.StatusServiceUnavailable {
				require.Equal(t, "1", got.header.Get("Retry-After"))
			}
			parts := []string{`"level":"` + c.level + `"`, fmt.Sprintf(`"status":%d`, c.status)}
			if c.status >= 500 {
				parts = append(parts, fmt.Sprintf(`"error":%q`, c.err))
			}
			s.logged.has(t, parts...)
		})
	}
}

func TestAPanicIsABug(t *testing.T) {
	s := start(t)
	s.shop.instead = func(context.Context) error { panic("boom") }
	requireProblem(t, s.send("GET", "/orders/"+firstID, ""), 500, "internal",
		"something went wrong on our side; the trace id helps to find out what", "")
	s.logged.has(t, `"level":"ERROR"`, `"panic":"boom"`, `"stack"`, "orders_test.go")
	s.shop.instead = nil
	s.place("1")
}
