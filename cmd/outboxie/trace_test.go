package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jaeger"
)

// The trace of an order whose event was late because the broker was away, and the trace of the batch that carried the event. A real Jaeger
// returned both in test/jaeger. The tags that are not drawn are left out.
const (
	tracedOrder = "01a21333-0169-75ee-99a8-6ee3258f7d5e"
	orderTrace  = "1a72dccc140f19087234edc954460e34"
)

// fakeJaeger is a query service that has only the trace orderTrace, or no trace.
func fakeJaeger(t *testing.T, knows bool) string {
	t.Helper()
	read := func(file string) []byte {
		text, err := os.ReadFile("testdata/jaeger/" + file)
		require.NoError(t, err)
		return text
	}
	trace, batch := read("trace.json"), read("batch.json")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := []byte(`{"data":[],"errors":null}`)
		switch {
		case r.URL.Path == "/api/services":
			answer = []byte(`{"data":["outboxie","outboxie-subscriber"],"errors":null}`)
		case r.URL.Path == "/api/traces" && knows && r.FormValue("tags") == `{"outboxie.aggregate.id":"`+tracedOrder+`"}`:
			answer = trace
		case strings.HasPrefix(r.URL.Path, "/api/traces/"):
			answer = batch
		}
		_, _ = w.Write(answer)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestTraceCommand(t *testing.T) {
	url := fakeJaeger(t, true)
	golden, err := os.ReadFile("testdata/jaeger/drawn.txt")
	require.NoError(t, err)
	want := strings.ReplaceAll(string(golden), "http://localhost:16686", url)
	code, stdout, stderr := command(t, []string{"JAEGER_URL=" + url}, "trace", tracedOrder)
	require.Equal(t, exitClean, code, stderr)
	require.Equal(t, want, stdout, "if it is meant, write it to testdata/jaeger/drawn.txt")
	code, stdout, _ = command(t, nil, "trace", "order/"+tracedOrder, "--jaeger-url", url)
	require.Equal(t, exitClean, code)
	require.Equal(t, want, stdout)
}

func TestTraceCommandSaysWhyThereIsNone(t *testing.T) {
	o := newOperators(t)
	o.record(o.db, orderA, 1, "outboxie.order.created.v1")
	const sampled = "0af7651916cd43dd8448eb211c80319c"
	o.record(o.db, orderB, 1, "outboxie.order.created.v1")
	o.rewrite(`headers = '{"traceparent": "00-` + sampled + `-b7ad6b7169203331-01"}' WHERE aggregate_id = '` + orderB + `'`)
	unknown := uuid.Must(uuid.NewV7()).String()
	database, nothing, closed := "DATABASE_URL="+o.address, "JAEGER_URL="+fakeJaeger(t, false), "JAEGER_URL=http://127.0.0.1:1"
	for name, c := range map[string]struct {
		environment []string
		args        []string
		code        int
		says        []string
	}{
		"no Jaeger":     {[]string{closed}, []string{unknown}, exitFailed, []string{"connection refused", "JAEGER_URL", "http://127.0.0.1:1"}},
		"unknown":       {[]string{nothing, database}, []string{unknown}, exitFailed, []string{"there is no order/" + unknown}},
		"not sampled":   {[]string{nothing, database}, []string{orderA}, exitFailed, []string{"was not traced", "1 event", "OTEL_TRACES_SAMPLER"}},
		"not in Jaeger": {[]string{nothing, database}, []string{orderB}, exitFailed, []string{"was traced", "does not have it", sampled}},
		"nobody knows":  {[]string{nothing}, []string{orderB}, exitFailed, []string{"has no trace of order/" + orderB, "DATABASE_URL"}},
		"no order":      {[]string{nothing}, nil, exitUsage, []string{"outboxie trace ORDER_ID"}},
		"no id":         {[]string{nothing}, []string{"x"}, exitUsage, []string{"neither the UUID of an order"}},
		"no URL":        {[]string{"JAEGER_URL=localhost:16686"}, []string{orderA}, exitUsage, []string{"JAEGER_URL", "http://localhost:16686"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := command(t, c.environment, append([]string{"trace"}, c.args...)...)
			require.Equal(t, c.code, code, stderr)
			require.Empty(t, stdout)
			for _, words := range c.says {
				require.Contains(t, stderr, words)
			}
		})
	}
}

func TestPlacedSince(t *testing.T) {
	now := time.Now()
	require.WithinDuration(t, now.Add(-time.Minute), placedSince(uuid.Must(uuid.NewV7()).String(), now), time.Second)
	require.Equal(t, now.AddDate(0, 0, -30), placedSince(uuid.NewString(), now), "such an id says nothing")
	require.Equal(t, now.AddDate(0, 0, -30), placedSince("k", now))
}

// TestDrawing checks the drawing of traces that other programs may have made.
func TestDrawing(t *testing.T) {
	start := time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC)
	span := func(id, parent, name string, after, took time.Duration, tags map[string]any) jaeger.Span {
		s := jaeger.Span{TraceID: "t", ID: id, Name: name, Service: "shop", Start: start.Add(after), Duration: took, Tags: tags}
		if parent != "" {
			s.References = []jaeger.Reference{{Kind: jaeger.ChildOf, TraceID: "t", SpanID: parent}}
		}
		return s
	}
	for name, c := range map[string]struct {
		spans []jaeger.Span
		want  []string
	}{
		"nothing took any time": {[]jaeger.Span{span("a", "", "a", 0, 0, nil)}, []string{`a     shop      0\.00 ms     0\.00 ms  ━`}},
		"hours": {
			[]jaeger.Span{span("a", "", "a", 0, time.Second, nil), span("b", "a", "b", 90*time.Second, 3*time.Hour, nil)},
			[]string{`a     shop      0\.00 ms      1\.00 s  ━`, `  b   shop      90\.00 s      3h0m0s  ━{24}`},
		},
		"a parent that is missing": {
			[]jaeger.Span{span("a", "", "a", 0, time.Second, nil), span("b", "lost", "b", 0, time.Second, nil)},
			[]string{`a +shop .*`, `b +shop .*`},
		},
		"failures": {
			[]jaeger.Span{
				span("a", "", "a", 0, 9, map[string]any{"error": true, "otel.status_description": "too\nlarge \x1b[31m"}),
				span("b", "a", "b", 1, 9, map[string]any{"error": true, "error.type": "timeout"}),
				span("c", "a", "c", 2, 9, map[string]any{"error": true}),
			},
			[]string{`a .* failed: too large \\u001b\[31m`, `  b .* failed: timeout`, `  c .* failed: no reason given`},
		},
		"a long statement": {
			[]jaeger.Span{span("a", "", "a", 0, 9, map[string]any{"db.query.text": "SELECT \"one\", two, three, four, five, six, seven"})},
			[]string{`SELECT one, two, three, four, five, six…  shop .*`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			require.NoError(t, drawTrace(&out, jaeger.Trace{ID: "t", Spans: c.spans}, nil, "http://page"))
			require.Regexp(t, `^2026-11-25T03:00:00Z  http://page\n\nSPAN +BY +AFTER +TOOK\n`+strings.Join(c.want, "\n")+"\n$", out.String())
		})
	}
}

func TestLogsAreSetUpBeforeAnythingElse(t *testing.T) {
	t.Setenv("OTEL_LOGS_EXPORTER", "pigeon")
	for _, args := range [][]string{{"serve"}, {"subscribe", "--id", "x"}} {
		code, _, stderr := command(t, []string{"DATABASE_URL=postgres://127.0.0.1:1/x"}, args...)
		require.Equal(t, exitUsage, code)
		require.Contains(t, stderr, "the OTEL_* environment cannot be used: logs: unknown exporter")
	}
}
