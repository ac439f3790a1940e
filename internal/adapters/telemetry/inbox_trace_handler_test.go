package telemetry_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// logging is a handler that logs. Its Handle fails.
type logging struct{ logger *slog.Logger }

func (l logging) Handle(ctx context.Context, _ inbox.Tx, entry outbox.Entry) error {
	l.logger.InfoContext(ctx, "handling", "event_id", entry.ID)
	return errDown
}

func (logging) Name() string    { return "test" }
func (logging) Types() []string { return nil }
func (logging) External() bool  { return false }

func (l logging) Applied(ctx context.Context, entry outbox.Entry) {
	l.logger.InfoContext(ctx, "Received order created event", "event_id", entry.ID)
}

// TestHandlerLogsCarryTheTraceEvenUnsampled checks that log lines about an applied event carry the trace of its order.
func TestHandlerLogsCarryTheTraceEvenUnsampled(t *testing.T) {
	for name, c := range map[string]struct {
		headers map[string]string
		want    string
	}{
		"sampled":     {sampledHeaders(), `"trace_id":"` + storedTrace + `"`},
		"not sampled": {unsampledHeaders(), `"trace_id":"` + storedTrace + `"`},
		"junk":        {map[string]string{"traceparent": "junk"}, `"event_id":"e1"}`},
		"none":        {nil, `"event_id":"e1"}`},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			handler := telemetry.TraceHandler(logging{telemetry.NewLogger(&log, slog.LevelInfo, telemetry.FormatJSON)})
			entry := delivered(c.headers)[0].Entry
			handler.Applied(context.Background(), entry)
			require.Contains(t, log.String(), "Received order created event")
			require.Contains(t, log.String(), c.want)
			log.Reset()
			require.Same(t, errDown, handler.Handle(context.Background(), nil, entry))
			require.Contains(t, log.String(), "handling")
			require.NotContains(t, log.String(), storedTrace, "TraceInbox makes the span, and the context with it")
		})
	}
}
