package telemetry_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

const whose = "messaging.consumer.group.name=billing"

// consumed returns the attributes of a subscriber's series.
func consumed(name, kind, errorType string) string {
	if errorType != "" {
		errorType = "error.type=" + errorType + ","
	}
	return errorType + whose + ",messaging.destination.name=ORDERS,messaging.operation.name=" + name + ",messaging.operation.type=" +
		kind + ",messaging.system=nats"
}

// retries returns all series of the counter of retries. A reason that is missing in counted has the value 0.
func retries(counted values) values {
	all := make(values)
	for _, reason := range []string{"event_failed", "writes_failed", "lane_moved", "unavailable", "other"} {
		all[whose+",outboxie.retry.reason="+reason] = counted[reason]
	}
	return all
}

// setAside returns all series of the counter of events that were set aside. A reason that is missing in counted has the value
// 0.
func setAside(counted values) values {
	all := make(values)
	for _, reason := range []string{"failed", "unreadable", "no_handler", "held"} {
		all[whose+",outboxie.set_aside.reason="+reason] = counted[reason]
	}
	return all
}

func measureInbox(next *database) (telemetry.InboxPorts, measured) {
	mp, m := measuring()
	return telemetry.MeasureInbox(mp, "billing", "ORDERS", inboxOf(next)), m
}

// TestCountersBeginWithZero checks that counters show 0 at the start, so that their first event is visible as a rise.
func TestCountersBeginWithZero(t *testing.T) {
	_, m := measureInbox(&database{})
	require.Equal(t, values{consumed("receive", "receive", ""): 0}, m.values(t, "messaging.client.consumed.messages"))
	require.Equal(t, values{whose: 0}, m.values(t, "outboxie.inbox.duplicates"))
	require.Equal(t, values{whose: 0}, m.values(t, "outboxie.subscriber.passed_over"))
	require.Equal(t, setAside(nil), m.values(t, "outboxie.subscriber.set_aside"))
	require.Equal(t, retries(nil), m.values(t, "outboxie.subscriber.retries"))
}

// TestTransactionsAreMeasured checks the measurements of committed transactions, for each transaction and for each event.
func TestTransactionsAreMeasured(t *testing.T) {
	next := &database{results: map[string]inbox.Result{
		"e2": inbox.Duplicate, "e3": inbox.SetAside, "e4": inbox.Held, "e6": inbox.Duplicate, "e8": inbox.SetAside,
	}}
	measured, m := measureInbox(next)
	events := delivered(nil, nil, nil, nil, nil, nil, nil, nil)
	events[0].RecordedAt = time.Now().Add(time.Hour) // the database's clock is an hour ahead
	events[2].Unreadable = inbox.ErrUnreadable
	events[4].Suspect, events[7].NoHandler = true, true
	batch := batchIn(1, events)
	batch.PassedOver = 3
	outcome, err := measured.Work.Apply(t.Context(), "billing", batch, failing{"e5": inbox.ErrPermanent}, lenient)
	require.NoError(t, err)
	require.Equal(t, []inbox.Result{
		inbox.Applied, inbox.Duplicate, inbox.SetAside, inbox.Held, inbox.SetAside, inbox.Duplicate, inbox.Applied, inbox.SetAside,
	}, outcome.Results)
	require.Equal(t, batch.To, outcome.Checkpoint.StreamPosition)
	_, err = measured.Work.Apply(t.Context(), "billing", batchIn(1, events[6:7]), failing{}, lenient)
	require.NoError(t, err)
	moving := batchIn(1, nil)
	moving.PassedOver = 2
	_, err = measured.Work.Apply(t.Context(), "billing", moving, failing{}, lenient)
	require.NoError(t, err, "the checkpoint just moves")
	require.Equal(t, values{whose: 5}, m.values(t, "outboxie.subscriber.passed_over"))

	require.Equal(t, values{consumed("receive", "receive", ""): 9}, m.values(t, "messaging.client.consumed.messages"))
	require.Equal(t, values{whose: 2}, m.values(t, "outboxie.subscriber.batch.events"), "transactions with events")
	require.Equal(t, values{whose: 2}, m.values(t, "outboxie.subscriber.batch.duration"))
	require.Equal(t, values{whose: 3}, m.values(t, "outboxie.subscriber.latency"))
	require.InDelta(t, 2, m.histogram(t, "outboxie.subscriber.latency").Sum, 1, "of two events that were recorded a second ago")
	require.Equal(t, values{whose: 2}, m.values(t, "outboxie.inbox.duplicates"))
	require.Equal(t, setAside(values{"unreadable": 1, "held": 1, "failed": 1, "no_handler": 1}), m.values(t, "outboxie.subscriber.set_aside"))
	require.Equal(t, retries(nil), m.values(t, "outboxie.subscriber.retries"))
	require.Equal(t, values{consumed("process", "process", ""): 3, consumed("process", "process", "permanent_failure"): 1},
		m.values(t, "messaging.process.duration"))
}

// TestRetriesAreMeasured checks that a transaction that is rolled back is counted with its reason, and that nothing else of it
// is counted.
func TestRetriesAreMeasured(t *testing.T) {
	internal := fault.New(fault.Internal, "deadlock", "another transaction was in the way")
	for name, c := range map[string]struct {
		handler failing
		commit  error
		reason  string
	}{
		"an event":              {failing{"e2": inbox.ErrPermanent}, nil, "event_failed"},
		"an outage of an event": {failing{"e2": errDown}, nil, "unavailable"},
		"collected writes":      {nil, &inbox.CollectedError{Err: internal}, "writes_failed"},
		"an outage while collected writes are written": {nil, &inbox.CollectedError{Err: errDown}, "unavailable"},
		"another copy":        {nil, inbox.ErrLaneMoved.With("lane 1"), "lane_moved"},
		"an outage":           {nil, errDown, "unavailable"},
		"what nobody expects": {nil, fmt.Errorf("commit: %w", internal), "other"},
	} {
		t.Run(name, func(t *testing.T) {
			events := delivered(nil, nil)
			measured, m := measureInbox(&database{letters: events, err: c.commit})
			_, failure := measured.Work.Apply(t.Context(), "billing", batchIn(1, events), c.handler, lenient)
			require.Error(t, failure)
			require.Equal(t, retries(values{c.reason: 1}), m.values(t, "outboxie.subscriber.retries"))
			_, _, failure = measured.Letters.Redeliver(t.Context(), "billing", inbox.Redelivery{}, c.handler, lenient)
			require.Error(t, failure)
			require.Equal(t, retries(values{c.reason: 2}), m.values(t, "outboxie.subscriber.retries"))
			stopped, stop := context.WithCancel(t.Context())
			stop()
			_, failure = measured.Work.Apply(stopped, "billing", batchIn(1, events), c.handler, lenient)
			require.Error(t, failure)
			require.Equal(t, retries(values{c.reason: 2}), m.values(t, "outboxie.subscriber.retries"), "a stop is no failure")

			require.Equal(t, values{consumed("receive", "receive", ""): 0}, m.values(t, "messaging.client.consumed.messages"))
			for _, none := range []string{"batch.events", "batch.duration", "latency"} {
				require.Empty(t, m.values(t, "outboxie.subscriber."+none))
			}
		})
	}
}

// TestHandlingIsMeasured checks the time of each call of the handler, by the result of the call.
func TestHandlingIsMeasured(t *testing.T) {
	measured, m := measureInbox(&database{})
	_, err := measured.Work.Apply(t.Context(), "billing", batchIn(0, delivered(nil, nil, nil)), failing{"e3": inbox.ErrUnreadable}, lenient)
	require.ErrorIs(t, err, inbox.ErrUnreadable)
	_, err = measured.Work.Apply(t.Context(), "billing", batchIn(0, delivered(nil, nil)), panicking("e2"), lenient)
	require.ErrorContains(t, err, "panicked")
	require.Equal(t, values{
		consumed("process", "process", ""): 3, consumed("process", "process", "unreadable_event"): 1, consumed("process", "process", "panic"): 1,
	}, m.values(t, "messaging.process.duration"))
}

// TestLettersAreMeasured checks that redelivered letters count in the latency, and are not counted as received events again.
func TestLettersAreMeasured(t *testing.T) {
	next := &database{letters: delivered(nil, nil, nil)}
	next.letters[2].Suspect = true
	measured, m := measureInbox(next)
	done, found, err := measured.Letters.Redeliver(t.Context(), "billing", inbox.Redelivery{}, failing{"e3": inbox.ErrPermanent}, lenient)
	require.NoError(t, err)
	require.True(t, found)
	require.Len(t, done.Applied, 2)
	require.Equal(t, "e3", done.Failed.ID)
	require.Equal(t, values{whose: 2}, m.values(t, "outboxie.subscriber.latency"))
	require.Equal(t, values{consumed("process", "process", ""): 2, consumed("process", "process", "permanent_failure"): 1},
		m.values(t, "messaging.process.duration"))
	require.Equal(t, values{consumed("receive", "receive", ""): 0}, m.values(t, "messaging.client.consumed.messages"))
	require.Equal(t, setAside(nil), m.values(t, "outboxie.subscriber.set_aside"))
	require.Empty(t, m.values(t, "outboxie.subscriber.batch.events"))
}

// TestMeasuredHandlersCostNoAllocation checks that measuring allocates only for each batch, not for each event.
func TestMeasuredHandlersCostNoAllocation(t *testing.T) {
	mp, _ := measuring()
	work := telemetry.MeasureInbox(mp, "billing", "ORDERS", telemetry.InboxPorts{Work: handing{}}).Work
	allocations := func(size int) float64 {
		batch := batchIn(0, sampledAmong(0, size))
		return testing.AllocsPerRun(100, func() { _, _ = work.Apply(context.Background(), "billing", batch, nothing, lenient) })
	}
	require.Less(t, allocations(1000)-allocations(1), 10.0, "batches may differ a little: what is pooled comes and goes")
}

// TestTheSpanOfABatchIsNoExemplar checks that the histograms of events get no exemplars. The span of a sampled batch is in the
// context of each call of the handler, and must not cost anything there.
func TestTheSpanOfABatchIsNoExemplar(t *testing.T) {
	mp, m := measuring()
	tp, spans := record()
	ports := telemetry.MeasureInbox(mp, "billing", "ORDERS", traceInbox(tp, &database{}))
	_, err := ports.Work.Apply(context.Background(), "billing", batchIn(0, sampledAmong(1, 10)), failing{}, lenient)
	require.NoError(t, err)
	require.Len(t, spans.all("process ORDERS"), 1)
	for _, name := range []string{"messaging.process.duration", "outboxie.subscriber.latency"} {
		require.EqualValues(t, 10, m.histogram(t, name).Count)
		require.Empty(t, m.histogram(t, name).Exemplars, name)
	}
}

// fakeCheckpoints is a fake inbox.Checkpoints. Rewind succeeds, unless err is set.
type fakeCheckpoints struct {
	inbox.Checkpoints
	err error
}

func (p *fakeCheckpoints) Rewind(_ context.Context, _ string, from inbox.Checkpoint, stream string, to inbox.StreamPosition) (inbox.Checkpoint, error) {
	from.Stream, from.StreamPosition = stream, to
	return from, p.err
}

func TestRewindsAreMeasured(t *testing.T) {
	mp, m := measuring()
	next := &fakeCheckpoints{}
	checkpoints := telemetry.MeasureInbox(mp, "billing", "ORDERS", telemetry.InboxPorts{Checkpoints: next}).Checkpoints
	require.Equal(t, values{whose: 0}, m.values(t, "outboxie.subscriber.rewinds"))
	for _, next.err = range []error{nil, inbox.ErrLaneMoved, nil} {
		moved, err := checkpoints.Rewind(t.Context(), "billing", inbox.Checkpoint{Lane: 2}, "new", inbox.StreamPosition{Sequence: 5})
		require.Equal(t, next.err, err)
		require.Equal(t, inbox.Checkpoint{Lane: 2, Stream: "new", StreamPosition: inbox.StreamPosition{Sequence: 5}}, moved)
	}
	require.Equal(t, values{whose: 2}, m.values(t, "outboxie.subscriber.rewinds"))
}
