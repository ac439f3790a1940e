package httpapi_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
)

const (
	token     = "0123456789abcdef"
	readToken = "fedcba9876543210"
)

// target is one route of a listener.
type target struct {
	listener, base, method, path string
}

// free reports whether the route is a probe or the documentation, which anyone may read.
func (r target) free() bool {
	return r.path == "/healthz" || r.path == "/readyz" || strings.HasPrefix(r.path, "/docs")
}

// targets returns all routes of both listeners, from the routers.
func targets(t *testing.T, api *httpapi.API, admin *httpapi.Admin) []target {
	t.Helper()
	values := strings.NewReplacer(":id", firstID, ":subscriber", "e%20mails", ":file", "openapi-explorer.min.js", "*profile", "heap")
	var all []target
	for name, server := range map[string]*httpapi.Server{"API": api.Server, "admin": admin.Server} {
		base := run(t, server)
		for _, route := range server.Routes() {
			all = append(all, target{name, base, route.Method, values.Replace(route.Path)})
		}
	}
	require.Greater(t, len(all), 20)
	return all
}

// listeners starts both listeners and returns their routes. The options have a token and no other protection.
func listeners(t *testing.T, fake *fakeOperations, shop *shop, logger *slog.Logger, meters metric.MeterProvider) []target {
	t.Helper()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("up 1\n")) })
	return targets(t,
		httpapi.NewAPI(httpapi.Options{Addr: "127.0.0.1:0", Service: shop, Logger: logger, MeterProvider: meters}),
		httpapi.NewAdmin(httpapi.AdminOptions{
			Addr: "127.0.0.1:0", Token: token, ReadToken: readToken, Metrics: metrics, Inspector: fake, ParkingAdmin: fake, Parked: &fakeUndecided{}, DeadLetters: &fakeUndecided{}, Logger: logger,
			MeterProvider: meters,
		}))
}

// direct follows no redirect.
var direct = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// ask makes a request to a target. A header "Host: x" names another host, and "Host:" none.
func (r target) ask(t *testing.T, headers ...string) orderResponse {
	t.Helper()
	body := ""
	if r.listener == "admin" && r.method == http.MethodPost {
		body = `{"all":true}`
	}
	request, err := http.NewRequestWithContext(t.Context(), r.method, r.base+r.path, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if name == "Host" {
			request.Host = value
		}
		request.Header.Set(name, value)
	}
	response, err := direct.Do(request)
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	got := orderResponse{response.StatusCode, response.Header, string(text)}
	outside := r.path == "/metrics" || r.path == "/" // of the contract
	if !outside || got.status >= http.StatusBadRequest {
		requireConforming(t, request, got)
	}
	return got
}

const authorized = "Authorization: Bearer " + token

// every, none, changing and forOperators choose the targets that refuse a request.
func (r target) every() bool { return true }

func (r target) none() bool { return false }

func (r target) changing() bool {
	return r.forOperators() || r.method != http.MethodGet && r.method != http.MethodHead
}

func (r target) forOperators() bool { return r.listener == "admin" && !r.free() }

// hostileRequests has requests that some targets refuse, and how. A request without a status is refused by none.
var hostileRequests = map[string]struct {
	headers []string
	refused func(target) bool
	status  int
	code    string
}{
	"a foreign name":                      {[]string{authorized, "Host: evil.example"}, target.every, 421, "host_not_allowed"},
	"a foreign name with a port":          {[]string{authorized, "Host: evil.example:8090"}, target.every, 421, "host_not_allowed"},
	"a name that begins as an address":    {[]string{authorized, "Host: 127.0.0.1.evil.example"}, target.every, 421, "host_not_allowed"},
	"a name that begins as localhost":     {[]string{authorized, "Host: localhost.evil.example"}, target.every, 421, "host_not_allowed"},
	"a name that ends as localhost":       {[]string{authorized, "Host: evil-localhost"}, target.every, 421, "host_not_allowed"},
	"rebound, so of the same origin":      {[]string{authorized, "Host: evil.example", "Origin: http://evil.example", "Sec-Fetch-Site: same-origin"}, target.every, 421, "host_not_allowed"},
	"a page of another site":              {[]string{authorized, "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}, target.changing, 403, "cross_origin"},
	"a page that hides its origin":        {[]string{authorized, "Origin: null", "Sec-Fetch-Site: cross-site"}, target.changing, 403, "cross_origin"},
	"a picture on a page of another site": {[]string{authorized, "Sec-Fetch-Site: cross-site"}, target.changing, 403, "cross_origin"},
	"a page on another port of localhost": {[]string{authorized, "Origin: http://localhost:3000", "Sec-Fetch-Site: same-site"}, target.changing, 403, "cross_origin"},
	"an old browser":                      {[]string{authorized, "Origin: https://evil.example"}, target.changing, 403, "cross_origin"},
	"an old browser that hides it":        {[]string{authorized, "Origin: null"}, target.changing, 403, "cross_origin"},
	"no token":                            {nil, target.forOperators, 401, "unauthorized"},
	"a token that is too short":           {[]string{"Authorization: Bearer " + token[:15]}, target.forOperators, 401, "unauthorized"},
	"a token that is too long":            {[]string{authorized + "0"}, target.forOperators, 401, "unauthorized"},
	"a token in capitals":                 {[]string{"Authorization: Bearer " + strings.ToUpper(token)}, target.forOperators, 401, "unauthorized"},
	"a token alone":                       {[]string{"Authorization: " + token}, target.forOperators, 401, "unauthorized"},
	"no token after the scheme":           {[]string{"Authorization: Bearer"}, target.forOperators, 401, "unauthorized"},
	"another scheme":                      {[]string{"Authorization: Basic " + token}, target.forOperators, 401, "unauthorized"},
	"two words":                           {[]string{authorized + " x"}, target.forOperators, 401, "unauthorized"},

	"no browser":                {[]string{authorized}, target.none, 0, ""},
	"a token in lower case":     {[]string{"Authorization: bearer " + token}, target.none, 0, ""},
	"a token in odd case":       {[]string{"Authorization: bEARER  " + token}, target.none, 0, ""},
	"localhost":                 {[]string{authorized, "Host: localhost"}, target.none, 0, ""},
	"localhost, as it may be":   {[]string{authorized, "Host: LocalHost.:8090"}, target.none, 0, ""},
	"an address":                {[]string{authorized, "Host: 10.1.2.3:8090"}, target.none, 0, ""},
	"an address of version 6":   {[]string{authorized, "Host: [::1]:8090"}, target.none, 0, ""},
	"an address without a port": {[]string{authorized, "Host: [fe80::1]"}, target.none, 0, ""},
	"a person at the address":   {[]string{authorized, "Sec-Fetch-Site: none"}, target.none, 0, ""},
	"a page of its own":         {[]string{authorized, "Host: localhost:80", "Origin: http://localhost:80", "Sec-Fetch-Site: same-origin"}, target.none, 0, ""},
}

// TestHostileRequests checks the answers of every route of both listeners to the requests that a browser sends for a foreign page, and to
// requests without a token. The routers provide the routes, so the test covers new routes too.
func TestHostileRequests(t *testing.T) {
	fake, shop := &fakeOperations{}, &shop{}
	all := listeners(t, fake, shop, slog.New(slog.DiscardHandler), nil)
	for name, c := range hostileRequests {
		t.Run(name, func(t *testing.T) {
			done := len(fake.redrive)
			for _, r := range all {
				got := r.ask(t, c.headers...)
				if !c.refused(r) {
					require.NotContains(t, []int{401, 403, 421}, got.status, "%+v: %s", r, got.body)
					continue
				}
				require.Equal(t, c.status, got.status, "%+v: %s", r, got.body)
				if r.method != http.MethodHead {
					require.Contains(t, got.body, `"code":"`+c.code+`"`)
				}
				require.Equal(t, c.status == 401, got.header.Get("WWW-Authenticate") == `Bearer realm="outboxie admin"`)
			}
			if c.status != 0 {
				require.Len(t, fake.redrive, done, "nothing was redriven")
			} else {
				require.Len(t, fake.redrive, done+1)
			}
		})
	}
}

// TestWithoutATokenNobodyGetsIn checks that a listener without a token is closed, unless it was opened on purpose.
func TestWithoutATokenNobodyGetsIn(t *testing.T) {
	for _, open := range []bool{false, true} {
		fake := &fakeOperations{}
		admin := httpapi.NewAdmin(httpapi.AdminOptions{
			Addr: "127.0.0.1:0", Open: open, Inspector: fake, ParkingAdmin: fake, Logger: slog.New(slog.DiscardHandler),
		})
		status := target{"admin", run(t, admin.Server), "GET", "/outbox/status"}
		for _, header := range []string{"X: y", "Authorization: Bearer ", "Authorization: Bearer x"} {
			require.Equal(t, open, status.ask(t, header).status == 200, header)
		}
	}
}

// TestAllowedHosts checks which host names each kind of listener accepts.
func TestAllowedHosts(t *testing.T) {
	for name, c := range map[string]struct {
		addr    string
		allowed []string
		open    bool
		admin   bool // the same for the admin listener
		want    map[string]bool
	}{
		"on loopback":                 {addr: "127.0.0.1:0", admin: true, want: map[string]bool{"app:1": false, "localhost": true}},
		"behind a proxy":              {addr: "127.0.0.1:0", allowed: []string{"Shop.example.com"}, admin: true, want: map[string]bool{"shop.EXAMPLE.com": true, "example.com": false, "localhost": true}},
		"behind any proxy":            {addr: "127.0.0.1:0", allowed: []string{"*"}, admin: true, want: map[string]bool{"app:1": true}},
		"where others reach it":       {addr: "0.0.0.0:0", admin: true, want: map[string]bool{"app:1": true, "evil.example": true}},
		"where others may, and which": {addr: ":0", allowed: []string{"app"}, admin: true, want: map[string]bool{"app:1": true, "evil.example": false, "10.0.0.7": true}},
		"open to others":              {addr: ":0", open: true, admin: true, want: map[string]bool{"app:1": false, "10.0.0.7": true}},
		"on a name":                   {addr: "localhost:0", admin: true, want: map[string]bool{"localhost:1": true, "evil.example": false}},
	} {
		t.Run(name, func(t *testing.T) {
			logger := slog.New(slog.DiscardHandler)
			admin := httpapi.NewAdmin(httpapi.AdminOptions{Addr: c.addr, AllowedHosts: c.allowed, Open: c.open, Logger: logger}).Handler()
			api := httpapi.NewAPI(httpapi.Options{Addr: c.addr, AllowedHosts: c.allowed, Service: &shop{}, Logger: logger}).Handler()
			for host, allowed := range c.want {
				require.Equal(t, allowed, statusFor(t, admin, "/healthz", host) == 200, host)
				if !c.open {
					require.Equal(t, allowed, statusFor(t, api, "/openapi.yaml", host) == 200, host)
				}
			}
			require.Equal(t, 200, statusFor(t, admin, "/healthz", ""), "a health check of HTTP/1.0 names no host")
		})
	}
}

// TestTrustedOrigins checks that pages of a trusted origin may change orders, and that other pages may not.
func TestTrustedOrigins(t *testing.T) {
	s := start(t, func(o *httpapi.Options) { o.TrustedOrigins = []string{"https://shop.example.com"} })
	s.place("1")
	for origin, status := range map[string]int{"https://shop.example.com": 200, "http://shop.example.com": 403, "https://evil.example": 403} {
		got := s.send("POST", "/orders/"+firstID+"/cancel", "", "Origin: "+origin, "Sec-Fetch-Site: cross-site")
		require.Equal(t, status, got.status, origin)
	}
}

// TestRefusalsAreNoticed checks that each refusal is counted, and logged with its sender but without the token that was sent.
func TestRefusalsAreNoticed(t *testing.T) {
	reader, said := sdkmetric.NewManualReader(), new(logged)
	all := listeners(t, &fakeOperations{}, &shop{}, slog.New(slog.NewTextHandler(said, nil)), sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	require.Equal(t, map[string]int64{"host": 0, "origin": 0, "token_missing": 0, "token_wrong": 0, "token_scope": 0}, counted(t, reader), "before the first one")
	status, profile := all[0], all[0]
	for _, r := range all {
		switch {
		case r.path == "/outbox/status" && r.method == "GET":
			status = r
		case r.path == "/debug/pprof/heap" && r.method == "GET":
			profile = r
		}
	}
	for range 3 {
		status.ask(t, "Authorization: Bearer s3cret-s3cret-s3cret")
		profile.ask(t, "Authorization: Bearer "+readToken)
		status.ask(t)
		status.ask(t, "Host: evil.example")
		status.ask(t, "Sec-Fetch-Site: cross-site", "Origin: https://evil.example")
	}
	status.path = "/readyz"
	require.Equal(t, 200, status.ask(t, "Authorization: Bearer s3cret-s3cret-s3cret").status)
	require.Equal(t, 200, status.ask(t).status)
	require.Equal(t, map[string]int64{"host": 3, "origin": 3, "token_missing": 3, "token_wrong": 4, "token_scope": 3}, counted(t, reader))
	for _, words := range []string{
		"a request had a wrong admin token", "refused a request without the admin token",
		"refused a request for a host that is not allowed", "refused a request from a page of another origin",
	} {
		said.has(t, "level=WARN", words, `server="admin listener"`, "remote=127.0.0.1:", "path=/outbox/status")
		require.Equal(t, 1, strings.Count(said.String(), words), "not more than one a minute")
	}
	said.has(t, "level=WARN", "refused a request whose admin token does not allow it", "path=/debug/pprof/heap")
	require.NotContains(t, said.String(), "s3cret")
	require.NotContains(t, said.String(), readToken)
}

// counted returns the values of the counter of refusals, by kind.
func counted(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var read metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(context.Background(), &read))
	found := make(map[string]int64)
	for _, scope := range read.ScopeMetrics {
		for _, one := range scope.Metrics {
			if one.Name != "outboxie.http.refusals" {
				continue
			}
			for _, point := range one.Data.(metricdata.Sum[int64]).DataPoints {
				kind, _ := point.Attributes.Value("outboxie.refusal")
				found[kind.AsString()] += point.Value
			}
		}
	}
	return found
}

// TestReasonsAreForThoseWithTheToken checks that every client sees which check fails. Only the log and clients with the token get the
// reason.
func TestReasonsAreForThoseWithTheToken(t *testing.T) {
	said, failure := new(logged), errors.New("cannot reach user shop of database orders at 10.0.0.7")
	check := httpapi.Check{Name: "database", Required: true, Probe: func(context.Context) error { return failure }}
	ready := target{"admin", run(t, httpapi.NewAdmin(httpapi.AdminOptions{
		Addr: "127.0.0.1:0", Token: token, Checks: []httpapi.Check{check}, Logger: slog.New(slog.NewTextHandler(said, nil)),
	}).Server), "GET", "/readyz"}
	for range 2 {
		for _, header := range []string{"X: y", "Authorization: Bearer wrong", "Authorization: Basic " + token} {
			got := ready.ask(t, header)
			require.Equal(t, 503, got.status)
			require.JSONEq(t, `{"status":"unavailable","checks":[{"name":"database","status":"failed"}]}`, got.body)
		}
		require.JSONEq(t, `{"status":"unavailable","checks":[{"name":"database","status":"failed","reason":"`+failure.Error()+`"}]}`,
			ready.ask(t, authorized).body)
	}
	const fails, again = "a check of readiness fails", "a check of readiness succeeds again"
	said.has(t, "level=WARN", fails, "check=database", "10.0.0.7", "status=unavailable")
	require.Equal(t, 1, strings.Count(said.String(), fails))
	failure = nil
	require.JSONEq(t, `{"status":"ready","checks":[{"name":"database","status":"ok"}]}`, ready.ask(t).body)
	said.has(t, "level=INFO", again, "check=database")
}

// statusFor returns the status of a request that names a host.
func statusFor(t *testing.T, handler http.Handler, path, host string) int {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	request.Host = host
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder.Code
}
