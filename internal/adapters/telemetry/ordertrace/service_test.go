package ordertrace_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/telemetry/ordertrace"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// fakeService is a fake orders.Service. It gives the same answer for every use case, and records the span of the call.
type fakeService struct {
	state order.Snapshot
	err   error
	asked string
	in    trace.SpanContext
}

func (d *fakeService) answer(ctx context.Context, what string) (order.Snapshot, error) {
	d.asked, d.in = what, trace.SpanContextFromContext(ctx)
	return d.state, d.err
}

func (d *fakeService) Place(ctx context.Context, _ order.Principal, c value.CustomerID, m value.Money, k orders.Key) (order.Snapshot, error) {
	return d.answer(ctx, "place "+string(c)+" "+m.String()+" "+string(k))
}

func (d *fakeService) Pay(ctx context.Context, _ order.Principal, id order.ID, reference value.Note, g orders.Precondition) (order.Snapshot, error) {
	return d.answer(ctx, fmt.Sprint("pay ", id, " ", reference, g))
}

func (d *fakeService) Ship(ctx context.Context, _ order.Principal, id order.ID, carrier, tracking value.Note, g orders.Precondition) (order.Snapshot, error) {
	return d.answer(ctx, fmt.Sprint("ship ", id, " ", carrier, " ", tracking, g))
}

func (d *fakeService) Cancel(ctx context.Context, _ order.Principal, id order.ID, reason value.Note, g orders.Precondition) (order.Snapshot, error) {
	return d.answer(ctx, fmt.Sprint("cancel ", id, " ", reason, g))
}

func (d *fakeService) List(ctx context.Context, _ order.Principal, filter orders.Filter) (orders.Page, error) {
	state, err := d.answer(ctx, fmt.Sprint("list ", filter.Limit))
	return orders.Page{Orders: []order.Snapshot{state}}, err
}

func (d *fakeService) Events(ctx context.Context, _ order.Principal, id order.ID) ([]orders.Event, error) {
	state, err := d.answer(ctx, fmt.Sprint("events ", id))
	return []orders.Event{{Entry: outbox.Entry{Message: outbox.Message{Version: state.Version}}}}, err
}

func (d *fakeService) Get(ctx context.Context, _ order.Principal, id order.ID) (order.Snapshot, error) {
	return d.answer(ctx, "get "+string(id))
}

// TestServiceHasASpanPerUseCase checks that each method of the port runs in a span that names its use case and its order.
func TestServiceHasASpanPerUseCase(t *testing.T) {
	guard := orders.Precondition{Key: "k1", AllowedVersions: []int64{7}}
	for name, c := range map[string]struct {
		call    func(orders.Service, context.Context) (any, error)
		asked   string
		unknown bool // the call is not about a single order
	}{
		"place": {func(s orders.Service, ctx context.Context) (any, error) {
			return s.Place(ctx, order.Anyone(), "o1", value.NewMoney(100, "USD"), "k1")
		}, "place o1 1.00 USD k1", false},
		"pay": {func(s orders.Service, ctx context.Context) (any, error) {
			return s.Pay(ctx, order.Anyone(), "o1", "P-1", guard)
		}, "pay o1 P-1{k1 [7]}", false},
		"ship": {func(s orders.Service, ctx context.Context) (any, error) {
			return s.Ship(ctx, order.Anyone(), "o1", "UPS", "1Z", guard)
		}, "ship o1 UPS 1Z{k1 [7]}", false},
		"cancel": {func(s orders.Service, ctx context.Context) (any, error) {
			return s.Cancel(ctx, order.Anyone(), "o1", "late", guard)
		}, "cancel o1 late{k1 [7]}", false},
		"get": {func(s orders.Service, ctx context.Context) (any, error) { return s.Get(ctx, order.Anyone(), "o1") }, "get o1", false},
		"list": {func(s orders.Service, ctx context.Context) (any, error) {
			page, err := s.List(ctx, order.Anyone(), orders.Filter{Limit: 3})
			return page.Orders[0], err
		}, "list 3", true},
		"events": {func(s orders.Service, ctx context.Context) (any, error) {
			events, err := s.Events(ctx, order.Anyone(), "o1")
			return order.Snapshot{ID: "o1", Version: events[0].Version}, err
		}, "events o1", false},
	} {
		t.Run(name, func(t *testing.T) {
			tp, spans := record()
			ctx, parent := tp.Tracer("test").Start(context.Background(), "test")
			next := &fakeService{state: order.Snapshot{ID: "o1", Version: 7}}

			answer, err := c.call(ordertrace.TraceService(tp, next), ctx)
			parent.End()

			require.NoError(t, err)
			require.Equal(t, next.state, answer)
			require.Equal(t, c.asked, next.asked)
			span := spans.one(t, "order."+name)
			require.Equal(t, trace.SpanKindInternal, span.SpanKind())
			require.Equal(t, codes.Unset, span.Status().Code)
			if !c.unknown {
				require.Equal(t, "o1", attributeOf(span, "outboxie.order.id"))
			}
			require.Equal(t, span.SpanContext(), next.in)
			require.Equal(t, spans.one(t, "test").SpanContext().SpanID(), span.Parent().SpanID())
		})
	}
}

// TestErrorsAreRecordedByKind checks that an error reaches the caller, and that the span shows it as its kind asks.
func TestErrorsAreRecordedByKind(t *testing.T) {
	for name, c := range map[string]struct {
		err             error
		status          codes.Code
		errorType, kind string
		events          []string
	}{
		"not found":   {orders.ErrOrderNotFound, codes.Unset, "order_not_found", "not_found", nil},
		"invalid":     {value.ErrMoney, codes.Unset, "invalid_amount", "invalid", nil},
		"conflict":    {errConflict, codes.Unset, "order_changed", "conflict", []string{"conflict"}},
		"unavailable": {errDown, codes.Error, "database_down", "unavailable", []string{"exception"}},
		"unknown":     {errors.New("what"), codes.Error, "*errors.errorString", "internal", []string{"exception"}},
		"gave up":     {errDown.Wrap(context.Canceled), codes.Unset, "database_down", "unavailable", nil},
		"too late":    {context.DeadlineExceeded, codes.Error, "deadline_exceeded", "internal", []string{"exception"}},
	} {
		t.Run(name, func(t *testing.T) {
			tp, spans := record()
			_, err := ordertrace.TraceService(tp, &fakeService{err: c.err}).Pay(context.Background(), order.Anyone(), "o1", "", orders.Precondition{})

			require.Equal(t, c.err, err)
			span := spans.one(t, "order.pay")
			require.Equal(t, c.status, span.Status().Code)
			require.Equal(t, c.errorType, attributeOf(span, "error.type"))
			require.Equal(t, c.kind, attributeOf(span, "outboxie.fault.kind"))
			var events []string
			for _, event := range span.Events() {
				events = append(events, event.Name)
			}
			require.Equal(t, c.events, events)
		})
	}
}
