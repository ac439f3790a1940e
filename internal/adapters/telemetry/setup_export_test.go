package telemetry_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/test/infra"
)

func exportLogs(t *testing.T, log *infra.Buffer) (*slog.Logger, func(context.Context) error) {
	t.Helper()
	logger, shutdown, err := telemetry.ExportLogs(context.Background(), telemetry.Options{
		InstanceID: "i1", Logger: telemetry.NewLogger(log, slog.LevelInfo, "text"),
	})
	require.NoError(t, err)
	return logger, shutdown
}

// TestLogsAreExported checks that each written log line is exported with its level, fields and trace, and that no other line
// is.
func TestLogsAreExported(t *testing.T) {
	for _, how := range []string{"OTEL_LOGS_EXPORTER=otlp", ""} {
		collector := infra.Collector(t)
		if how == "" {
			environment(t, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="+collector.Endpoint()+"/v1/logs")
		} else {
			environment(t, append(collector.Environment(), how)...)
		}
		written := new(infra.Buffer)
		logger, shutdown := exportLogs(t, written)
		logger.With("instance", "a").WithGroup("lease").WarnContext(inStoredTrace(t), "became leader", "token", 3)
		logger.Debug("not said")
		logger.Info("outside a trace")
		require.NoError(t, shutdown(context.Background()))

		require.Regexp(t, `WARN  became leader instance=a lease\.token=3 .*trace_id=`+storedTrace, written.String())
		require.NotContains(t, written.String(), "not said")
		records := collector.Logs()
		require.Len(t, records, 2)
		require.Equal(t, infra.LogRecord{
			TraceID: storedTrace, SpanID: storedSpan, Severity: "WARN", Body: "became leader", Service: "outboxie", Instance: "i1",
			Attributes: map[string]any{"instance": "a", "lease": map[string]any{"token": int64(3)}},
		}, records[0])
		require.Empty(t, records[1].TraceID)
	}
}

// TestLogsAreExportedOnlyIfAskedFor checks that an endpoint for traces alone exports no logs. A Jaeger, for example, takes
// traces but no logs.
func TestLogsAreExportedOnlyIfAskedFor(t *testing.T) {
	collector := infra.Collector(t)
	for _, more := range []string{"OTEL_LOGS_EXPORTER=", "OTEL_LOGS_EXPORTER=none", "OTEL_SDK_DISABLED=true"} {
		environment(t, append(collector.Environment(), more)...)
		logger := telemetry.NewLogger(new(bytes.Buffer), slog.LevelInfo, "text")
		same, shutdown, err := telemetry.ExportLogs(context.Background(), telemetry.Options{Logger: logger})
		require.NoError(t, err)
		require.Same(t, logger, same)
		require.NoError(t, shutdown(context.Background()))
	}
	environment(t, "OTEL_LOGS_EXPORTER=pigeon")
	_, _, err := telemetry.ExportLogs(context.Background(), telemetry.Options{Logger: slog.New(slog.DiscardHandler)})
	require.ErrorIs(t, err, telemetry.ErrSettings)
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

// TestLogsWithoutACollector checks a collector that is down or never answers. The log reports it once, and the program does not
// wait.
func TestLogsWithoutACollector(t *testing.T) {
	blackHole, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts connections, and nobody answers
	require.NoError(t, err)
	defer func() { require.NoError(t, blackHole.Close()) }()
	for name, address := range map[string]string{"down": "127.0.0.1:1", "silent": blackHole.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			defer requireNoLeak(t, goleak.IgnoreCurrent())
			environment(t, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=http://"+address, "OTEL_BLRP_SCHEDULE_DELAY=1", "OTEL_BLRP_EXPORT_TIMEOUT=20")
			written := new(infra.Buffer)
			logger, shutdown := exportLogs(t, written)
			began := time.Now()
			for range 10_000 {
				logger.Info("line")
			}
			require.Less(t, time.Since(began), 5*time.Second)
			require.Eventually(t, func() bool { return bytes.Contains([]byte(written.String()), []byte("telemetry has a problem")) },
				10*time.Second, 5*time.Millisecond)
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			began = time.Now()
			_ = shutdown(ctx) // its error depends on what was queued
			require.Less(t, time.Since(began), 2*time.Second)
			require.Equal(t, 1, bytes.Count([]byte(written.String()), []byte("telemetry has a problem")))
		})
	}
}

// TestEndpointOfTheProgram checks that spans go to the program's endpoint if the environment names none.
func TestEndpointOfTheProgram(t *testing.T) {
	ours, theirs := infra.Collector(t), infra.Collector(t)
	for _, c := range []struct {
		environment []string
		to          *infra.OTLP
		configured  bool
	}{
		{nil, ours, false},
		{theirs.Environment(), theirs, true},
		{[]string{"OTEL_TRACES_EXPORTER=none"}, nil, true},
	} {
		environment(t, c.environment...)
		require.Equal(t, c.configured, telemetry.TracesConfigured())
		tel, err := telemetry.Setup(context.Background(), telemetry.Options{
			Endpoint: ours.Endpoint(), Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		require.Equal(t, c.to != nil, tel.Exporting())
		_, span := tel.TracerProvider().Tracer("t").Start(context.Background(), "s")
		span.End()
		require.NoError(t, tel.Shutdown(context.Background()))
		if c.to != nil {
			require.Len(t, c.to.Spans(), 1)
		}
	}
}
