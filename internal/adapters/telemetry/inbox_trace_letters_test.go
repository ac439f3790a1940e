package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TestRedeliveriesAreBatches checks that the span of a redelivery starts before its first letter is handled, although the
// letters are known only later.
func TestRedeliveriesAreBatches(t *testing.T) {
	tp, spans := record()
	ctx, parent := inSpan(tp)
	next, within := &database{letters: delivered(nil, sampledHeaders(), unsampledHeaders(), sampledHeaders())}, inside{}
	var first time.Time
	handler := handlerFunc(func(ctx context.Context, entry outbox.Entry) error {
		if first.IsZero() {
			first = time.Now()
			time.Sleep(time.Millisecond)
		}
		return within.Handle(ctx, nil, entry)
	})
	done, found, err := traceInbox(tp, next).Letters.Redeliver(ctx, "billing", inbox.Redelivery{Limit: 9}, handler, lenient)
	require.NoError(t, err)
	require.True(t, found)
	require.Len(t, done.Applied, 4)

	whole := spans.one(t, "process ORDERS")
	require.Equal(t, trace.SpanKindConsumer, whole.SpanKind())
	require.False(t, whole.Parent().IsValid(), "a new root")
	require.False(t, whole.StartTime().After(first), "the letter before is in it")
	require.Len(t, whole.Links(), 2)
	require.Equal(t, storedSpan, whole.Links()[1].SpanContext.SpanID().String())
	require.Equal(t, map[string]any{
		"messaging.system": "nats", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.destination.name": "ORDERS", "messaging.batch.message_count": int64(4), "messaging.client.id": "app1", "messaging.consumer.group.name": "billing",
	}, attributesOf(whole))
	events := spans.all("process orders.created")
	require.Len(t, events, 2)
	for i, id := range []string{"e2", "e4"} {
		requireStoredParent(t, events[i])
		require.Equal(t, id, attributeOf(events[i], "messaging.message.id"))
		require.Equal(t, whole.SpanContext(), linkedBy(events[i])[0])
		require.Equal(t, events[i].SpanContext(), within[id])
		require.False(t, events[i].StartTime().Before(whole.StartTime()))
	}
	require.Equal(t, parent.SpanContext(), within["e1"], "not sampled")
}

// TestRedeliveriesTellTheirFailures checks the spans of letters that fail again, with savepoints and without.
func TestRedeliveriesTellTheirFailures(t *testing.T) {
	for _, careful := range []bool{false, true} {
		tp, spans := record()
		letters := delivered(sampledHeaders(), sampledHeaders(), sampledHeaders())
		for i := range letters {
			letters[i].Suspect = careful
		}
		done, _, err := traceInbox(tp, &database{letters: letters}).Letters.Redeliver(context.Background(), "billing",
			inbox.Redelivery{Savepoints: careful}, failing{"e2": inbox.ErrPermanent}, lenient)
		require.Equal(t, careful, err == nil)
		require.Equal(t, careful, done.Failed != nil)
		events := spans.all("process orders.created")
		require.Len(t, events, 2)
		require.Equal(t, inbox.ErrPermanent.Error(), events[1].Status().Description)
		status := map[bool]codes.Code{true: codes.Unset, false: codes.Error}[careful]
		require.Equal(t, status, events[0].Status().Code)
		require.Equal(t, status, spans.one(t, "process ORDERS").Status().Code)
	}
}

// TestLookingForLettersLeavesNoTrace checks that a redelivery without a sampled letter makes no span.
func TestLookingForLettersLeavesNoTrace(t *testing.T) {
	for name, next := range map[string]*database{
		"nothing is due": {}, "an outage": {err: errDown}, "not sampled": {letters: delivered(unsampledHeaders(), nil)},
	} {
		t.Run(name, func(t *testing.T) {
			tp, spans := record()
			done, found, err := traceInbox(tp, next).Letters.Redeliver(context.Background(), "billing", inbox.Redelivery{}, inside{}, lenient)
			require.Equal(t, next.err, err)
			require.Equal(t, len(next.letters) > 0, found)
			require.Len(t, done.Applied, len(next.letters))
			require.Empty(t, spans.names())
		})
	}
}
