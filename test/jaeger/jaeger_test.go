//go:build jaeger

// Package jaeger_test looks at deliveries in a real Jaeger, through its query API. `make test-jaeger` runs it: it needs a Jaeger, and building
// one takes minutes, so it is no part of `go test ./...`.
package jaeger_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/jaeger"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func TestMain(m *testing.M) { infra.Main(m) }

const waitTimeout = 60 * time.Second

// server is a Jaeger for one test.
type server struct {
	*jaeger.Client
	t     *testing.T
	url   string
	began time.Time
}

// start starts the Jaeger that JAEGER_BIN names, and stops it when the test ends.
func start(t *testing.T) *server {
	t.Helper()
	binary := os.Getenv("JAEGER_BIN")
	require.NotEmpty(t, binary, "JAEGER_BIN is not set: run `make test-jaeger`")
	host := "127.0.0.1"
	if runtime.GOOS == "linux" { // all of 127.0.0.0/8 is loopback, so no other Jaeger is in the way
		host = fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
	}
	var said bytes.Buffer
	command := exec.Command(binary, "--config=jaeger.yaml")
	command.Env = append(os.Environ(), "JAEGER_HOST="+host)
	command.Stdout, command.Stderr = &said, &said
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill() // it keeps nothing
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s\n%s", binary, said.String())
		}
	})
	s := &server{t: t, url: "http://" + host + ":16686", began: time.Now().Add(-time.Minute)}
	var err error
	s.Client, err = jaeger.New(s.url)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err = s.Services(t.Context())
		return err == nil
	}, waitTimeout, 20*time.Millisecond, "Jaeger does not start: %v", err)
	return s
}

// environment returns the settings of programs: a new database, the broker and this Jaeger.
func (s *server) environment(broker string, more ...string) []string {
	return append([]string{
		"DATABASE_URL=" + infra.Database(s.t), "NATS_URL=" + broker, "JAEGER_URL=" + s.url, "OUTBOX_LEASE_TTL=1s",
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.otlp(), "OTEL_BSP_SCHEDULE_DELAY=50",
	}, more...)
}

func (s *server) otlp() string { return s.url[:len(s.url)-len("16686")] + "4318" }

// await waits until Jaeger has a trace of which complete is true.
func (s *server) await(id string, complete func([]infra.Span) bool) jaeger.Trace {
	s.t.Helper()
	var trace jaeger.Trace
	if !eventually(func() bool {
		var err error
		trace, err = s.Trace(s.t.Context(), id)
		return err == nil && complete(spansOf(trace.Spans))
	}) {
		s.t.Fatalf("trace %s is never complete: %+v", id, spansOf(trace.Spans))
	}
	return trace
}

// search waits until a span of that name has that tag, and returns all of them.
func (s *server) search(name, tag, value string) []jaeger.Span {
	s.t.Helper()
	var found []jaeger.Span
	require.True(s.t, eventually(func() bool {
		found = nil
		traces, err := s.Find(s.t.Context(), tag, value, s.began)
		require.NoError(s.t, err)
		for _, trace := range traces {
			found = append(found, slices.DeleteFunc(trace.Spans, func(span jaeger.Span) bool {
				return span.Name != name || span.Text(tag) != value
			})...)
		}
		return len(found) > 0
	}), "no span %q has %s=%s", name, tag, value)
	return found
}

// named returns a span of that name. Each complete trace has one.
func named(trace jaeger.Trace, name string) jaeger.Span {
	return trace.Spans[slices.IndexFunc(trace.Spans, func(s jaeger.Span) bool { return s.Name == name })]
}

func eventually(condition func() bool) bool {
	for end := time.Now().Add(waitTimeout); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if condition() {
			return true
		}
	}
	return false
}

// spansOf converts Jaeger's spans to the spans that a collector receives. OpenTelemetry's links and parents are both references in Jaeger: a
// parent is CHILD_OF, a link FOLLOWS_FROM, and a parent that is linked to as well is one reference, FOLLOWS_FROM.
func spansOf(spans []jaeger.Span) []infra.Span {
	read := make([]infra.Span, len(spans))
	for i, span := range spans {
		read[i] = infra.Span{
			TraceID: span.TraceID, SpanID: span.ID, ParentID: span.Parent(), Name: span.Name, Kind: span.Text("span.kind"),
			Service: span.Service, Instance: span.Instance, Attributes: span.Tags,
			Start: span.Start, End: span.Start.Add(span.Duration),
		}
		for _, to := range span.References {
			if to.Kind == jaeger.FollowsFrom {
				read[i].Links = append(read[i].Links, infra.Link{TraceID: to.TraceID, SpanID: to.SpanID})
			}
		}
	}
	return read
}
