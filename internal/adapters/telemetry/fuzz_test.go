package telemetry

import (
	"context"
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// w3c is a traceparent of any version: version, trace, span, flags, and what a later version may add.
var w3c = regexp.MustCompile(`(?s)\A([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\z`)

// parentOf returns which span a traceparent names, and whether its trace is sampled. It reads only the text. Version 00, the only existing
// one, has two flags and no further part; OpenTelemetry accepts a single "-" at the end. ff is not a version.
func parentOf(text string) (traceID, spanID string, sampled bool) {
	parts := w3c.FindStringSubmatch(text)
	if parts == nil || parts[1] == "ff" || strings.Trim(parts[2], "0") == "" || strings.Trim(parts[3], "0") == "" {
		return "", "", false
	}
	if parts[1] == "00" && (len(parts[5]) > 1 || parts[4] > "03") {
		return "", "", false
	}
	return parts[2], parts[3], strings.ContainsAny(parts[4][1:], "13579bdf")
}

// FuzzCreationContext checks that the program reads any headers as W3C defines: they name one span, or none. If they name none, the parent of a
// new span is the span of the context. The shortcut isSampled gives the same result.
func FuzzCreationContext(f *testing.F) {
	const traceID, spanID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, parent := range []string{
		"", "00-" + traceID + "-" + spanID + "-01", "00-" + traceID + "-" + spanID + "-00", "00-" + traceID + "-" + spanID + "-03",
		"00-" + traceID + "-" + spanID + "-04", "00-" + traceID + "-" + spanID + "-ff", "00-" + traceID + "-" + spanID + "-01-more",
		"00-" + traceID + "-" + spanID + "-01-", "01-" + traceID + "-" + spanID + "-01-more", "cc-" + traceID + "-" + spanID + "-ff",
		"ff-" + traceID + "-" + spanID + "-01", "00-" + strings.ToUpper(traceID) + "-" + spanID + "-01",
		"00-" + strings.Repeat("0", 32) + "-" + spanID + "-01", "00-" + traceID + "-" + strings.Repeat("0", 16) + "-01",
		" 00-" + traceID + "-" + spanID + "-01", "00-" + traceID + "-" + spanID + "-0", "00-" + traceID + "-" + spanID,
	} {
		for _, state := range []string{"", "vendor=1", "a=1,b=2", "a=1,a=2", "=", "\xff"} {
			f.Add(parent, state)
		}
	}
	around, span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}), "0200000000000000"
	f.Fuzz(func(t *testing.T, parent, state string) {
		headers := map[string]string{"traceparent": parent, "tracestate": state}
		ctx := trace.ContextWithSpanContext(t.Context(), around)
		wantTrace, wantSpan, wantSampled := parentOf(parent)

		created := creationContext(ctx, headers)
		require.Equal(t, wantTrace != "", created.IsValid(), "%q", parent)
		inside, _ := inCreationContext(ctx, headers)
		parentSpan := trace.SpanContextFromContext(inside)
		if wantTrace == "" {
			require.Equal(t, span, parentSpan.SpanID().String(), "%q", parent)
			return
		}
		require.Equal(t, wantTrace, created.TraceID().String())
		require.Equal(t, wantSpan, created.SpanID().String())
		require.Equal(t, wantSampled, created.IsSampled(), "%q", parent)
		require.Equal(t, wantSampled, isSampled(headers), "%q", parent)
		require.True(t, created.IsRemote())
		require.Equal(t, created, parentSpan)
	})
}

// FuzzWithCreationContext checks that a message's headers carry the appending span with its state, sampled or not. The writer's other
// headers and the writer's map do not change. The log still accepts every message that it accepts without the span.
func FuzzWithCreationContext(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("01234567"), byte(1), "vendor=1", "tenant", "a", "stale=1")
	f.Add([]byte("0123456789abcdef"), []byte("01234567"), byte(0), "", "traceparent", "junk", "stale=1")
	f.Add([]byte("0123456789abcdef"), []byte("01234567"), byte(255), "a=1,b=2", "tracestate", "junk", "")
	f.Add([]byte{}, []byte("01234567"), byte(1), "a=1", "tenant", "a", "stale=1")
	f.Add([]byte("0123456789abcdef"), []byte{}, byte(1), "a= ~!", "X y", "a\n", "\xff")
	f.Fuzz(func(t *testing.T, traceID, spanID []byte, flags byte, state, name, value, stale string) {
		config := trace.SpanContextConfig{TraceFlags: trace.TraceFlags(flags)}
		copy(config.TraceID[:], traceID)
		copy(config.SpanID[:], spanID)
		config.TraceState, _ = trace.ParseTraceState(state) // an invalid state is no state
		appending := trace.NewSpanContext(config)
		headers := map[string]string{traceState: stale, name: value}
		before := maps.Clone(headers)

		stamped := withCreationContext(trace.ContextWithSpanContext(t.Context(), appending), headers)
		require.Equal(t, before, headers, "the writer's map was changed")
		if !appending.IsValid() {
			require.Equal(t, before, stamped)
			return
		}
		created := creationContext(context.Background(), stamped)
		require.Equal(t, appending.TraceID(), created.TraceID())
		require.Equal(t, appending.SpanID(), created.SpanID())
		require.Equal(t, appending.IsSampled(), created.IsSampled())
		require.Equal(t, appending.IsSampled(), isSampled(stamped))
		require.Equal(t, config.TraceState.String(), created.TraceState().String())

		for _, ours := range []string{traceParent, traceState} {
			delete(before, ours)
			delete(stamped, ours)
		}
		require.Equal(t, before, stamped, "other headers")
		message := outbox.Message{
			ID: "1", Type: "test.v1", Subject: "orders.created", Key: outbox.Key{Type: "order", ID: "1"}, Version: 1,
			Headers: headers, Payload: []byte(`{}`),
		}
		if message.Validate() == nil {
			message.Headers = withCreationContext(trace.ContextWithSpanContext(t.Context(), appending), headers)
			require.NoError(t, message.Validate())
		}
	})
}
