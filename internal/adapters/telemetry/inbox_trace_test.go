package telemetry_test

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

func traceInbox(tp trace.TracerProvider, next *database) telemetry.InboxPorts {
	return telemetry.TraceInbox(tp, "billing", "ORDERS", source, inboxOf(next))
}

func unsampledHeaders() map[string]string { return map[string]string{"traceparent": unsampledParent} }

// inside is a handler that records the span in which each event was handled, by the event's id.
type inside map[string]trace.SpanContext

func (i inside) Handle(ctx context.Context, _ inbox.Tx, entry outbox.Entry) error {
	i[entry.ID] = trace.SpanContextFromContext(ctx)
	return nil
}
func (inside) Name() string    { return "test" }
func (inside) Types() []string { return nil }
func (inside) External() bool  { return false }

func (i inside) Applied(context.Context, outbox.Entry) {}

// TestOneEventIsHandledInItsOrdersTrace checks that the whole transaction of a lone event is in the trace of its order.
func TestOneEventIsHandledInItsOrdersTrace(t *testing.T) {
	tp, spans := record()
	next, handler := &database{}, inside{}
	batch := batchIn(2, delivered(sampledHeaders()))
	outcome, err := traceInbox(tp, next).Work.Apply(context.Background(), "billing", batch, handler, lenient)
	require.NoError(t, err)
	require.Equal(t, inbox.Outcome{
		Checkpoint: inbox.Checkpoint{Lane: 2, Lanes: 4, Revision: 3, StreamPosition: batch.To}, Results: []inbox.Result{inbox.Applied},
	}, outcome)

	span := spans.one(t, "process orders.created")
	require.Equal(t, []string{"process orders.created"}, spans.names())
	require.Equal(t, trace.SpanKindConsumer, span.SpanKind())
	require.Equal(t, span.SpanContext(), trace.SpanContextFromContext(next.in), "the statements are below it")
	require.Equal(t, span.SpanContext(), handler["e1"])
	requireStoredParent(t, span)
	requireStoredLink(t, span)
	require.Equal(t, codes.Unset, span.Status().Code)
	require.Equal(t, map[string]any{
		"messaging.system": "nats", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.destination.name": "orders.created", "messaging.message.id": "e1",
		"messaging.client.id": "app1", "messaging.consumer.group.name": "billing", "outboxie.outbox.position": int64(41),
		"outboxie.aggregate.type": "order", "outboxie.aggregate.id": "order-1", "outboxie.aggregate.version": int64(1),
	}, attributesOf(span))
}

// TestOneUnsampledEventKeepsItsTrace checks that log lines about a lone unsampled event carry the trace of its order. The event
// gets no span.
func TestOneUnsampledEventKeepsItsTrace(t *testing.T) {
	tp, spans := record()
	handler := inside{}
	_, err := traceInbox(tp, &database{}).Work.Apply(
		context.Background(), "billing", batchIn(0, delivered(unsampledHeaders())), handler, lenient)
	require.NoError(t, err)
	require.Equal(t, storedTrace, handler["e1"].TraceID().String())
	require.Empty(t, spans.names())
}

func TestOneEventWithoutStoredContextStartsATrace(t *testing.T) {
	tp, spans := record()
	junk := batchIn(0, delivered(map[string]string{"traceparent": "junk"}))
	_, err := traceInbox(tp, &database{}).Work.Apply(context.Background(), "billing", junk, inside{}, lenient)
	require.NoError(t, err)
	span := spans.one(t, "process orders.created")
	require.False(t, span.Parent().IsValid())
	require.Empty(t, span.Links())

	tp, spans = record()
	ctx, parent := inSpan(tp)
	_, err = traceInbox(tp, &database{}).Work.Apply(ctx, "billing", junk, inside{}, lenient)
	require.NoError(t, err)
	parent.End()
	requireChild(t, spans.one(t, "process orders.created"), spans.one(t, "test"))
	require.Empty(t, spans.one(t, "process orders.created").Links())
}

// TestOneEventTellsItsFailure checks that the span of a lone event has the error of the event, also if the event is set aside.
func TestOneEventTellsItsFailure(t *testing.T) {
	for name, c := range map[string]struct {
		handler   failing
		suspect   bool
		judge     inbox.FailurePolicy
		commit    error
		fails     bool
		status    codes.Code
		text      string
		errorType string
	}{
		"the handler": {failing{"e1": errDown}, false, lenient, nil, true, codes.Error, errDown.Error(), "database_down"},
		"the handler in a savepoint": {
			failing{"e1": inbox.ErrUnreadable},
			true, lenient, nil, false,
			codes.Error, inbox.ErrUnreadable.Error(), "unreadable_event",
		},
		"an outage in a savepoint": {failing{"e1": errDown}, true, strict, nil, true, codes.Error, errDown.Error(), "database_down"},
		"the commit":               {nil, false, lenient, errDown, true, codes.Error, errDown.Error(), "database_down"},
		"collected writes": {
			nil, false, lenient, &inbox.CollectedError{Err: inbox.ErrPermanent}, true,
			codes.Error, (&inbox.CollectedError{Err: inbox.ErrPermanent}).Error(), "permanent_failure",
		},
		"another copy": {nil, false, lenient, inbox.ErrLaneMoved, true, codes.Unset, "", "lane_moved"},
	} {
		t.Run(name, func(t *testing.T) {
			tp, spans := record()
			events := delivered(sampledHeaders())
			events[0].Suspect = c.suspect
			outcome, err := traceInbox(tp, &database{err: c.commit}).Work.Apply(
				context.Background(), "billing", batchIn(0, events), c.handler, c.judge)
			require.Equal(t, c.fails, err != nil)
			if !c.fails {
				require.Equal(t, c.text, outcome.Letters[0].Error, "the judge was asked")
			}
			span := spans.one(t, "process orders.created")
			require.Equal(t, sdktrace.Status{Code: c.status, Description: c.text}, span.Status())
			require.Equal(t, c.errorType, attributeOf(span, "error.type"))
			require.Equal(t, map[codes.Code]string{codes.Error: "exception", codes.Unset: "conflict"}[c.status], span.Events()[0].Name)
		})
	}
}

// TestABatchIsATraceThatLinksToItsOrders checks the spans of a batch and of each sampled event in it.
func TestABatchIsATraceThatLinksToItsOrders(t *testing.T) {
	tp, spans := record()
	ctx, _ := inSpan(tp)
	const otherTrace = "11111111111111111111111111111111"
	batch := batchIn(3, delivered(sampledHeaders(), unsampledHeaders(), nil, map[string]string{"Traceparent": sampledParent},
		map[string]string{"traceparent": sampledParent[:54] + "1g"}, map[string]string{"traceparent": "00-" + otherTrace + "-" + storedSpan + "-03"}))
	before := make([]inbox.Event, len(batch.Events))
	for i, event := range batch.Events {
		before[i] = event
		before[i].Headers = maps.Clone(event.Headers)
	}
	next, handler := &database{}, inside{}
	outcome, err := traceInbox(tp, next).Work.Apply(ctx, "billing", batch, handler, lenient)
	require.NoError(t, err)
	require.Len(t, outcome.Results, 6)
	require.Equal(t, before, batch.Events)

	whole := spans.one(t, "process ORDERS")
	require.Equal(t, trace.SpanKindConsumer, whole.SpanKind())
	require.False(t, whole.Parent().IsValid(), "a new root")
	require.Equal(t, whole.SpanContext(), trace.SpanContextFromContext(next.in), "the statements are below it")
	require.Len(t, whole.Links(), 2)
	require.Equal(t, storedTrace, whole.Links()[0].SpanContext.TraceID().String())
	require.Equal(t, otherTrace, whole.Links()[1].SpanContext.TraceID().String())
	require.Equal(t, map[string]any{
		"messaging.system": "nats", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.destination.name": "ORDERS", "messaging.batch.message_count": int64(6),
		"messaging.client.id": "app1", "messaging.consumer.group.name": "billing", "outboxie.lane": int64(3),
	}, attributesOf(whole))

	events := spans.all("process orders.created")
	require.Len(t, events, 2)
	for i, id := range []string{"e1", "e6"} {
		require.Equal(t, id, attributeOf(events[i], "messaging.message.id"))
		require.Equal(t, trace.SpanKindConsumer, events[i].SpanKind())
		require.Equal(t, whole.Links()[i].SpanContext.TraceID(), events[i].SpanContext().TraceID(), "in its order's trace")
		require.Equal(t, storedSpan, events[i].Parent().SpanID().String())
		require.Equal(t, []trace.SpanContext{whole.SpanContext(), whole.Links()[i].SpanContext}, linkedBy(events[i]))
		require.Equal(t, events[i].SpanContext(), handler[id])
		require.Equal(t, whole.EndTime(), events[i].EndTime(), "until the commit")
		require.Equal(t, codes.Unset, events[i].Status().Code)
		require.Len(t, events[i].Attributes(), 11, "as of a lone event")
	}
	for _, id := range []string{"e2", "e3", "e4", "e5"} {
		require.Equal(t, whole.SpanContext(), handler[id], "not sampled")
	}
}

func linkedBy(span sdktrace.ReadOnlySpan) []trace.SpanContext {
	var linked []trace.SpanContext
	for _, link := range span.Links() {
		linked = append(linked, link.SpanContext)
	}
	return linked
}

// TestABatchThatFailsTellsEachOrder checks that the failed event's span has the event's own error. The spans of the other
// events have the error of the transaction.
func TestABatchThatFailsTellsEachOrder(t *testing.T) {
	for name, c := range map[string]struct {
		handler inbox.Handler
		commit  error
		first   string // the error in the span of e1, whose handler succeeds
		second  string // the error in the span of e2
	}{
		"an event fails":       {failing{"e2": errDown}, nil, "event 2 of the batch: " + errDown.Error(), errDown.Error()},
		"an unsampled one":     {failing{"e3": errDown}, nil, "event 3 of the batch: " + errDown.Error(), "event 3 of the batch: " + errDown.Error()},
		"the handler panics":   {panicking("e2"), nil, "event 2 of the batch: the handler panicked: e2", "the handler panicked: e2"},
		"the collected writes": {failing{}, &inbox.CollectedError{Err: errDown}, "write what the handlers collected: " + errDown.Error(), "write what the handlers collected: " + errDown.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			tp, spans := record()
			next := &database{err: c.commit}
			_, err := traceInbox(tp, next).Work.Apply(context.Background(), "billing",
				batchIn(0, delivered(sampledHeaders(), sampledHeaders(), nil)), c.handler, lenient)
			require.Error(t, err)
			events := spans.all("process orders.created")
			require.Len(t, events, 2)
			require.Equal(t, sdktrace.Status{Code: codes.Error, Description: c.first}, events[0].Status())
			require.Equal(t, sdktrace.Status{Code: codes.Error, Description: c.second}, events[1].Status())
			require.Equal(t, sdktrace.Status{Code: codes.Error, Description: err.Error()}, spans.one(t, "process ORDERS").Status())
		})
	}
}

// panicking is a handler that panics for one event.
type panicking string

func (p panicking) Handle(_ context.Context, _ inbox.Tx, entry outbox.Entry) error {
	if entry.ID == string(p) {
		panic(entry.ID)
	}
	return nil
}
func (panicking) Name() string    { return "test" }
func (panicking) Types() []string { return nil }
func (panicking) External() bool  { return false }

func (p panicking) Applied(context.Context, outbox.Entry) {}

// TestAnEventThatIsSetAsideTellsOnlyItsOrder checks that a failure in a savepoint is shown in the event's own span only.
func TestAnEventThatIsSetAsideTellsOnlyItsOrder(t *testing.T) {
	for name, handler := range map[string]inbox.Handler{"error": failing{"e2": inbox.ErrPermanent}, "panic": panicking("e2")} {
		t.Run(name, func(t *testing.T) {
			tp, spans := record()
			events := delivered(sampledHeaders(), sampledHeaders(), sampledHeaders())
			events[1].Suspect = true
			outcome, err := traceInbox(tp, &database{}).Work.Apply(context.Background(), "billing", batchIn(0, events), handler, lenient)
			require.NoError(t, err)
			require.Equal(t, []inbox.Result{inbox.Applied, inbox.SetAside, inbox.Applied}, outcome.Results)
			traced := spans.all("process orders.created")
			require.Len(t, traced, 3)
			for i, status := range []codes.Code{codes.Unset, codes.Error, codes.Unset} {
				require.Equal(t, status, traced[i].Status().Code)
			}
			require.Equal(t, outcome.Letters[0].Error, traced[1].Status().Description)
			require.Equal(t, codes.Unset, spans.one(t, "process ORDERS").Status().Code)
		})
	}
	t.Run("not sampled", func(t *testing.T) {
		tp, spans := record()
		events := delivered(sampledHeaders(), nil)
		events[1].Suspect = true
		_, err := traceInbox(tp, &database{}).Work.Apply(context.Background(), "billing", batchIn(0, events),
			failing{"e2": inbox.ErrPermanent}, lenient)
		require.NoError(t, err)
		require.Equal(t, codes.Unset, spans.one(t, "process orders.created").Status().Code, "of the other one")
	})
}

// TestALaneThatMovedIsAnAnswer checks that the span of a batch has no error if another copy has applied the batch first.
func TestALaneThatMovedIsAnAnswer(t *testing.T) {
	tp, spans := record()
	_, err := traceInbox(tp, &database{err: inbox.ErrLaneMoved}).Work.Apply(context.Background(), "billing",
		batchIn(0, delivered(sampledHeaders(), nil)), inside{}, lenient)
	require.Same(t, inbox.ErrLaneMoved, err)
	for _, name := range []string{"process ORDERS", "process orders.created"} {
		require.Equal(t, codes.Unset, spans.one(t, name).Status().Code)
		require.Equal(t, "conflict", spans.one(t, name).Events()[0].Name)
		require.Equal(t, "lane_moved", attributeOf(spans.one(t, name), "error.type"))
	}
}

// TestTransactionsWithoutASampledEventLeaveNoTrace checks that a transaction without a sampled event makes no span, and that
// the database gets the original context and handler.
func TestTransactionsWithoutASampledEventLeaveNoTrace(t *testing.T) {
	unreadable := delivered(sampledHeaders(), sampledHeaders())
	for i := range unreadable {
		unreadable[i].Unreadable = inbox.ErrUnreadable
	}
	for name, events := range map[string][]inbox.Event{
		"empty":          nil,
		"unsampled":      delivered(unsampledHeaders(), nil, unsampledHeaders()),
		"unreadable":     unreadable,
		"one unreadable": unreadable[:1],
	} {
		t.Run(name, func(t *testing.T) {
			tp, spans := record()
			next, handler := &database{err: errDown}, failing{}
			ctx := t.Context()
			_, err := traceInbox(tp, next).Work.Apply(ctx, "billing", batchIn(0, events), handler, lenient)
			require.Same(t, errDown, err)
			require.Equal(t, ctx, next.in)
			require.Equal(t, handler, next.handler)
			require.Empty(t, spans.names())
		})
	}
}

// TestInboxBoundsItsLinks checks that a batch or redelivery links to the first 128 events only, and that every event still has
// its span.
func TestInboxBoundsItsLinks(t *testing.T) {
	headers := make([]map[string]string, 200)
	for i := range headers {
		headers[i] = map[string]string{"traceparent": fmt.Sprintf("00-%032x-%016x-01", i+1, i+1)}
	}
	events := delivered(headers...)
	for name, do := range map[string]func(telemetry.InboxPorts) error{
		"apply": func(p telemetry.InboxPorts) error {
			_, err := p.Work.Apply(context.Background(), "billing", batchIn(0, events), inside{}, lenient)
			return err
		},
		"redeliver": func(p telemetry.InboxPorts) error {
			_, _, err := p.Letters.Redeliver(context.Background(), "billing", inbox.Redelivery{}, inside{}, lenient)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			tp, spans := record()
			require.NoError(t, do(traceInbox(tp, &database{letters: events})))
			whole := spans.one(t, "process ORDERS")
			require.Len(t, whole.Links(), 128)
			require.Zero(t, whole.DroppedLinks())
			require.Equal(t, fmt.Sprintf("%032x", 1), whole.Links()[0].SpanContext.TraceID().String())
			require.Len(t, spans.all("process orders.created"), 200)
		})
	}
}

// TestEventsDoNotLinkToABatchThatNobodySees checks that events have no link to a batch that is not sampled.
func TestEventsDoNotLinkToABatchThatNobodySees(t *testing.T) {
	tp, spans := record(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	_, err := traceInbox(tp, &database{}).Work.Apply(context.Background(), "billing",
		batchIn(0, delivered(sampledHeaders(), nil)), inside{}, lenient)
	require.NoError(t, err)
	require.Equal(t, []string{"process orders.created"}, spans.names())
	requireStoredLink(t, spans.one(t, "process orders.created"))
}

func TestInboxIsNotTracedWithoutAProvider(t *testing.T) {
	next := inboxOf(&database{})
	require.Equal(t, next, telemetry.TraceInbox(noop.NewTracerProvider(), "billing", "ORDERS", source, next))
}
