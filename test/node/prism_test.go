//go:build node

package node

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/test/contract"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// startPrism starts Prism between clients and an address, and returns its own address. Prism passes all requests and answers on. If one of them
// violates the contract in the file, Prism says so in a header of the answer.
func startPrism(t *testing.T, file, address string) string {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(installed, "node_modules", ".bin", "prism"))
	require.NoError(t, err)
	require.FileExists(t, program, "install the packages: make test-node")
	port := strconv.Itoa(infra.Port(t))
	cmd := exec.Command(program, "proxy", file, "http://"+address, "--port", port, "--host", "127.0.0.1")
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	infra.Start(t, cmd).WaitFor("Prism is listening on")
	return "127.0.0.1:" + port
}

// violation is what Prism says about a request or an answer.
type violation struct {
	Location []string `json:"location"` // begins with request or response
	Message  string   `json:"message"`
}

func (v violation) String() string { return strings.Join(v.Location, ".") + ": " + v.Message }

// exchange is a request to an operation, and what must come back.
type exchange struct {
	operation string // its id in the contract
	request   string // method, path, and perhaps a body
	token     string
	header    string // "Name: value"
	status    int
	forbidden bool // the contract does not allow the request
}

// send sends the request to an address. It returns the answer, its body, and the violations that Prism has found.
func (e exchange) send(t *testing.T, address string) (*http.Response, string, []violation) {
	t.Helper()
	method, rest, _ := strings.Cut(e.request, " ")
	path, body, _ := strings.Cut(rest, " ")
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if e.token != "" {
		request.Header.Set("Authorization", "Bearer "+e.token)
	}
	if name, value, given := strings.Cut(e.header, ": "); given {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	var found []violation
	if header := answer.Header.Get("Sl-Violations"); header != "" {
		require.NoError(t, json.Unmarshal([]byte(header), &found), header)
	}
	return answer, string(text), found
}

// known reports whether a violation is a limit of Prism: it decodes JSON only, so YAML is a text for it.
func (e exchange) known(v violation) bool {
	return (e.operation == "Contract" || e.operation == "DocsFile") && v.String() == "response.body: Response body must be object"
}

// check sends the request and requires the status, no violation in the answer, and a violation in the request exactly if the contract forbids it.
func (e exchange) check(t *testing.T, address string) (*http.Response, string) {
	t.Helper()
	answer, text, found := e.send(t, address)
	require.Equal(t, e.status, answer.StatusCode, "%s: %s", e.request, text)
	wrong := 0
	for _, v := range found {
		if e.known(v) {
			continue
		}
		require.Equal(t, "request", v.Location[0], "the answer to %s violates the contract: %s\n%s", e.request, v, text)
		wrong++
	}
	require.Equal(t, e.forbidden, wrong > 0, "%s: forbidden is wrong: Prism says %v", e.request, found)
	return answer, text
}

// shop is an instance that asks for tokens, with a subscriber whose calls all fail, seen through Prism.
type shop struct {
	t          *testing.T
	issuer     *infra.Issuer
	name       string // of the issuer
	database   string
	instance   *infra.Process
	api, admin string          // addresses of Prism
	accepted   map[string]bool // operations with a successful exchange
	refused    map[string]bool // operations with a request that was refused
}

func openShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, issuer: infra.NewIssuer(t), database: infra.Database(t), accepted: make(map[string]bool), refused: make(map[string]bool)}
	s.name = s.issuer.Publish()
	failing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(failing.Close)
	environment := []string{
		"DATABASE_URL=" + s.database, "NATS_URL=" + infra.Broker(t), "AUTH_ISSUER=" + s.name, "AUTH_AUDIENCE=" + infra.Audience,
		"AUTH_CUSTOMER_CLAIM=customer", "WEBHOOK_URL=" + failing.URL, "SUBSCRIBER_MAX_ATTEMPTS=1",
	}
	s.instance = infra.Serve(t, "app1", environment)
	infra.Launch(t, append(environment, "ADMIN_ADDR=127.0.0.1:0"), "subscribe", "--id", "emails", "--handler", "webhook").WaitFor("subscribed")
	file, err := filepath.Abs(contractFile)
	require.NoError(t, err)
	s.api, s.admin = startPrism(t, file, s.instance.API()), startPrism(t, file, s.instance.Admin())
	return s
}

// token returns a token with these scopes. A token of a customer is for infra.Customer.
func (s *shop) token(scopes string) string {
	return s.issuer.Token("somebody", scopes, jwt.MapClaims{"iss": s.name, "customer": infra.Customer})
}

// try checks an exchange with the API.
func (s *shop) try(e exchange) (*http.Response, string) { return s.note(e, s.api) }

// operate checks an exchange with the admin listener.
func (s *shop) operate(e exchange) string {
	_, text := s.note(e, s.admin)
	return text
}

func (s *shop) note(e exchange, address string) (*http.Response, string) {
	s.t.Helper()
	answer, text := e.check(s.t, address)
	if e.status < http.StatusBadRequest {
		s.accepted[e.operation] = true
	} else {
		s.refused[e.operation] = true
	}
	return answer, text
}

// place places an order and returns its path.
func (s *shop) place() string {
	s.t.Helper()
	answer, _ := s.try(exchange{operation: "PlaceOrder", request: "POST /orders " + goodOrder, token: s.token(allScopes), status: 201})
	return answer.Header.Get("Location")
}

const (
	allScopes = "orders:place orders:read orders:cancel orders:pay orders:ship orders:any"
	goodOrder = `{"customer_id": "` + infra.Customer + `", "amount": 100.50}`
	nowhere   = "/orders/00000000-0000-4000-8000-000000000000"
)

// TestPrismFindsNoViolation checks each operation of openapi.yaml with requests that it allows and requests that it forbids: Prism, between the client
// and an instance, finds nothing in an answer that violates the contract, and agrees which requests it forbids.
func TestPrismFindsNoViolation(t *testing.T) {
	s := openShop(t)
	s.placeOrders()
	s.changeOrders()
	s.readOrders()
	s.readDocuments()
	s.operateRelay()
	s.operateSubscriber()
	operations, err := contract.Operations()
	require.NoError(t, err)
	for _, operation := range operations {
		require.True(t, s.accepted[operation.ID], "no request for %s succeeds", operation.ID)
		if needed := operation.Admin || strings.HasPrefix(operation.Path, "/orders"); needed && operation.ID != "Health" && operation.ID != "Readiness" {
			require.True(t, s.refused[operation.ID], "no request for %s is refused", operation.ID)
		}
	}
}

func (s *shop) placeOrders() {
	service, customer := s.token(allScopes), s.token("orders:place orders:read")
	place := func(body string, e exchange) {
		s.t.Helper()
		e.operation, e.request = "PlaceOrder", "POST /orders "+body
		s.try(e)
	}
	text := `{"customer_id": "` + infra.Customer + `", "amount": "7", "currency": "JPY"}`
	place(text, exchange{token: service, header: "Idempotency-Key: k1", status: 201})
	place(text, exchange{token: service, header: "Idempotency-Key: k1", status: 201})
	place(goodOrder, exchange{token: service, header: "Idempotency-Key: k1", status: 422})
	place(goodOrder, exchange{token: customer, status: 201})
	place(goodOrder, exchange{status: 401})
	place(goodOrder, exchange{token: "x", status: 401})
	place(goodOrder, exchange{token: s.token("orders:read"), status: 403})
	place(strings.Replace(goodOrder, "100.50", "0", 1), exchange{token: service, status: 400})
	place(strings.Replace(goodOrder, "100.50", `"ten"`, 1), exchange{token: service, status: 400})
	place(strings.Replace(goodOrder, "100.50", "1e13", 1), exchange{token: service, status: 400, forbidden: true})
	place(`{"customer_id": "me", "amount": 1}`, exchange{token: service, status: 400, forbidden: true})
	place(`{"amount": 1}`, exchange{token: service, status: 400, forbidden: true})
	place(strings.Replace(goodOrder, "amount", "price", 1), exchange{token: service, status: 400, forbidden: true})
	place("", exchange{token: service, status: 400, forbidden: true})
	place(goodOrder, exchange{token: service, header: "Content-Type: text/plain", status: 415, forbidden: true})
	place(goodOrder, exchange{token: service, header: "Idempotency-Key: " + strings.Repeat("k", 256), status: 400, forbidden: true})
}

func (s *shop) changeOrders() {
	service := s.token(allScopes)
	shipped, cancelled, created := s.place(), s.place(), s.place()
	change := func(operation, request, header string, status int) {
		s.t.Helper()
		s.try(exchange{operation: operation, request: "POST " + request, token: service, header: header, status: status})
	}
	change("ShipOrder", created+"/ship", "", 409)
	change("PayOrder", shipped+`/pay {"reference": "P-1"}`, `If-Match: "1"`, 200)
	change("PayOrder", shipped+`/pay {"reference": "P-2"}`, "", 409)
	change("PayOrder", created+"/pay", `If-Match: "7"`, 412)
	change("PayOrder", nowhere+"/pay", "", 404)
	change("ShipOrder", shipped+`/ship {"carrier": "UPS", "tracking": "1Z"}`, "If-Match: *", 200)
	change("CancelOrder", shipped+"/cancel", "", 409)
	change("CancelOrder", cancelled+`/cancel {"reason": "ordered twice"}`, "Idempotency-Key: c1", 200)
	change("CancelOrder", created+"/cancel", "Idempotency-Key: c1", 422)
	for operation, verb := range map[string]string{"PayOrder": "pay", "ShipOrder": "ship", "CancelOrder": "cancel"} {
		path := "POST " + created + "/" + verb
		s.try(exchange{operation: operation, request: path, status: 401})
		s.try(exchange{operation: operation, request: path, token: s.token("orders:read"), status: 403})
		s.try(exchange{operation: operation, request: "POST /orders/7/" + verb, token: service, status: 400, forbidden: true})
		s.try(exchange{operation: operation, request: path + ` {"why": "x"}`, token: service, status: 400, forbidden: true})
		s.try(exchange{operation: operation, request: path, token: service, header: "If-Match: 1", status: 400, forbidden: true})
	}
}

func (s *shop) readOrders() {
	service, order := s.token(allScopes), s.place()
	read := func(operation, path string, status int, forbidden bool) string {
		s.t.Helper()
		_, text := s.try(exchange{operation: operation, request: "GET " + path, token: service, status: status, forbidden: forbidden})
		return text
	}
	for operation, path := range map[string]string{"GetOrder": order, "ListOrderEvents": order + "/events", "ListOrders": "/orders"} {
		s.try(exchange{operation: operation, request: "GET " + path, status: 401})
		s.try(exchange{operation: operation, request: "GET " + path, token: s.token("orders:place"), status: 403})
		read(operation, path, 200, false)
	}
	s.try(exchange{operation: "GetOrder", request: "GET " + order, token: service, header: `If-None-Match: "1"`, status: 304})
	read("GetOrder", nowhere, 404, false)
	read("GetOrder", "/orders/7", 400, true)
	read("ListOrderEvents", nowhere+"/events", 404, false)
	read("ListOrderEvents", "/orders/7/events", 400, true)
	var page struct{ Next string }
	require.NoError(s.t, json.Unmarshal([]byte(read("ListOrders", "/orders?limit=1&status=created&customer_id="+infra.Customer, 200, false)), &page))
	read("ListOrders", "/orders?limit=1&status=created&customer_id="+infra.Customer+"&cursor="+page.Next, 200, false)
	read("ListOrders", "/orders?created_from=2026-01-01T00:00:00Z&created_before=2100-01-01T00:00:00Z", 200, false)
	read("ListOrders", "/orders?limit=0", 400, true)
	read("ListOrders", "/orders?status=lost", 400, true)
	read("ListOrders", "/orders?cursor=x", 400, true)
	read("ListOrders", "/orders?created_from=yesterday", 400, true)
}

func (s *shop) readDocuments() {
	for operation, path := range map[string]string{"Contract": "/openapi.yaml", "Docs": "/docs", "DocsFile": "/docs/served.yaml"} {
		answer, _ := s.try(exchange{operation: operation, request: "GET " + path, status: 200})
		s.try(exchange{operation: operation, request: "GET " + path, header: "If-None-Match: " + answer.Header.Get("ETag"), status: 304})
	}
	s.try(exchange{operation: "DocsFile", request: "GET /docs/openapi-explorer.min.js", status: 200})
	s.try(exchange{operation: "DocsFile", request: "GET /docs/nothing", status: 404})
}

// operateRelay parks two events, and decides about them.
func (s *shop) operateRelay() {
	db, err := sql.Open("pgx", s.database)
	require.NoError(s.t, err)
	defer db.Close()
	_, err = db.ExecContext(s.t.Context(), `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, aggregate_version, event_type, subject, payload)
		SELECT gen_random_uuid(), 'order', 'odd-' || g, 1, 'odd.v1', 'orders', '{}' FROM generate_series(1, 2) AS g`)
	require.NoError(s.t, err)
	require.Eventually(s.t, func() bool {
		var parked int
		err := db.QueryRowContext(s.t.Context(), "SELECT count(*) FROM outbox_parked").Scan(&parked)
		return err == nil && parked == 2
	}, 20*time.Second, 20*time.Millisecond)

	s.operate(exchange{operation: "Health", request: "GET /healthz", status: 200})
	s.operate(exchange{operation: "Readiness", request: "GET /readyz", status: 200})
	s.operate(exchange{operation: "Readiness", request: "GET /readyz", token: infra.AdminToken, status: 200})
	for operation, path := range map[string]string{
		"ListRelays": "/relays", "OutboxStatus": "/outbox/status", "ListOutboxEvents": "/outbox/events", "ListParkedEvents": "/outbox/parked",
		"GroupParkedEvents": "/outbox/parked/groups", "ListProfiles": "/debug/pprof/", "Profile": "/debug/pprof/heap", "ListSubscribers": "/subscribers",
		"GroupDeadLetters": "/subscribers/emails/letters/groups",
	} {
		s.operate(exchange{operation: operation, request: "GET " + path, token: infra.AdminToken, status: 200})
		s.operate(exchange{operation: operation, request: "GET " + path, status: 401, forbidden: true})
		s.operate(exchange{operation: operation, request: "GET " + path, token: "wrong", status: 401})
	}
	s.operate(exchange{operation: "Profile", request: "GET /debug/pprof/goroutine?debug=1", token: infra.AdminToken, status: 200})
	s.operate(exchange{operation: "Profile", request: "GET /debug/pprof/nothing", token: infra.AdminToken, status: 404})
	s.operate(exchange{operation: "ListOutboxEvents", request: "GET /outbox/events?state=parked&limit=1", token: infra.AdminToken, status: 200})
	s.operate(exchange{operation: "ListOutboxEvents", request: "GET /outbox/events?state=lost", token: infra.AdminToken, status: 400, forbidden: true})
	s.operate(exchange{operation: "ListParkedEvents", request: "GET /outbox/parked?limit=0", token: infra.AdminToken, status: 400, forbidden: true})

	post := func(operation, request string, status int, forbidden bool) string {
		s.t.Helper()
		return s.operate(exchange{operation: operation, request: "POST " + request, token: infra.AdminToken, status: status, forbidden: forbidden})
	}
	require.JSONEq(s.t, `{"chosen": 2, "behind": 0, "changed": 0}`, post("RedriveChosenEvents", `/outbox/parked/redrive {"all": true, "dry_run": true}`, 200, false))
	post("RedriveChosenEvents", `/outbox/parked/redrive {}`, 400, true)
	post("DiscardChosenEvents", `/outbox/parked/discard {"aggregate": "order/odd-1"}`, 200, false)
	post("DiscardChosenEvents", `/outbox/parked/discard {"all": false}`, 400, true)
	post("RedriveEvents", `/outbox/redrive {"aggregate": "order/odd-2"}`, 200, false)
	post("RedriveEvents", `/outbox/redrive {"aggregate": "order/none"}`, 404, false)
	post("RedriveEvents", `/outbox/redrive {"all": true, "aggregate": "order/none"}`, 400, true)
}

// operateSubscriber decides about dead letters, and operates their subscriber.
func (s *shop) operateSubscriber() {
	post := func(operation, request string, status int, forbidden bool) string {
		s.t.Helper()
		return s.operate(exchange{operation: operation, request: "POST " + request, token: infra.AdminToken, status: status, forbidden: forbidden})
	}
	const letters = "/subscribers/emails/letters"
	groups := exchange{operation: "GroupDeadLetters", request: "GET " + letters + "/groups", token: infra.AdminToken, status: 200}
	for began := time.Now(); strings.Contains(s.operate(groups), `"groups":[]`); time.Sleep(100 * time.Millisecond) {
		require.Less(s.t, time.Since(began), 20*time.Second, "no call of the subscriber has failed")
	}
	s.operate(exchange{operation: "GroupDeadLetters", request: "GET /subscribers/nobody/letters/groups", token: infra.AdminToken, status: 404})
	for operation, verb := range map[string]string{"RetryDeadLetters": "retry", "DiscardDeadLetters": "discard"} {
		post(operation, letters+"/"+verb+` {"all": true, "dry_run": true}`, 200, false)
		post(operation, letters+"/"+verb+` {"type": "outboxie.order.created.v1"}`, 200, false)
		post(operation, "/subscribers/nobody/letters/"+verb+` {"all": true}`, 404, false)
		post(operation, letters+"/"+verb+` {"everything": true}`, 400, true)
	}
	for _, change := range []string{
		`{"verb": "pause"}`, `{"verb": "rewind", "to": "start", "confirm": true}`, `{"verb": "skip", "to": "end", "confirm": true}`, `{"verb": "lanes", "lanes": 8}`, `{"verb": "resume"}`,
		`{"verb": "ignore", "type": "outboxie.order.paid.v1"}`, `{"verb": "forget"}`,
	} {
		post("ChangeSubscriber", "/subscribers/emails "+change, 200, false)
	}
	post("ChangeSubscriber", `/subscribers/emails {"verb": "lanes", "lanes": 0}`, 400, true)
	post("ChangeSubscriber", `/subscribers/emails {"verb": "rewind", "to": "yesterday"}`, 400, false)
	post("ChangeSubscriber", `/subscribers/emails {"verb": "dance"}`, 400, true)
	post("ChangeSubscriber", `/subscribers/nobody {"verb": "pause"}`, 404, false)
}

// TestPrismNoticesViolations checks that Prism notices answers with a missing member, a missing header, an unknown status and an unknown media type,
// so that TestPrismFindsNoViolation can fail.
func TestPrismNoticesViolations(t *testing.T) {
	text, err := os.ReadFile(contractFile)
	require.NoError(t, err)
	faulty := string(text)
	plant := func(from, before, after string) {
		t.Helper()
		begin := strings.Index(faulty, from)
		require.Positive(t, begin, from)
		require.Contains(t, faulty[begin:], before)
		faulty = faulty[:begin] + strings.Replace(faulty[begin:], before, after, 1)
	}
	plant("\n    Health:\n", "required: [status]", "required: [status, since]")
	plant("operationId: Docs\n", "          content:\n", "          headers: { X-Missing: { required: true, schema: { type: string } } }\n          content:\n")
	plant("operationId: DocsFile\n", `        default: { $ref: "#/components/responses/Problem" }`+"\n", "")
	plant("\n    Unauthorized:\n", "application/problem+json", "text/html")
	file := filepath.Join(t.TempDir(), "openapi.yaml")
	require.NoError(t, os.WriteFile(file, []byte(faulty), 0o600))

	environment := []string{"DATABASE_URL=" + infra.Database(t), "NATS_URL=" + infra.Broker(t), "AUTH_ISSUER=" + infra.NewIssuer(t).Publish(), "AUTH_AUDIENCE=orders"}
	instance := infra.Serve(t, "app1", environment)
	api, admin := startPrism(t, file, instance.API()), startPrism(t, file, instance.Admin())
	for name, c := range map[string]struct{ address, request, says string }{
		"member":     {admin, "GET /healthz", "since"},
		"header":     {api, "GET /docs", "x-missing"},
		"status":     {api, "GET /docs/nothing", "status code"},
		"media type": {api, "GET /orders", "media type"},
	} {
		_, _, found := exchange{request: c.request}.send(t, c.address)
		require.NotEmpty(t, found, name)
		require.Equal(t, "response", found[0].Location[0], "%s: %v", name, found)
		require.Contains(t, strings.ToLower(fmt.Sprint(found)), c.says, name)
	}
}
