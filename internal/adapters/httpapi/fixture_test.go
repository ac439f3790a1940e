package httpapi_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/goleak"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	customer = "550e8400-e29b-41d4-a716-446655440000"
	firstID  = "00000000-0000-7000-8000-000000000001"
	trace    = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// shop is an orders.Service that keeps real orders in memory. Its ids and its clock are known. It only records keys, guards and filters.
// The test sets the results of List and Events.
type shop struct {
	mu      sync.Mutex
	orders  map[order.ID]*order.Order
	keys    []orders.Key                    // one for each order
	guards  []orders.Precondition           // one for each change
	filter  orders.Filter                   // the last one
	page    orders.Page                     // returned by List
	events  []orders.Event                  // returned by Events
	instead func(ctx context.Context) error // runs before each call; its error is the result of the call
}

var (
	zone  = time.FixedZone("far east", 9*60*60)
	noon  = time.Date(2026, 11, 5, 21, 30, 0, 0, zone)
	later = noon.Add(time.Hour)
)

func (s *shop) Place(
	ctx context.Context, who order.Principal, customer value.CustomerID, amount value.Money, key orders.Key,
) (order.Snapshot, error) {
	if err := s.interfere(ctx); err != nil {
		return order.Snapshot{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := order.ID(fmt.Sprintf("00000000-0000-7000-8000-%012d", len(s.orders)+1))
	placed, err := order.Place(id, customer, amount, noon)
	if err != nil {
		return order.Snapshot{}, err
	}
	s.orders[id], s.keys = placed, append(s.keys, key)
	return placed.Snapshot(), nil
}

func (s *shop) Pay(ctx context.Context, who order.Principal, id order.ID, reference value.Note, guard orders.Precondition) (order.Snapshot, error) {
	return s.change(ctx, id, guard, func(o *order.Order) (order.Snapshot, error) { return o.Pay(reference, later) })
}

func (s *shop) Ship(
	ctx context.Context, who order.Principal, id order.ID, carrier, tracking value.Note, guard orders.Precondition,
) (order.Snapshot, error) {
	return s.change(ctx, id, guard, func(o *order.Order) (order.Snapshot, error) { return o.Ship(carrier, tracking, later) })
}

func (s *shop) Cancel(ctx context.Context, who order.Principal, id order.ID, reason value.Note, guard orders.Precondition) (order.Snapshot, error) {
	return s.change(ctx, id, guard, func(o *order.Order) (order.Snapshot, error) { return o.Cancel(reason, later) })
}

func (s *shop) Get(ctx context.Context, who order.Principal, id order.ID) (order.Snapshot, error) {
	return s.find(ctx, id, func(o *order.Order) (order.Snapshot, error) { return o.Snapshot(), nil })
}

func (s *shop) List(ctx context.Context, who order.Principal, filter orders.Filter) (orders.Page, error) {
	s.filter = filter
	return s.page, s.interfere(ctx)
}

func (s *shop) Events(ctx context.Context, who order.Principal, id order.ID) ([]orders.Event, error) {
	_, err := s.Get(ctx, who, id)
	return s.events, err
}

func (s *shop) change(
	ctx context.Context, id order.ID, guard orders.Precondition, do func(*order.Order) (order.Snapshot, error),
) (order.Snapshot, error) {
	s.guards = append(s.guards, guard)
	return s.find(ctx, id, do)
}

func (s *shop) find(ctx context.Context, id order.ID, do func(*order.Order) (order.Snapshot, error)) (order.Snapshot, error) {
	if err := s.interfere(ctx); err != nil {
		return order.Snapshot{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.orders[id]
	if !ok {
		return order.Snapshot{}, orders.ErrOrderNotFound
	}
	return do(found)
}

func (s *shop) interfere(ctx context.Context) error {
	if s.instead == nil {
		return nil
	}
	return s.instead(ctx)
}

// service is a running API with the means to call it. Each answer is checked against openapi.yaml.
type service struct {
	t      *testing.T
	api    *httpapi.API
	shop   *shop
	logged *logged
	base   string
}

func start(t *testing.T, adjust ...func(*httpapi.Options)) *service {
	t.Helper()
	s := &service{t: t, shop: &shop{orders: map[order.ID]*order.Order{}}, logged: new(logged)}
	options := httpapi.Options{
		Addr:           "127.0.0.1:0",
		Service:        s.shop,
		Logger:         slog.New(slog.NewJSONHandler(s.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		TracerProvider: sdktrace.NewTracerProvider(),
		Propagator:     propagation.TraceContext{},
	}
	for _, change := range adjust {
		change(&options)
	}
	s.api = httpapi.NewAPI(options)
	s.base = run(t, s.api.Server)
	return s
}

// run runs a server until the test ends, and returns the server's URL.
func run(t *testing.T, server *httpapi.Server) string {
	t.Helper()
	require.NoError(t, server.Listen(t.Context()))
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, server.Shutdown(ctx))
		require.NoError(t, <-served)
		http.DefaultClient.CloseIdleConnections()
	})
	return "http://" + server.Addr()
}

type orderResponse struct {
	status int
	header http.Header
	body   string
}

// send makes a request in a known trace. Header lines such as "Content-Type: text/plain" replace the usual ones.
func (s *service) send(method, path, body string, headers ...string) orderResponse {
	s.t.Helper()
	return s.sendReader(method, path, strings.NewReader(body), headers...)
}

func (s *service) sendReader(method, path string, body io.Reader, headers ...string) orderResponse {
	s.t.Helper()
	request := s.request(method, path, body)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if request.Header.Del(name); value != "" {
			request.Header.Set(name, value)
		}
	}
	return s.do(request)
}

// sendLines makes a POST request that has one header several times.
func (s *service) sendLines(path, body, header string, lines ...string) orderResponse {
	s.t.Helper()
	request := s.request(http.MethodPost, path, strings.NewReader(body))
	request.Header[header] = lines
	return s.do(request)
}

func (s *service) request(method, path string, body io.Reader) *http.Request {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, body)
	require.NoError(s.t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	return request
}

// sendOutside makes a request to a path that the contract promises on the other listener only.
func (s *service) sendOutside(method, path string) orderResponse {
	s.t.Helper()
	got := s.exchange(s.request(method, path, http.NoBody))
	require.Equal(s.t, trace, got.header.Get("Trace-Id"))
	return got
}

func (s *service) do(request *http.Request) orderResponse {
	s.t.Helper()
	got := s.exchange(request)
	require.Equal(s.t, trace, got.header.Get("Trace-Id"))
	requireConforming(s.t, request, got)
	return got
}

func (s *service) exchange(request *http.Request) orderResponse {
	s.t.Helper()
	response, err := http.DefaultClient.Do(request)
	require.NoError(s.t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.NoError(s.t, response.Body.Close())
	return orderResponse{response.StatusCode, response.Header, string(text)}
}

func (s *service) place(amount string) orderResponse {
	s.t.Helper()
	got := s.send(http.MethodPost, "/orders", `{"customer_id":"`+customer+`","amount":`+amount+`}`)
	require.Equal(s.t, http.StatusCreated, got.status, got.body)
	return got
}

// requireProblem compares the whole problem document. errors is empty, or the JSON of the document's errors.
func requireProblem(t *testing.T, got orderResponse, status int, code, detail, errors string) {
	t.Helper()
	if errors != "" {
		errors = `"errors":` + errors + `,`
	}
	require.Equal(t, "application/problem+json", got.header.Get("Content-Type"))
	require.Equal(t, status, got.status, got.body)
	require.JSONEq(t, fmt.Sprintf(`{"type":"about:blank","title":%q,"status":%d,"detail":%q,"code":%q,%s"trace_id":%q}`,
		http.StatusText(status), status, detail, code, errors, trace), got.body)
}

// logged keeps the lines of a log.
type logged struct{ infra.Buffer }

// has waits until one logged line contains all parts. It waits because the server writes the line after the answer.
func (l *logged) has(t *testing.T, parts ...string) {
	t.Helper()
	require.Eventually(t, func() bool {
	lines:
		for line := range strings.Lines(l.String()) {
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue lines
				}
			}
			return true
		}
		return false
	}, 5*time.Second, time.Millisecond, "no line with %q in\n%s", parts, l)
}
