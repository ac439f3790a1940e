package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/assylzhan-a/outboxie/internal/adapters/httpapi"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// fakeOperations is a fake of the operators' ports. It returns the values that the test has set, and records its calls.
type fakeOperations struct {
	operations.ParkingAdmin
	state   operations.RelayStatus
	listed  []operations.ListedEvent
	waiting []relay.ParkedEvent
	filter  operations.EventFilter
	limit   int
	redrive []string
	err     error
}

func (o *fakeOperations) Status(context.Context) (operations.RelayStatus, error) {
	return o.state, o.err
}

func (o *fakeOperations) List(_ context.Context, filter operations.EventFilter) ([]operations.ListedEvent, error) {
	o.filter = filter
	return o.listed, o.err
}

func (o *fakeOperations) Measure(context.Context, outbox.Position) (operations.RelayMetrics, error) {
	panic("what is measured is at /metrics")
}

func (o *fakeOperations) Waiting(_ context.Context, limit int) ([]relay.ParkedEvent, error) {
	o.limit = limit
	return o.waiting, o.err
}

func (o *fakeOperations) Redrive(_ context.Context, key *outbox.Key) (int, error) {
	o.redrive = append(o.redrive, fmt.Sprint(key))
	return 3, o.err
}

// adminService is a running admin listener. Each answer is checked against openapi.yaml.
type adminService struct {
	*fakeOperations
	t    *testing.T
	base string
}

func newAdminService(t *testing.T, adjust ...func(*httpapi.AdminOptions)) *adminService {
	t.Helper()
	b := &adminService{fakeOperations: &fakeOperations{}, t: t}
	options := httpapi.AdminOptions{
		Addr: "127.0.0.1:0", Open: true, Inspector: b.fakeOperations, ParkingAdmin: b.fakeOperations, Logger: slog.New(slog.DiscardHandler),
		TracerProvider: sdktrace.NewTracerProvider(), Propagator: propagation.TraceContext{},
	}
	for _, change := range adjust {
		change(&options)
	}
	b.base = run(t, httpapi.NewAdmin(options).Server)
	return b
}

// ask makes a request in a known trace.
func (b *adminService) ask(method, path, body string, headers ...string) orderResponse {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, strings.NewReader(body))
	require.NoError(b.t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(b.t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	require.NoError(b.t, response.Body.Close())
	got := orderResponse{response.StatusCode, response.Header, string(text)}
	requireConforming(b.t, request, got)
	return got
}

func TestOutboxStatus(t *testing.T) {
	b := newAdminService(t)
	b.state = operations.RelayStatus{
		Relay: "ORDERS", Now: noon, Position: 7, SavedAt: noon.Add(-time.Second), Stream: "ORDERS", Sequence: 9, LastPosition: 8, PurgedTo: 2,
		Unpublished: 1, Oldest: noon.Add(-time.Minute), ParkedEvents: 4, ParkedAggregates: 3,
		Leader:            &operations.Leader{Holder: "api-1", Token: 3, Since: noon, Until: noon.Add(time.Second)},
		Halt:              &operations.RecordedHalt{Halt: *relay.NewHalt(relay.HaltTailGone, "gone"), Since: noon},
		OldestTransaction: &operations.OpenTransaction{Session: 12, Application: "billing", State: "active", Query: "INSERT"},
		HaltedInstances: []operations.InstanceHalt{
			{Instance: "api-2", RecordedHalt: operations.RecordedHalt{Halt: *relay.NewHalt(relay.HaltStreamMissing, "not there"), Since: noon}},
		},
		SequenceCheck: operations.SequenceCheck{Misplaced: 2, NextPosition: 9, HighestPosition: 8},
	}
	got := b.ask("GET", "/outbox/status", "")
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, trace, got.header.Get("Trace-Id"))
	require.JSONEq(t, `{"state":"halted","relay":"ORDERS","now":"2026-11-05T12:30:00Z","position":7,"saved_at":"2026-11-05T12:29:59Z",
		"stream":"ORDERS","stream_sequence":9,"last_position":8,"purged_to":2,"unpublished":1,
		"oldest_unpublished_at":"2026-11-05T12:29:00Z","parked_events":4,"parked_aggregates":3,"misplaced":2,"next_position":9,"subscribers":null,
		"leader":{"holder":"api-1","token":3,"since":"2026-11-05T12:30:00Z","until":"2026-11-05T12:30:01Z"},
		"halt":{"reason":"tail_gone","detail":"gone","since":"2026-11-05T12:30:00Z","meaning":`+
		`"The end of the stream was deleted or has expired, so the stream does not show any more what was published last."},
		"open_writer":{"pid":12,"gid":"","application":"billing","state":"active","query":"INSERT","since":null},
		"halted_instances":[{"instance":"api-2","reason":"stream_missing","detail":"not there","since":"2026-11-05T12:30:00Z"}]}`, got.body)
	b.state = operations.RelayStatus{Relay: "ORDERS", Now: noon}
	require.JSONEq(t, `{"state":"leaderless","relay":"ORDERS","now":"2026-11-05T12:30:00Z","leader":null,"halt":null,"position":0,
		"saved_at":null,"stream":"","stream_sequence":0,"last_position":0,"purged_to":0,"unpublished":0,"oldest_unpublished_at":null,
		"open_writer":null,"parked_events":0,"parked_aggregates":0,"halted_instances":[],"misplaced":0,"next_position":0,"subscribers":null}`, b.ask("GET", "/outbox/status", "").body)
}

func TestOutboxEvents(t *testing.T) {
	b := newAdminService(t)
	require.Equal(t, "[]", b.ask("GET", "/outbox/events", "").body)
	require.Equal(t, operations.EventFilter{Limit: 50, Payloads: true}, b.filter)
	b.listed = []operations.ListedEvent{{Reason: "too large", State: "parked", Entry: outbox.Entry{
		Position: 4, RecordedAt: noon, Message: outbox.Message{
			ID: "e", Type: "t", Subject: "s", Key: outbox.Key{Type: "order", ID: "o"}, Version: 2,
			Headers: map[string]string{"a": "b"}, Payload: []byte(`{"x":1.50}`),
		},
	}}}
	got := b.ask("GET", "/outbox/events?aggregate=voucher/7&type=t&since=2026-11-05T21:30:00%2B09:00&state=parked&limit=1000", "")
	require.Equal(t, `[{"position":4,"event_id":"e","state":"parked","reason":"too large","aggregate_type":"order","aggregate_id":"o",`+
		`"aggregate_version":2,"type":"t","subject":"s","recorded_at":"2026-11-05T12:30:00Z","headers":{"a":"b"},"payload":{"x":1.50}}]`, got.body)
	require.True(t, b.filter.Since.Equal(noon))
	require.Equal(t, "parked", b.filter.State)
	deep := strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) // Postgres accepts such JSON, package json does not
	b.listed[0].Payload = []byte(deep)
	require.Contains(t, b.ask("GET", "/outbox/events?aggregate=voucher/7&type=t&limit=1000", "").body, `"payload":"`+deep+`"}]`)
	b.filter.Since = time.Time{}
	require.Equal(t, operations.EventFilter{Aggregate: outbox.Key{Type: "voucher", ID: "7"}, Type: "t", Limit: 1000, Payloads: true}, b.filter)

	b.listed[0].Payload, b.listed[0].Omitted = nil, "it takes more than 1048576 bytes"
	require.Contains(t, b.ask("GET", "/outbox/events", "").body, `"payload":null,"payload_omitted":"it takes more than 1048576 bytes"}]`)

	const reason = "is neither the UUID of an order nor the TYPE/ID of another aggregate"
	requireProblem(t, b.ask("GET", "/outbox/events?aggregate=7&type=&limit=1001&since=now&state=Parked&x=y", ""), 400, "invalid_request", wrongFields, `[
		{"parameter":"x","reason":"is not known; known are aggregate, type, since, state, limit"},
		{"parameter":"since","reason":"must be a time such as 2026-11-25T08:00:00Z"},
		{"parameter":"limit","reason":"must be a whole number from 1 to 1000"},
		{"parameter":"aggregate","reason":"`+reason+`"},
		{"parameter":"type","reason":"must be a type such as outboxie.order.paid.v1"},
		{"parameter":"state","reason":"must be one of unpublished, published, misplaced, parked, redrive, redriven, discarded"}]`)
	requireProblem(t, b.ask("GET", "/outbox/events?type=%00", ""), 400, "invalid_request", wrongFields,
		parameter("type", "must be a type such as outboxie.order.paid.v1"))
}

func TestOutboxParked(t *testing.T) {
	b := newAdminService(t)
	require.JSONEq(t, `{"waiting":0,"aggregates":0,"events":[]}`, b.ask("GET", "/outbox/parked", "").body)
	require.Equal(t, 100, b.limit)
	b.state = operations.RelayStatus{ParkedEvents: 3, ParkedAggregates: 2}
	b.waiting = []relay.ParkedEvent{{
		Progress: outbox.Progress{Position: 4, EventID: "e"}, Key: outbox.Key{Type: "order", ID: "o"}, Type: "t", Reason: "too large",
		State: relay.Redrive, ParkedAt: noon, ChangedAt: noon,
	}}
	require.JSONEq(t, `{"waiting":3,"aggregates":2,"events":[{"position":4,"event_id":"e","aggregate_type":"order","aggregate_id":"o",
		"type":"t","state":"redrive","reason":"too large","parked_at":"2026-11-05T12:30:00Z","changed_at":"2026-11-05T12:30:00Z"}]}`,
		b.ask("GET", "/outbox/parked?limit=1", "").body)
	require.Equal(t, 1, b.limit)
	requireProblem(t, b.ask("GET", "/outbox/parked?limit=-1", ""), 400, "invalid_request", wrongFields,
		parameter("limit", "must be a whole number from 1 to 1000"))
}

func TestOutboxRedrive(t *testing.T) {
	b := newAdminService(t)
	for _, body := range []string{`{"all":true}`, `{"aggregate":"voucher/7"}`, `{"aggregate":"` + strings.ToUpper(customer) + `"}`} {
		got := b.ask("POST", "/outbox/redrive", body)
		require.Equal(t, http.StatusOK, got.status, got.body)
		require.JSONEq(t, `{"redriven":3}`, got.body)
	}
	asked := []string{"<nil>", "voucher/7", "order/" + customer}
	require.Equal(t, asked, b.redrive)
	const either = "needs either aggregate or all"
	for body, errors := range map[string]string{
		`{}`:                              field("", either),
		`{"all":true,"aggregate":"a/b"}`:  field("", either),
		`{"all":false}`:                   field("all", "must be true, or left out"),
		`{"all":"true"}`:                  field("all", "must be true, or left out"),
		`{"aggregate":7}`:                 field("aggregate", "must be a string, not a number"),
		`{"aggregate":"7"}`:               field("aggregate", "is neither the UUID of an order nor the TYPE/ID of another aggregate"),
		`{"everything":true,"all": true}`: field("everything", "is not known; known are aggregate, all"),
	} {
		got := b.ask("POST", "/outbox/redrive", body)
		require.Equal(t, http.StatusBadRequest, got.status)
		var problem httpapi.Problem
		require.NoError(t, json.Unmarshal([]byte(got.body), &problem))
		wrong, err := json.Marshal(problem.Errors)
		require.NoError(t, err)
		require.JSONEq(t, errors, string(wrong))
		require.Equal(t, body != `{"aggregate":"7"}`, contractRefuses(t, "/outbox/redrive", body), "what the contract says of %s", body)
	}
	requireProblem(t, b.ask("POST", "/outbox/redrive", ""), 400, "malformed_body", "a body is required: a JSON object", "")
	requireProblem(t, b.ask("POST", "/outbox/redrive", "all=true", "Content-Type: application/x-www-form-urlencoded"), 415,
		"unsupported_media_type", "the body must be sent as application/json in UTF-8", "")
	require.Equal(t, asked, b.redrive, "nothing else was redriven")
	b.err = relay.ErrNotParked.With("no event of a/b is parked")
	requireProblem(t, b.ask("POST", "/outbox/redrive", `{"aggregate":"a/b"}`), 404, "not_parked", "no event of a/b is parked", "")
}

func TestErrorsOfTheOutboxRoutes(t *testing.T) {
	b := newAdminService(t)
	b.err = relay.ErrNotParked.Wrap(context.DeadlineExceeded) // the wrapped error does not matter
	for _, path := range []string{"/outbox/status", "/outbox/events", "/outbox/parked"} {
		requireProblem(t, b.ask("GET", path, ""), 404, "not_parked", relay.ErrNotParked.Detail, "")
	}
}

func TestProfiles(t *testing.T) {
	b := newAdminService(t)
	for path, want := range map[string]string{
		"/": "goroutine", "/cmdline": "httpapi.test", "/goroutine?debug=1": "goroutine profile", "/heap": "\x1f\x8b", "/symbol": "num_symbols",
		"/profile?seconds=1": "\x1f\x8b", "/trace?seconds=0.1": "go 1.",
	} {
		got := b.ask("GET", "/debug/pprof"+path, "")
		require.Equal(t, http.StatusOK, got.status, path)
		require.Contains(t, got.body, want)
	}
	for _, path := range []string{"/debug/pprof/none", "/debug/pprof/../x", "/debug", "/debug/"} {
		requireProblem(t, b.ask("GET", path, ""), 404, "route_not_found", "there is nothing at this path", "")
	}
}

// TestThePublicListenerHasNoneOfThis checks that the API's listener does not have the operators' routes.
func TestThePublicListenerHasNoneOfThis(t *testing.T) {
	s := start(t)
	for _, path := range []string{
		"/outbox/status", "/outbox/events", "/outbox/parked", "/outbox/redrive", "/debug/pprof/", "/debug/pprof/heap", "/healthz", "/readyz", "/metrics",
	} {
		for _, method := range []string{"GET", "POST"} {
			got := s.sendOutside(method, path)
			requireProblem(t, got, 404, "route_not_found", "there is nothing at this path", "")
		}
	}
}

// TestProbesAreNotTraced checks that probes, which come every few seconds, make no spans.
func TestProbesAreNotTraced(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	b := newAdminService(t, func(o *httpapi.AdminOptions) {
		o.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	})
	b.ask("GET", "/healthz", "")
	b.ask("GET", "/readyz", "")
	b.ask("GET", "/outbox/status", "")
	require.Eventually(t, func() bool { return len(spans.Ended()) == 1 }, 5*time.Second, time.Millisecond)
	require.Equal(t, "GET /outbox/status", spans.Ended()[0].Name())
}
