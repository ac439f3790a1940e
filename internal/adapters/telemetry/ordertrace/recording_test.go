package ordertrace_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
)

var (
	errDown     = fault.New(fault.Unavailable, "database_down", "the database does not answer")
	errConflict = fault.New(fault.Conflict, "order_changed", "somebody was first")
)

// recorded has the spans that ended.
type recorded struct{ *tracetest.SpanRecorder }

func record() (trace.TracerProvider, recorded) {
	recorder := tracetest.NewSpanRecorder()
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)), recorded{recorder}
}

func (r recorded) one(t *testing.T, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	for _, span := range r.Ended() {
		if span.Name() == name {
			found = append(found, span)
		}
	}
	require.Len(t, found, 1, "spans called %q", name)
	return found[0]
}

func attributeOf(span sdktrace.ReadOnlySpan, key attribute.Key) any {
	for _, attr := range span.Attributes() {
		if attr.Key == key {
			return attr.Value.AsInterface()
		}
	}
	return nil
}
