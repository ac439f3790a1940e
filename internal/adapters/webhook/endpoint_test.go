package webhook_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/webhook"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

const secret = "hunter2"

func entry() outbox.Entry {
	return outbox.Entry{
		Message: outbox.Message{
			ID: "01934567-89ab-7def-8123-456789abcdef", Type: "outboxie.order.paid.v1", Subject: "orders.paid",
			Key: outbox.Key{Type: "order", ID: `é "1"%`}, Version: 2, Payload: []byte(`{"n": 1}`),
			Headers: map[string]string{
				"tenant": "a", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ce-authtype": "service_account", "ce-authid": "caf%C3%A9",
			},
		},
		Position: 7, RecordedAt: time.Date(2026, 11, 29, 13, 0, 0, 1000, time.FixedZone("CET", 3600)),
	}
}

// to returns an endpoint for an address. The endpoint's URL contains secrets.
func to(t *testing.T, address string) *webhook.Endpoint {
	t.Helper()
	endpoint, err := webhook.New(webhook.Options{
		URL: strings.Replace(address, "://", "://shop:"+secret+"@", 1) + "/hook?token=" + secret, Source: "/outboxie/orders",
	})
	require.NoError(t, err)
	t.Cleanup(endpoint.Close)
	return endpoint
}

// serve starts a server, and returns an endpoint that calls the server.
func serve(t *testing.T, handler http.HandlerFunc) *webhook.Endpoint {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return to(t, server.URL)
}

// TestDeliver checks the request: CloudEvents in binary mode, the idempotency key, the credentials, and the trace.
func TestDeliver(t *testing.T) {
	var got *http.Request
	var body []byte
	endpoint := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
	})
	require.NoError(t, endpoint.Deliver(t.Context(), entry()))
	require.Equal(t, http.MethodPost, got.Method)
	require.Equal(t, "/hook?token="+secret, got.RequestURI)
	user, password, _ := got.BasicAuth()
	require.Equal(t, "shop "+secret, user+" "+password)
	require.Equal(t, `{"n": 1}`, string(body))
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Idempotency-Key": entry().ID, "Ce-Specversion": "1.0", "Ce-Id": entry().ID,
		"Ce-Type": "outboxie.order.paid.v1", "Ce-Source": "/outboxie/orders", "Ce-Subject": "%C3%A9%20%221%22%25",
		"Ce-Time": "2026-11-29T12:00:00.000001Z", "Ce-Dataschema": "urn:outboxie:schema:outboxie.order.paid.v1",
		"Ce-Aggregatetype": "order", "Ce-Aggregateversion": "2", "Ce-Authtype": "service_account", "Ce-Authid": "caf%C3%A9",
		"Traceparent": entry().Headers["traceparent"], "Tenant": "",
	} {
		require.Equal(t, want, got.Header.Get(name), name)
	}

	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	require.NoError(t, endpoint.Deliver(trace.ContextWithSpanContext(t.Context(), span), entry()))
	require.Equal(t, "00-01000000000000000000000000000000-0200000000000000-01", got.Header.Get("Traceparent"), "the span that calls")
}

// The kinds of answers.
const (
	taken = iota
	failed
	refused
	down
)

// requireKind checks that err is of a kind, and that its text contains no secret.
func requireKind(t *testing.T, kind int, err error, about string) {
	t.Helper()
	if kind == taken {
		require.NoError(t, err, about)
		return
	}
	require.Error(t, err, about)
	require.NotContains(t, err.Error(), secret, about)
	require.Equal(t, map[int]fault.Kind{failed: fault.Internal, refused: fault.Refused, down: fault.Unavailable}[kind], fault.KindOf(err), about)
}

// TestStatuses checks how each status of an answer is classified.
func TestStatuses(t *testing.T) {
	var status int
	var retry string
	endpoint := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if retry != "" {
			w.Header().Set("Retry-After", retry)
		}
		w.WriteHeader(status)
	})
	for _, c := range []struct {
		status int
		retry  string
		kind   int
	}{
		{200, "", taken},
		{201, "", taken},
		{204, "", taken},
		{299, "", taken},
		{408, "", failed},
		{429, "", failed},
		{429, "5", failed},
		{500, "", failed},
		{502, "5", failed},
		{503, "", failed},
		{504, "", failed},
		{503, "5", down},
		{301, "", refused},
		{304, "", refused},
		{307, "", refused},
		{400, "", refused},
		{401, "", refused},
		{404, "", refused},
		{409, "", refused},
		{410, "", refused},
		{422, "", refused},
	} {
		status, retry = c.status, c.retry
		requireKind(t, c.kind, endpoint.Deliver(t.Context(), entry()), http.StatusText(c.status))
	}
}

// TestRedirects checks that the client follows a redirect only if it repeats the same request on the same server.
func TestRedirects(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	var arrived []string
	endpoint := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/there" {
			body, _ := io.ReadAll(r.Body)
			arrived = append(arrived, r.Method+" "+r.Header.Get("Idempotency-Key")+" "+string(body))
			return
		}
		status := http.StatusFound
		location := r.Header.Get("ce-subject")
		if strings.HasPrefix(location, "307") {
			status = http.StatusTemporaryRedirect
		}
		w.Header().Set("Location", strings.TrimPrefix(location, "307"))
		w.WriteHeader(status)
	})
	for location, kind := range map[string]int{
		"307/there": taken, "/there": refused, "307" + other.URL: refused, other.URL: refused, "307/loop": refused,
	} {
		event := entry()
		event.Key.ID = location
		requireKind(t, kind, endpoint.Deliver(t.Context(), event), location)
	}
	require.Equal(t, []string{"POST " + entry().ID + ` {"n": 1}`}, arrived, "as GET it would be lost, and look taken")
	require.Zero(t, elsewhere.Load())
}

// TestSilence checks that a server that hangs fails the event in time, unless the status has arrived. A server that cannot be
// reached is an outage.
func TestSilence(t *testing.T) {
	hang := make(chan struct{})
	before := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	within := func(endpoint *webhook.Endpoint) error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		return endpoint.Deliver(ctx, entry())
	}
	err := within(before)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	requireKind(t, failed, err, "hung")

	endless := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 4096))
		}
	})
	requireKind(t, taken, within(endless), "the status has come")

	broken := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = connection.Close()
		}
	})
	requireKind(t, failed, within(broken), "closed without an answer")

	closed, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	requireKind(t, down, within(to(t, "http://"+closed.Addr().String())), "refused")
	requireKind(t, down, within(to(t, "http://nowhere.invalid")), "no such name")

	foreign := httptest.NewTLSServer(http.NotFoundHandler())
	defer foreign.Close()
	requireKind(t, down, within(to(t, foreign.URL)), "a certificate that nobody knows")

	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, before.Deliver(ended, entry()), context.Canceled)
}

// TestEndlessAnswerIsLeft checks that the client soon stops reading an answer whose body never ends, once the status has
// arrived.
func TestEndlessAnswerIsLeft(t *testing.T) {
	drips := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte{'.'})
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, drips.Deliver(ctx, entry()))
	require.NoError(t, ctx.Err())
}

// TestEndpointGoesAway checks an endpoint that closes a kept connection and accepts no new one. This is an outage, not a
// failure of the event, because the client has tried again and reached nobody.
func TestEndpointGoesAway(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	var calls atomic.Int64
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if calls.Add(1) == 1 {
			return
		}
		_ = listener.Close()
		if connection, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = connection.Close()
		}
	})}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()
	endpoint := to(t, "http://"+listener.Addr().String())
	require.NoError(t, endpoint.Deliver(t.Context(), entry()))
	requireKind(t, down, endpoint.Deliver(t.Context(), entry()), "gone")
	require.EqualValues(t, 2, calls.Load())
}

// TestURLs checks that a text that is no URL is refused, and that the error does not contain the text's secret.
func TestURLs(t *testing.T) {
	for _, text := range []string{"", "hunter2", "http://", "http://%zz" + secret} {
		_, err := webhook.New(webhook.Options{URL: text})
		require.Error(t, err, text)
		require.NotContains(t, err.Error(), secret)
	}
}
