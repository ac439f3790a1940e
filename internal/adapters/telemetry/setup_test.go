package telemetry_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"
	"go.uber.org/goleak"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/modules"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// environment sets these OTEL_* variables, and empties all others.
func environment(t *testing.T, variables ...string) {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
}

func setup(t *testing.T, log *infra.Buffer) *telemetry.Telemetry {
	t.Helper()
	tel, err := telemetry.Setup(context.Background(), telemetry.Options{
		Version: "1.2.3", InstanceID: "i1", Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	require.NoError(t, err)
	return tel
}

func TestExportsOverOTLP(t *testing.T) {
	collector := infra.Collector(t)
	environment(t, collector.Environment()...)
	log := new(infra.Buffer)
	tel := setup(t, log)
	require.True(t, tel.Exporting())

	ctx, root := tel.TracerProvider().Tracer("t").Start(context.Background(), "root")
	_, child := tel.TracerProvider().Tracer("t").Start(ctx, "child", trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithLinks(trace.Link{SpanContext: root.SpanContext()}))
	child.End()
	root.End()
	require.True(t, collector.WaitFor(func(spans []infra.Span) bool { return len(spans) == 2 }, 10*time.Second))

	span := collector.Spans()[0]
	require.Equal(t, "child", span.Name)
	require.Equal(t, "producer", span.Kind)
	require.Equal(t, "outboxie", span.Service)
	require.Equal(t, "i1", span.Instance)
	require.Equal(t, root.SpanContext().TraceID().String(), span.TraceID)
	require.Equal(t, root.SpanContext().SpanID().String(), span.ParentID)
	require.Equal(t, []infra.Link{{TraceID: span.TraceID, SpanID: span.ParentID}}, span.Links)

	_, last := tel.TracerProvider().Tracer("t").Start(context.Background(), "last")
	last.End()
	require.NoError(t, tel.Shutdown(context.Background()))
	require.Equal(t, "last", collector.Spans()[2].Name, "shutdown exports what is left")
	require.Empty(t, log.String())
}

func TestServiceNameOfTheEnvironmentHasTheLastWord(t *testing.T) {
	collector := infra.Collector(t)
	environment(t, append(collector.Environment(), "OTEL_SERVICE_NAME=shop")...)
	tel := setup(t, new(infra.Buffer))
	_, span := tel.TracerProvider().Tracer("t").Start(context.Background(), "s")
	span.End()
	require.NoError(t, tel.Shutdown(context.Background()))
	require.Equal(t, "shop", collector.Spans()[0].Service)
}

func TestWhatTheEnvironmentDecides(t *testing.T) {
	for name, c := range map[string]struct {
		environment               []string
		exporting, valid, sampled bool
	}{
		"nothing set":         {nil, false, true, false},
		"sampler set":         {[]string{"OTEL_TRACES_SAMPLER=always_on"}, false, true, true},
		"endpoint":            {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"}, true, true, true},
		"endpoint for traces": {[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:1"}, true, true, true},
		"grpc": {
			[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, true, true, true,
		},
		"exporter":  {[]string{"OTEL_TRACES_EXPORTER=otlp"}, true, true, true},
		"none":      {[]string{"OTEL_TRACES_EXPORTER=none"}, false, true, false},
		"never":     {[]string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=always_off"}, true, true, false},
		"disabled":  {[]string{"OTEL_SDK_DISABLED=TRUE", "OTEL_TRACES_EXPORTER=otlp"}, false, false, false},
		"nonsense ": {[]string{"OTEL_SDK_DISABLED=maybe"}, false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, c.environment...)
			tel := setup(t, new(infra.Buffer))
			require.Equal(t, c.exporting, tel.Exporting())
			_, span := tel.TracerProvider().Tracer("t").Start(context.Background(), "s")
			require.Equal(t, c.valid, span.SpanContext().IsValid())
			require.Equal(t, c.sampled, span.SpanContext().IsSampled())
			require.NoError(t, tel.Shutdown(context.Background())) // the span did not end, so nothing is exported
		})
	}
}

func TestPropagatesW3CTraceContextAndBaggage(t *testing.T) {
	environment(t)
	tel := setup(t, new(infra.Buffer))
	require.ElementsMatch(t, []string{"traceparent", "tracestate", "baggage"}, tel.Propagator().Fields())
	require.NoError(t, tel.Shutdown(context.Background()))
}

func TestUnknownSettingsAreRefused(t *testing.T) {
	for _, variables := range []string{
		"OTEL_TRACES_EXPORTER=pigeon", "OTEL_METRICS_EXPORTER=pigeon", "OTEL_EXPORTER_OTLP_PROTOCOL=smoke",
		"OTEL_METRICS_EXPORTER=otlp OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=smoke",
	} {
		environment(t, append(strings.Fields(variables), "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1")...)
		_, err := telemetry.Setup(context.Background(), telemetry.Options{Logger: slog.New(slog.DiscardHandler)})
		require.ErrorIs(t, err, telemetry.ErrSettings, variables)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
	}
}

// requireNoLeak checks that no goroutine is left. It ignores idle connections in net/http: if the exporter ends while it
// connects, such a connection stays for a minute and a half, and nobody can close it.
func requireNoLeak(t *testing.T, current goleak.Option) {
	t.Helper()
	goleak.VerifyNone(t, current, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// TestUnreachableCollector checks that a collector that is down, or that never answers, does not block the program and does not fill its
// log.
func TestUnreachableCollector(t *testing.T) {
	blackHole, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts connections, and nobody answers
	require.NoError(t, err)
	defer func() { require.NoError(t, blackHole.Close()) }()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	for name, address := range map[string]string{"silent": blackHole.Addr().String(), "down": closed.Addr().String()} {
		for _, protocol := range []string{"http/protobuf", "grpc"} {
			t.Run(name+"/"+protocol, func(t *testing.T) {
				defer requireNoLeak(t, goleak.IgnoreCurrent())
				environment(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+address, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol,
					"OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_BSP_EXPORT_TIMEOUT=20", "OTEL_BSP_MAX_QUEUE_SIZE=16",
					"OTEL_METRICS_EXPORTER=otlp", "OTEL_METRIC_EXPORT_INTERVAL=20", "OTEL_METRIC_EXPORT_TIMEOUT=20")
				log := new(infra.Buffer)
				began := time.Now()
				tel := setup(t, log)
				for range 20_000 {
					_, span := tel.TracerProvider().Tracer("t").Start(context.Background(), "s")
					span.End()
				}
				require.Less(t, time.Since(began), 5*time.Second)
				require.Eventually(t, func() bool { return log.String() != "" }, 10*time.Second, 5*time.Millisecond)

				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				defer cancel()
				began = time.Now()
				_ = tel.Shutdown(ctx) // its error depends on what was queued
				require.Less(t, time.Since(began), 2*time.Second)
				require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
				require.Contains(t, log.String(), "telemetry has a problem")
			})
		}
	}
}

func TestShutdownIsBounded(t *testing.T) {
	defer requireNoLeak(t, goleak.IgnoreCurrent()) // an export that was canceled logs its error a little later
	hungUp := make(chan struct{}, 1)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		hungUp <- struct{}{}
	}))
	defer silent.Close()
	environment(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+silent.URL)
	tel := setup(t, new(infra.Buffer))
	_, span := tel.TracerProvider().Tracer("t").Start(context.Background(), "s")
	span.End()
	began := time.Now()
	require.ErrorIs(t, tel.Shutdown(context.Background()), context.DeadlineExceeded)
	require.WithinDuration(t, began.Add(telemetry.FlushTimeout), time.Now(), time.Second)
	select {
	case <-hungUp:
	case <-time.After(2 * time.Second):
		t.Fatal("the export goes on after Shutdown")
	}
}

func TestSecretsStayOutOfTheLog(t *testing.T) {
	rejecting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, strings.Repeat("no entry ", 1000), http.StatusUnauthorized)
	}))
	defer rejecting.Close()
	for name, headers := range map[string]string{
		"valid": "authorization=s3cr3t", "no key": "s3cr3t", "bad escape": "authorization=s3cr3t%zz", "bad name": "a b=s3cr3t",
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, "OTEL_EXPORTER_OTLP_HEADERS="+headers,
				"OTEL_EXPORTER_OTLP_ENDPOINT="+strings.Replace(rejecting.URL, "http://", "http://user:s3cr3t@", 1))
			log := new(infra.Buffer)
			tel := setup(t, log)
			_, span := tel.TracerProvider().Tracer("t").Start(context.Background(), "s")
			span.End()
			_ = tel.Shutdown(context.Background())
			require.Contains(t, log.String(), "telemetry has a problem")
			require.NotContains(t, log.String(), "s3cr3t")
			require.Less(t, len(log.String()), 600)
		})
	}
}

func TestComplaintsAreFewAndCounted(t *testing.T) {
	environment(t)
	log := new(infra.Buffer)
	tel := setup(t, log)
	synctest.Test(t, func(t *testing.T) {
		for range 90 {
			otel.Handle(errDown)
			time.Sleep(time.Second)
		}
		require.Equal(t, 2, strings.Count(log.String(), "\n"), log.String())
		require.Contains(t, log.String(), "suppressed=0")
		require.Contains(t, log.String(), "suppressed=59")
	})
	require.NoError(t, tel.Shutdown(context.Background()))
}

func TestModule(t *testing.T) {
	collector := infra.Collector(t)
	environment(t, append(collector.Environment(), "OTEL_BSP_SCHEDULE_DELAY=60000")...)
	var appender relay.Appender
	app := fxtest.New(t, modules.Telemetry,
		fx.Supply(telemetry.Options{Logger: slog.New(slog.DiscardHandler)}),
		fx.Provide(func() relay.Appender { return &appended{} }),
		fx.Decorate(telemetry.TraceAppender),
		fx.Populate(&appender),
	).RequireStart()
	require.NoError(t, appender.Append(context.Background(), message("e1", nil)))
	app.RequireStop()
	require.Equal(t, "create orders.created", collector.Spans()[0].Name, "stopping exports what is left")
}
