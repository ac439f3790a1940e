// Package access tests who may do what with orders: the API, the use case and the check of tokens together, on adapters in memory.
package access_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/audit"
	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/adapters/oidc"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/test/contract"
	"github.com/assylzhan-a/outboxie/test/infra"
)

const (
	alice = "00000000-0000-4000-8000-00000000000a"
	bob   = "00000000-0000-4000-8000-00000000000b"

	customerScopes = "orders:place orders:read orders:cancel"
	serviceScopes  = "orders:place orders:read orders:cancel orders:pay orders:ship orders:any"
)

// shop is an API that asks for tokens of an issuer.
type shop struct {
	t      *testing.T
	issuer *infra.Issuer
	api    http.Handler
	log    *memory.Log
	logged *infra.Buffer
}

type quiet struct{}

func (quiet) Notify() {}

func open(t *testing.T, change ...func(*httpapi.Options)) *shop {
	t.Helper()
	s := &shop{t: t, issuer: infra.NewIssuer(t), log: memory.NewLog(), logged: new(infra.Buffer)}
	work := memory.NewUnitOfWork(s.log)
	logger := slog.New(slog.NewTextHandler(s.logged, nil))
	verifier, err := oidc.New(oidc.Options{
		Issuer: infra.IssuerName, Audience: infra.Audience, KeysFile: s.issuer.KeysFile(), CustomerClaim: "sub", Logger: logger,
	})
	require.NoError(t, err)
	service := ordering.New(ordering.Ports{
		Work: work, Orders: memory.NewOrderReader(work), Encoder: codec.New(nil), Notifier: quiet{},
		Log: memory.NewCursorStore(memory.NewLease(time.Minute), s.log), Finder: memory.NewStream(),
	}, func() order.ID { return order.ID(uuid.NewString()) }, time.Now)
	options := httpapi.Options{Addr: "127.0.0.1:0", Service: audit.Orders(logger, service), Authenticator: verifier, Logger: logger}
	for _, set := range change {
		set(&options)
	}
	s.api = httpapi.NewAPI(options).Handler()
	return s
}

type answer struct {
	status int
	header http.Header
	body   string
	Code   string `json:"code"`
	Detail string `json:"detail"`
	ID     string `json:"id"`
	Orders []struct {
		CustomerID string `json:"customer_id"`
	} `json:"orders"`
}

// send sends a request, and checks the answer against the contract.
func (s *shop) send(token, method, path, body string, headers ...string) answer {
	s.t.Helper()
	request := httptest.NewRequestWithContext(context.Background(), method, path, strings.NewReader(body))
	request.Host = "localhost"
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	recorder := httptest.NewRecorder()
	s.api.ServeHTTP(recorder, request)
	text, err := io.ReadAll(recorder.Body)
	require.NoError(s.t, err)
	got := answer{status: recorder.Code, header: recorder.Header(), body: string(text)}
	if json.Valid(text) {
		require.NoError(s.t, json.Unmarshal(text, &got))
	}
	if path != "/nowhere" {
		recorder.Header().Set("Trace-Id", strings.Repeat("0", 32)) // the contract promises it, and this API has no tracer
	}
	require.NoError(s.t, contract.CheckAnswer(request, got.status, recorder.Header(), got.body), got.body)
	return got
}

// place places an order as the service, and returns its id.
func (s *shop) place(customer string) string {
	s.t.Helper()
	got := s.send(s.issuer.Token("shop", serviceScopes), http.MethodPost, "/orders", placement(customer))
	require.Equal(s.t, http.StatusCreated, got.status, got.body)
	return got.ID
}

func placement(customer string) string { return `{"customer_id": "` + customer + `", "amount": 7}` }

// operation is an operation of the contract about orders.
type operation struct {
	id, method, path, scope string
}

// operations returns the operations of openapi.yaml that need a token.
func operations(t *testing.T) []operation {
	t.Helper()
	doc, err := contract.OpenAPI()
	require.NoError(t, err)
	var all []operation
	for path, item := range doc.Paths.Map() {
		for method, described := range item.Operations() {
			scope, _ := described.Extensions["x-required-scope"].(string)
			about := strings.HasPrefix(path, "/orders")
			require.Equal(t, about, scope != "", "%s %s: each operation about orders names its scope", method, path)
			if about {
				require.NotNil(t, described.Security, "%s %s", method, path)
				for _, status := range []string{"401", "403", "429"} {
					require.NotNil(t, described.Responses.Value(status), "%s %s: %s is documented", method, path, status)
				}
				all = append(all, operation{described.OperationID, method, path, scope})
			}
		}
	}
	require.GreaterOrEqual(t, len(all), 7)
	return all
}

// request returns the path and the body of a valid request about an order of a customer.
func (o operation) request(id, customer string) (path, body string) {
	path = strings.ReplaceAll(o.path, "{id}", id)
	if o.id == "PlaceOrder" {
		return path, placement(customer)
	}
	if o.method == http.MethodPost {
		return path, "{}"
	}
	return path, ""
}

// TestEachOperationNeedsAToken checks each operation of the contract about orders without a token, with tokens that are not accepted, and with
// a token without the scope of the operation. Nothing is changed by any of these requests.
func TestEachOperationNeedsAToken(t *testing.T) {
	s := open(t)
	id := s.place(alice)
	before := len(s.log.Committed())
	claims := infra.Claims("shop", serviceScopes)
	past := time.Now().Add(-time.Hour).Unix()
	for _, o := range operations(t) {
		path, body := o.request(id, alice)
		for name, c := range map[string]struct {
			token  string
			status int
			code   string
		}{
			"no token":             {"", http.StatusUnauthorized, "unauthorized"},
			"nonsense":             {"nonsense", http.StatusUnauthorized, "invalid_token"},
			"algorithm none":       {s.issuer.Sign("none", "ES256", claims), http.StatusUnauthorized, "invalid_token"},
			"algorithm HS256":      {s.issuer.Sign("HS256", "ES256", claims), http.StatusUnauthorized, "invalid_token"},
			"another audience":     {s.issuer.Token("shop", serviceScopes, jwt.MapClaims{"aud": "billing"}), http.StatusUnauthorized, "invalid_token"},
			"another issuer":       {s.issuer.Token("shop", serviceScopes, jwt.MapClaims{"iss": "https://evil.example"}), http.StatusUnauthorized, "invalid_token"},
			"another issuer's key": {infra.NewIssuer(t).Token("shop", serviceScopes), http.StatusUnauthorized, "invalid_token"},
			"expired":              {s.issuer.Token("shop", serviceScopes, jwt.MapClaims{"exp": past}), http.StatusUnauthorized, "invalid_token"},
			"no scope":             {s.issuer.Token("shop", ""), http.StatusForbidden, "insufficient_scope"},
			"all other scopes": {
				s.issuer.Token("shop", strings.ReplaceAll(serviceScopes, o.scope, "")), http.StatusForbidden, "insufficient_scope",
			},
			"no customer": {s.issuer.Token("somebody", o.scope), http.StatusForbidden, "insufficient_scope"},
		} {
			got := s.send(c.token, o.method, path, body)
			require.Equal(t, c.status, got.status, "%s, %s: %s", o.id, name, got.body)
			require.Equal(t, c.code, got.Code, "%s, %s", o.id, name)
			want := `Bearer realm="outboxie orders"`
			if c.token != "" {
				want += `, error="` + c.code + `"`
			}
			require.Equal(t, want, got.header.Get("WWW-Authenticate"), "%s, %s", o.id, name)
		}
	}
	require.Len(t, s.log.Committed(), before)
}

// TestEachOperationKeepsToItsCustomer checks each operation with the token of another customer: orders of others do not exist, and nobody
// places orders for others. The customer's own token is accepted, and so is the service's.
func TestEachOperationKeepsToItsCustomer(t *testing.T) {
	for _, o := range operations(t) {
		s := open(t)
		id := s.place(alice)
		if o.id == "ShipOrder" {
			require.Equal(t, http.StatusOK, s.send(s.issuer.Token("shop", serviceScopes), http.MethodPost, "/orders/"+id+"/pay", "{}").status)
		}
		before := len(s.log.Committed())
		path, body := o.request(id, alice)
		unknownPath, _ := o.request(uuid.NewString(), alice)

		other := s.send(s.issuer.Token(bob, o.scope), o.method, path, body)
		switch o.id {
		case "ListOrders":
			require.Equal(t, http.StatusOK, other.status)
			require.Empty(t, other.Orders)
			filtered := s.send(s.issuer.Token(bob, o.scope), o.method, path+"?customer_id="+alice, "")
			require.Empty(t, filtered.Orders, "nor by a filter")
		case "PlaceOrder":
			require.Equal(t, http.StatusForbidden, other.status)
			require.Equal(t, "insufficient_scope", other.Code)
		default:
			require.Equal(t, http.StatusNotFound, other.status, "%s: %s", o.id, other.body)
			unknown := s.send(s.issuer.Token(bob, o.scope), o.method, unknownPath, body)
			require.Equal(t, unknown.Code, other.Code)
			require.Equal(t, strings.ReplaceAll(unknown.Detail, strings.Split(unknownPath, "/")[2], id), other.Detail, "the answers do not differ")
		}
		require.Len(t, s.log.Committed(), before, o.id)

		for _, token := range []string{s.issuer.Token(alice, o.scope), s.issuer.Token("shop", o.scope+" orders:any")} {
			got := s.send(token, o.method, path, body)
			require.Less(t, got.status, http.StatusBadRequest, "%s: %s", o.id, got.body)
		}
	}
}

// TestListsAreFiltered checks that the pages of a list have all orders of the token's customer and no others.
func TestListsAreFiltered(t *testing.T) {
	s := open(t)
	for range 3 {
		s.place(alice)
		s.place(bob)
	}
	listed := 0
	next := ""
	for {
		page := s.send(s.issuer.Token(bob, customerScopes), http.MethodGet, "/orders?limit=2"+next, "")
		require.Equal(t, http.StatusOK, page.status)
		for _, found := range page.Orders {
			require.Equal(t, bob, found.CustomerID)
		}
		listed += len(page.Orders)
		var more struct {
			Next string `json:"next"`
		}
		require.NoError(t, json.Unmarshal([]byte(page.body), &more))
		if more.Next == "" {
			break
		}
		next = "&cursor=" + url.QueryEscape(more.Next)
	}
	require.Equal(t, 3, listed)
	require.Len(t, s.send(s.issuer.Token("shop", serviceScopes), http.MethodGet, "/orders", "").Orders, 6)
}

// TestKeysArePrincipals checks that a customer and a service may use the same idempotency key for different requests about one customer, and
// that each gets its own first answer again.
func TestKeysArePrincipals(t *testing.T) {
	s := open(t)
	const key = "Idempotency-Key: 1"
	own, service, further := s.issuer.Token(alice, customerScopes), s.issuer.Token("shop", serviceScopes), s.issuer.Token("cron", serviceScopes)
	ids := map[string]bool{}
	for _, token := range []string{own, service, further} {
		first := s.send(token, http.MethodPost, "/orders", placement(alice), key)
		require.Equal(t, http.StatusCreated, first.status, first.body)
		again := s.send(token, http.MethodPost, "/orders", placement(alice), key)
		require.Equal(t, first.ID, again.ID)
		ids[first.ID] = true
	}
	require.Len(t, ids, 3)
	reused := s.send(service, http.MethodPost, "/orders", placement(bob), key)
	require.Equal(t, http.StatusUnprocessableEntity, reused.status)
}

// TestEventsNameTheirActor checks that each event names who caused it, in the headers of CloudEvents' auth context, and that the audit has a
// line for each change and for each missing permission.
func TestEventsNameTheirActor(t *testing.T) {
	s := open(t)
	own, service := s.issuer.Token(alice, customerScopes), s.issuer.Token("lager é", serviceScopes)
	placed := s.send(own, http.MethodPost, "/orders", placement(alice))
	require.Equal(t, http.StatusCreated, placed.status, placed.body)
	require.Equal(t, http.StatusForbidden, s.send(own, http.MethodPost, "/orders/"+placed.ID+"/pay", "{}").status)
	require.Equal(t, http.StatusOK, s.send(service, http.MethodPost, "/orders/"+placed.ID+"/pay", "{}").status)
	committed := s.log.Committed()
	require.Len(t, committed, 2)
	require.Equal(t, map[string]string{"ce-authtype": "app_user", "ce-authid": alice}, committed[0].Headers)
	require.Equal(t, map[string]string{"ce-authtype": "service_account", "ce-authid": "lager%20%C3%A9"}, committed[1].Headers)

	require.Equal(t, []string{
		"action=order.place order_id=" + placed.ID + " actor_type=app_user actor=" + alice + " outcome=done",
		"action=order.pay order_id=" + placed.ID + " actor_type=app_user actor=" + alice + " outcome=insufficient_scope",
		"action=order.pay order_id=" + placed.ID + ` actor_type=service_account actor="lager é" outcome=done`,
	}, s.audited())
}

// audited returns the lines of the audit, without their time.
func (s *shop) audited() []string {
	var lines []string
	for line := range strings.Lines(s.logged.String()) {
		if _, about, found := strings.Cut(line, "msg="+audit.Message+" "); found {
			lines = append(lines, strings.TrimSpace(about))
		}
	}
	return lines
}

// TestDocumentsNeedNoToken checks that the contract and its page are there for everybody.
func TestDocumentsNeedNoToken(t *testing.T) {
	s := open(t)
	for _, path := range []string{"/docs", "/openapi.yaml"} {
		require.Equal(t, http.StatusOK, s.send("", http.MethodGet, path, "").status, path)
	}
	require.Equal(t, http.StatusNotFound, s.send("", http.MethodGet, "/nowhere", "").status)
}

// TestRateLimits checks that each principal has a limit of its own, that requests without an accepted token count for their address, and that
// the answer says when to come back.
func TestRateLimits(t *testing.T) {
	s := open(t, func(o *httpapi.Options) { o.RateLimit = 3 })
	limited := func(token string) int {
		for n := range 50 {
			got := s.send(token, http.MethodGet, "/orders", "")
			if got.status == http.StatusTooManyRequests {
				require.Equal(t, "rate_limited", got.Code)
				require.Equal(t, "1", got.header.Get("Retry-After"))
				return n
			}
		}
		return 50
	}
	for _, token := range []string{s.issuer.Token(alice, customerScopes), s.issuer.Token(bob, customerScopes), ""} {
		require.InDelta(t, 3, limited(token), 1, "three at once, and perhaps one that came back meanwhile")
	}
	require.Equal(t, http.StatusTooManyRequests, s.send("nonsense", http.MethodGet, "/orders", "").status, "the address is limited already")
	require.Equal(t, http.StatusOK, s.send("", http.MethodGet, "/docs", "").status)
}
