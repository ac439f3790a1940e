package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
)

func inStoredTrace(t *testing.T) context.Context {
	t.Helper()
	traceID, err := trace.TraceIDFromHex(storedTrace)
	require.NoError(t, err)
	spanID, err := trace.SpanIDFromHex(storedSpan)
	require.NoError(t, err)
	return trace.ContextWithSpanContext(context.Background(),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID}))
}

func TestTextLogIsForTheEye(t *testing.T) {
	var out bytes.Buffer
	logger := telemetry.NewLogger(&out, slog.LevelInfo, "text")
	logger.With("instance", "a b").WithGroup("lease").Info("became leader", "token", 3)
	logger.InfoContext(inStoredTrace(t), "Received order created event", "order_id", "o1")
	logger.Error("it\nbroke", "error", errors.New("a\nb"), slog.Group("g", "k", 1))
	logger.Debug("not said")

	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	require.Len(t, lines, 3)
	const clock = `^\d\d:\d\d:\d\d\.\d\d\d `
	require.Regexp(t, clock+`INFO  became leader instance="a b" lease\.token=3$`, lines[0])
	const ids = `trace_id=` + storedTrace + ` span_id=` + storedSpan
	require.Regexp(t, clock+`INFO  Received order created event order_id=o1 `+ids+`$`, lines[1])
	require.Regexp(t, clock+`ERROR "it\\nbroke" error="a\\nb" g\.k=1$`, lines[2])
}

func TestJSONLogCarriesTheTrace(t *testing.T) {
	var out bytes.Buffer
	logger := telemetry.NewLogger(&out, slog.LevelDebug, telemetry.FormatJSON).With("instance", "i1")
	logger.DebugContext(inStoredTrace(t), "hello")

	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line))
	require.Equal(t, "hello", line["msg"])
	require.Equal(t, "i1", line["instance"])
	require.Equal(t, storedTrace, line["trace_id"])
	require.Equal(t, storedSpan, line["span_id"])
}

func TestLinesOfManyGoroutinesDoNotMix(t *testing.T) {
	var out bytes.Buffer
	logger := telemetry.NewLogger(&out, slog.LevelInfo, "text")
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			mine := logger.With("a", 1)
			for range 50 {
				mine.Info("message", "b", 2)
			}
		})
	}
	writers.Wait()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	require.Len(t, lines, 400)
	for _, line := range lines {
		require.True(t, strings.HasSuffix(line, "INFO  message a=1 b=2"), line)
	}
}
