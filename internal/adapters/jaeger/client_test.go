package jaeger_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jaeger"
)

// answers is a fake query service. It has a fixed answer for each path, and records the requests. test/jaeger uses a real one.
type answers struct {
	*httptest.Server
	by    map[string]string
	asked []*url.URL
}

func serve(t *testing.T, by map[string]string) (*answers, *jaeger.Client) {
	t.Helper()
	a := &answers{by: by}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked = append(a.asked, r.URL)
		if said, ok := by[r.URL.Path]; ok {
			_, _ = w.Write([]byte(said))
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"data":null,"errors":[{"code":404,"msg":"trace not found"}]}`))
	}))
	t.Cleanup(a.Close)
	client, err := jaeger.New(a.URL)
	require.NoError(t, err)
	return a, client
}

func span(trace, id string, start int, references string) string {
	return fmt.Sprintf(`{"traceID":%q,"spanID":%q,"operationName":"op-%s","references":[%s],"startTime":%d,"duration":5,"processID":"p1",
		"tags":[{"key":"i","type":"int64","value":7},{"key":"f","type":"float64","value":0.5},{"key":"b","type":"bool","value":true},
			{"key":"s","type":"string","value":"x"},{"key":"big","type":"int64","value":"9007199254740993"}],
		"logs":[{"timestamp":%d,"fields":[{"key":"event","type":"string","value":"happened"},{"key":"n","type":"int64","value":2}]}]}`,
		trace, id, id, references, start, start+1)
}

func traces(list ...string) string { return `{"data":[` + strings.Join(list, ",") + `],"errors":null}` }

func traceOf(id string, spans ...string) string {
	return fmt.Sprintf(`{"traceID":%q,"spans":[%s],"processes":{"p1":{"serviceName":"shop","tags":[
		{"key":"service.instance.id","type":"string","value":"app1"}]}}}`, id, strings.Join(spans, ","))
}

func reference(kind, trace, span string) string {
	return fmt.Sprintf(`{"refType":%q,"traceID":%q,"spanID":%q}`, kind, trace, span)
}

func TestTrace(t *testing.T) {
	_, client := serve(t, map[string]string{
		"/api/traces/t1": traces(traceOf("t1", span("t1", "b", 2_000_007, reference("CHILD_OF", "t1", "a")), span("t1", "a", 1_000_000, ""))),
		"/api/traces/t2": traces(),
	})
	trace, err := client.Trace(t.Context(), "t1")
	require.NoError(t, err)
	require.Equal(t, "t1", trace.ID)
	require.Equal(t, time.UnixMicro(1_000_000), trace.Start())
	require.Equal(t, jaeger.Span{
		TraceID: "t1", ID: "b", Name: "op-b", Service: "shop", Instance: "app1",
		References: []jaeger.Reference{{Kind: jaeger.ChildOf, TraceID: "t1", SpanID: "a"}},
		Start:      time.UnixMicro(2_000_007), Duration: 5 * time.Microsecond,
		Tags:   map[string]any{"i": int64(7), "f": 0.5, "b": true, "s": "x", "big": "9007199254740993"},
		Events: []jaeger.Event{{Name: "happened", Time: time.UnixMicro(2_000_008), Tags: map[string]any{"n": int64(2)}}},
	}, trace.Spans[0])
	require.Equal(t, "7", trace.Spans[0].Text("i"))
	require.Empty(t, trace.Spans[0].Text("none"))
	require.Equal(t, "2", trace.Spans[0].Events[0].Text("n"))

	for _, missing := range []string{"t2", "t3"} {
		_, err = client.Trace(t.Context(), missing)
		require.ErrorIs(t, err, jaeger.ErrNoTrace)
	}
}

// TestParent checks how Parent finds the parent of a span. If a span also links to its parent, Jaeger returns one FOLLOWS_FROM
// reference for both. Otherwise it returns one reference for each.
func TestParent(t *testing.T) {
	child, link := jaeger.Reference{Kind: jaeger.ChildOf, TraceID: "t", SpanID: "parent"},
		jaeger.Reference{Kind: jaeger.FollowsFrom, TraceID: "t", SpanID: "linked"}
	elsewhere := jaeger.Reference{Kind: jaeger.FollowsFrom, TraceID: "other", SpanID: "batch"}
	for want, references := range map[string][]jaeger.Reference{
		"":       {elsewhere},
		"linked": {elsewhere, link},
		"parent": {link, elsewhere, child},
	} {
		require.Equal(t, want, jaeger.Span{TraceID: "t", References: references}.Parent())
	}
}

func TestFind(t *testing.T) {
	a, client := serve(t, map[string]string{
		"/api/services": `{"data":["shop","mail"],"errors":null}`,
		"/api/traces":   traces(traceOf("late", span("late", "a", 9, "")), traceOf("early", span("early", "a", 3, ""))),
	})
	found, err := client.Find(t.Context(), "order", `o"1`, time.UnixMicro(77))
	require.NoError(t, err)
	require.Len(t, found, 2, "each trace once, though both services have it")
	require.Equal(t, "early", found[0].ID)
	require.Equal(t, "late", found[1].ID)
	require.Len(t, a.asked, 3)
	for i, service := range []string{"shop", "mail"} {
		query := a.asked[i+1].Query()
		require.Equal(t, service, query.Get("service"))
		require.JSONEq(t, `{"order":"o\"1"}`, query.Get("tags"))
		require.Equal(t, "77", query.Get("start"))
		require.NotEmpty(t, query.Get("end"))
	}

	_, client = serve(t, map[string]string{"/api/services": `{"data":null,"errors":null}`})
	found, err = client.Find(t.Context(), "order", "o1", time.Time{})
	require.NoError(t, err)
	require.Empty(t, found, "a Jaeger that has seen nothing yet")
}

func TestLinked(t *testing.T) {
	a, client := serve(t, map[string]string{
		"/api/traces/batch": traces(traceOf("batch", span("batch", "x", 1, ""), span("batch", "y", 1, ""))),
	})
	trace := jaeger.Trace{ID: "t", Spans: []jaeger.Span{
		{TraceID: "t", ID: "a", References: []jaeger.Reference{{TraceID: "t", SpanID: "b"}, {TraceID: "batch", SpanID: "y"}}},
		{TraceID: "t", ID: "b", References: []jaeger.Reference{{TraceID: "batch", SpanID: "y"}, {TraceID: "gone", SpanID: "z"}}},
	}}
	linked, err := client.Linked(t.Context(), trace)
	require.NoError(t, err)
	require.Len(t, linked, 1)
	require.Equal(t, "op-y", linked[0].Name)
	require.Len(t, a.asked, 2, "each is asked for once, and what is gone is left out")
	a.by["/api/traces/batch"] = "broken"
	_, err = client.Linked(t.Context(), trace)
	require.ErrorIs(t, err, jaeger.ErrUnreachable)
}

// TestNoJaeger checks the error if another server, or none, is at the address. The error shows no secret.
func TestNoJaeger(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer page.Close()
	failing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(`{"data":null,"errors":[{"code":500,"msg":"the store is down"}]}`))
	}))
	defer failing.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"status":"up"}`)) }))
	defer other.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	missing := httptest.NewServer(http.NotFoundHandler())
	defer missing.Close()
	for address, says := range map[string]string{
		page.URL: "not answer as Jaeger does", failing.URL: "the store is down", other.URL: "not answer as Jaeger does",
		closed.URL: "connection refused", missing.URL: "not answer as Jaeger does",
	} {
		client, err := jaeger.New(strings.Replace(address, "http://", "http://me:s3cret@", 1))
		require.NoError(t, err)
		_, err = client.Find(t.Context(), "order", "o1", time.Time{})
		require.ErrorIs(t, err, jaeger.ErrUnreachable)
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "s3cret")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	client, err := jaeger.New(page.URL)
	require.NoError(t, err)
	_, err = client.Services(ended)
	require.ErrorIs(t, err, context.Canceled)
}

func TestPage(t *testing.T) {
	for base, want := range map[string]string{
		"http://localhost:16686":            "http://localhost:16686/trace/abc",
		"https://me:s3cret@host/jaeger/ui/": "https://host/jaeger/ui/trace/abc",
	} {
		client, err := jaeger.New(base)
		require.NoError(t, err)
		require.Equal(t, want, client.Page("abc"))
	}
	_, err := jaeger.New("http://[")
	require.Error(t, err)
}

// TestAddressesAreShownWithoutSecrets checks links, and the error about a Jaeger that does not answer.
func TestAddressesAreShownWithoutSecrets(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer other.Close()
	address := strings.Replace(other.URL, "http://", "http://me:s3cret@", 1) + "/ui?apikey=s3cret"
	client, err := jaeger.New(address)
	require.NoError(t, err)
	require.Equal(t, other.URL+"/ui/trace/1", client.Page("1"))
	_, err = client.Services(t.Context())
	require.ErrorContains(t, err, other.URL+"/ui/api/services does not answer as Jaeger does")
	require.NotContains(t, err.Error(), "s3cret")
	other.Close()
	_, err = client.Services(t.Context())
	require.ErrorIs(t, err, jaeger.ErrUnreachable)
	require.NotContains(t, err.Error(), "s3cret")
	_, err = jaeger.New("http://me:s3cret@[/")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "s3cret")
}
