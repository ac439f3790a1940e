package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const whose = "messaging.consumer.group.name=billing"

// consumed are the attributes of what the subscriber does.
func consumed(name, kind, errorType string) string {
	if errorType != "" {
		errorType = "error.type=" + errorType + ","
	}
	return errorType + whose + ",messaging.destination.name=ORDERS,messaging.operation.name=" + name + ",messaging.operation.type=" +
		kind + ",messaging.system=nats"
}

// handout delivers a message for the nth time, or fails.
type handout struct {
	inbox.Delivery
	attempt int
	err     error
}

func (h *handout) Next(context.Context) (inbox.Delivery, error) { return h, h.err }
func (h *handout) Attempt() int                                 { return h.attempt }

func TestDeliveriesAreMeasured(t *testing.T) {
	mp, m := measuring()
	next := &handout{}
	source := telemetry.MeasureSource(mp, "billing", "ORDERS", next)
	require.Equal(t, values{whose: 0}, m.values(t, "outboxie.subscriber.redeliveries"))
	for _, attempt := range []int{1, 2, 3, 0} { // 0: nobody knows
		next.attempt = attempt
		delivery, err := source.Next(t.Context())
		require.NoError(t, err)
		require.Same(t, next, delivery)
	}
	next.err = errDown
	_, err := source.Next(t.Context())
	require.Same(t, errDown, err)
	require.Equal(t, values{consumed("receive", "receive", ""): 4}, m.values(t, "messaging.client.consumed.messages"))
	require.Equal(t, values{whose: 2}, m.values(t, "outboxie.subscriber.redeliveries"))
}

func TestHandlingIsMeasured(t *testing.T) {
	mp, m := measuring()
	var failure error
	handler := telemetry.MeasureHandler(mp, "billing", "ORDERS", handlerFunc(func(context.Context, outbox.Entry) error { return failure }))
	for _, failure = range []error{nil, nil, inbox.ErrUnreadable} {
		require.Equal(t, failure, handler.Handle(t.Context(), delivered(nil)))
	}
	require.Equal(t, values{consumed("process", "process", ""): 2, consumed("process", "process", "unreadable_event"): 1},
		m.values(t, "messaging.process.duration"))
}

type once struct {
	applied bool
	err     error
}

func (o *once) Once(
	ctx context.Context, _ string, _ outbox.Entry, fn func(context.Context, inbox.Tx) error,
) (bool, error) {
	if o.applied {
		return true, fn(ctx, inbox.Tx{})
	}
	return false, o.err
}

func TestEffectsAreMeasured(t *testing.T) {
	mp, m := measuring()
	next, ran := &once{}, 0
	work := telemetry.MeasureInbox(mp, next)
	do := func(step once, entry outbox.Entry) {
		*next = step
		applied, err := work.Once(t.Context(), "billing", entry, func(context.Context, inbox.Tx) error { ran++; return nil })
		require.Equal(t, step, once{applied, err})
	}
	ahead := delivered(nil)
	ahead.RecordedAt = time.Now().Add(time.Hour) // the database's clock is
	do(once{applied: true}, ahead)
	require.Equal(t, values{whose: 0}, m.values(t, "outboxie.inbox.duplicates"))
	do(once{applied: true}, delivered(nil))
	do(once{applied: false}, delivered(nil))
	do(once{err: inbox.ErrHeld}, delivered(nil))
	require.Equal(t, 2, ran)
	require.Equal(t, values{whose: 2}, m.values(t, "outboxie.subscriber.latency"))
	require.Equal(t, values{whose: 1}, m.values(t, "outboxie.inbox.duplicates"))
}
