package telemetry_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/test/infra"
)

// TestSamplers checks which spans each OTEL_TRACES_SAMPLER samples: roots, children of sampled and unsampled spans, and roots
// with a link to a sampled span. A batch is such a root, with links to its messages.
func TestSamplers(t *testing.T) {
	type decisions struct{ root, ofSampled, ofUnsampled, linked bool }
	for name, c := range map[string]struct {
		arg  string
		want decisions
	}{
		"":                         {"", decisions{true, true, false, true}},
		"always_on":                {"", decisions{true, true, true, true}},
		"always_off":               {"", decisions{}},
		"traceidratio":             {"0", decisions{false, true, false, true}}, // clients are not trusted
		"parentbased_always_on":    {"", decisions{true, true, false, true}},
		"parentbased_always_off":   {"", decisions{false, true, false, true}},
		"PARENTBASED_TRACEIDRATIO": {"0", decisions{false, true, false, true}},
		"parentbased_traceidratio": {"", decisions{true, true, false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_TRACES_SAMPLER="+name, "OTEL_TRACES_SAMPLER_ARG="+c.arg)
			tel := setup(t, new(infra.Buffer))
			defer tel.Shutdown(context.Background()) //nolint:errcheck // no span ends
			parent := func(flags trace.TraceFlags) trace.SpanContext {
				return trace.SpanContextFromContext(inStoredTrace(t)).WithTraceFlags(flags)
			}
			sampled := func(ctx context.Context, options ...trace.SpanStartOption) bool {
				_, span := tel.TracerProvider().Tracer("t").Start(ctx, "s", options...)
				return span.SpanContext().IsSampled()
			}
			within := func(flags trace.TraceFlags) context.Context {
				return trace.ContextWithRemoteSpanContext(context.Background(), parent(flags))
			}
			require.Equal(t, c.want, decisions{
				root:        sampled(context.Background()),
				ofSampled:   sampled(within(trace.FlagsSampled)),
				ofUnsampled: sampled(within(0)),
				linked: sampled(within(0), trace.WithNewRoot(), trace.WithLinks(
					trace.Link{SpanContext: parent(0)}, trace.Link{SpanContext: parent(trace.FlagsSampled)})),
			})
		})
	}
}

// TestRatio checks that a ratio of 0.25 samples about a quarter of the traces. A batch with a sampled message is always
// sampled.
func TestRatio(t *testing.T) {
	collector := infra.Collector(t)
	environment(t, append(collector.Environment(), "OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.25")...)
	tel := setup(t, new(infra.Buffer))
	sampled := 0
	for range 2000 {
		_, span := tel.TracerProvider().Tracer("t").Start(context.Background(), "s")
		if span.SpanContext().IsSampled() {
			sampled++
		}
	}
	require.InDelta(t, 500, sampled, 150)
	batch := append(unsampledBatch(9), batchOf(sampledHeaders())...)
	for range 20 {
		_, err := tracePublisher(tel.TracerProvider(), &stream{}).Publish(context.Background(), 0, batch)
		require.NoError(t, err)
	}
	require.NoError(t, tel.Shutdown(context.Background()))
	batches := 0
	for _, span := range collector.Spans() {
		if span.Name == "send ORDERS" {
			batches++
			require.Equal(t, []infra.Link{{TraceID: storedTrace, SpanID: storedSpan}}, span.Links)
		}
	}
	require.Equal(t, 20, batches)
}

// TestClientsDoNotDecideWhatIsSampled checks that a client's trace is continued, but that its flag and its id do not decide
// about sampling, unless clients are trusted. With a sampler that is based on the parent, children of the request follow the decision, and a
// stored parent still decides for its children.
func TestClientsDoNotDecideWhatIsSampled(t *testing.T) {
	const lowest = "00000000000000010000000000000000" // an id that every ratio above 0 would sample
	for name, c := range map[string]struct {
		sampler, arg, flag string
		trust, want        bool
	}{
		"a ratio of 0":                        {"parentbased_traceidratio", "0", "01", false, false},
		"a ratio of 0 that asks no parent":    {"traceidratio", "0", "01", false, false},
		"an id that is below any ratio":       {"parentbased_traceidratio", "0.000001", "01", false, false},
		"the same with a sampler for roots":   {"traceidratio", "0.000001", "01", false, false},
		"everything is sampled":               {"parentbased_always_on", "", "00", false, true},
		"nothing is sampled":                  {"parentbased_always_off", "", "01", false, false},
		"a trusted client":                    {"parentbased_traceidratio", "0", "01", true, true},
		"a trusted client that says no":       {"parentbased_always_on", "", "00", true, false},
		"a trusted client whose id is chosen": {"traceidratio", "0.000001", "00", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_TRACES_SAMPLER="+c.sampler, "OTEL_TRACES_SAMPLER_ARG="+c.arg)
			tel, err := telemetry.Setup(t.Context(), telemetry.Options{Logger: slog.New(slog.DiscardHandler), TrustClients: c.trust})
			require.NoError(t, err)
			defer tel.Shutdown(context.Background()) //nolint:errcheck // nobody is there
			start := func(ctx context.Context) (context.Context, trace.SpanContext) {
				ctx, span := tel.TracerProvider().Tracer("t").Start(ctx, "s")
				return ctx, span.SpanContext()
			}
			ctx := tel.Propagator().Extract(context.Background(), propagation.MapCarrier{"traceparent": "00-" + lowest + "-b7ad6b7169203331-" + c.flag})
			ctx, request := start(ctx)
			require.Equal(t, c.want, request.IsSampled())
			require.Equal(t, lowest, request.TraceID().String(), "the trace goes on")
			_, below := start(ctx)
			require.Equal(t, c.want, below.IsSampled())
			_, received := start(trace.ContextWithRemoteSpanContext(context.Background(), below))
			require.Equal(t, c.want, received.IsSampled(), "another process goes on with the trace")
			if strings.HasPrefix(c.sampler, "parentbased_") {
				_, stored := start(trace.ContextWithRemoteSpanContext(ctx, below.WithTraceFlags(trace.FlagsSampled)))
				require.True(t, stored.IsSampled(), "what a message says is believed")
			}
		})
	}
}

func TestSamplersThatDoNotExistAreRefused(t *testing.T) {
	for _, variables := range [][]string{
		{"OTEL_TRACES_SAMPLER=sometimes"},
		{"OTEL_TRACES_SAMPLER=parentbased_"},
		{"OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=1.5"},
		{"OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=-0.1"},
		{"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=half"},
		{"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=NaN"},
	} {
		environment(t, variables...)
		_, err := telemetry.Setup(context.Background(), telemetry.Options{Logger: slog.New(slog.DiscardHandler)})
		require.ErrorIs(t, err, telemetry.ErrSettings, variables)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
		require.ErrorContains(t, err, variables[len(variables)-1][:len("OTEL_TRACES_SAMPLER")])
	}
}
