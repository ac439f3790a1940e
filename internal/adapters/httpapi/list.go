package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

const (
	defaultPage = 50
	maxPage     = 200
)

// list answers with a page of the list.
func (o orderRoutes) list(c *gin.Context) error {
	in := parametersOf(c, "customer_id", "status", "created_from", "created_before", "cursor", "limit")
	filter := orders.Filter{
		CreatedFrom: in.time("created_from"), CreatedBefore: in.time("created_before"), Limit: in.limit(defaultPage, maxPage),
	}
	in.ifGiven("customer_id", func(text string) {
		customer, err := value.ParseCustomerID(text)
		in.addParameterError(err)
		filter.Customer = customer
	})
	in.ifGiven("status", func(text string) {
		if !OrderStatus(text).Valid() {
			in.addParameter("status", "must be created, paid, shipped or cancelled")
		}
		filter.Status = order.Status(text)
	})
	in.ifGiven("cursor", func(text string) {
		place, ok := readCursor(text)
		if !ok {
			in.addParameter("cursor", "must be the next of an earlier page")
		}
		filter.After = &place
	})
	if err := in.err(); err != nil {
		return err
	}
	page, err := o.service.List(c.Request.Context(), principalOf(c), filter)
	if err != nil {
		return err
	}
	shown := OrderPage{Orders: make([]Order, 0, len(page.Orders))}
	for _, found := range page.Orders {
		shown.Orders = append(shown.Orders, show(found))
	}
	if page.Next != nil {
		shown.Next = optional(cursorOf(*page.Next))
	}
	return answer(c, http.StatusOK, shown)
}

// cursorOf encodes a page cursor as a text that clients send back unchanged. The text holds an id and a time in microseconds, which is the
// precision of the times of orders.
func cursorOf(place orders.PageCursor) string {
	id := uuid.MustParse(string(place.ID))
	raw := binary.BigEndian.AppendUint64(nil, uint64(place.CreatedAt.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(raw, id[:]...))
}

// readCursor decodes a text that cursorOf made. It reports false for any other text.
func readCursor(text string) (orders.PageCursor, bool) {
	const size = 8 + 16
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != size || len(text) != base64.RawURLEncoding.EncodedLen(size) { // the decoder skips line breaks
		return orders.PageCursor{}, false
	}
	createdAt := time.UnixMicro(int64(binary.BigEndian.Uint64(raw))).UTC()
	id := uuid.UUID(raw[8:])
	return orders.PageCursor{CreatedAt: createdAt, ID: order.ID(id.String())}, createdAt.Year() >= 1 && createdAt.Year() <= 9999
}

// events answers with the events of an order.
func (o orderRoutes) events(c *gin.Context) error {
	var in fieldErrors
	id := readID(c, &in)
	if err := in.err(); err != nil {
		return err
	}
	found, err := o.service.Events(c.Request.Context(), principalOf(c), id)
	if err != nil {
		return err
	}
	shown := OrderEvents{Events: make([]OrderEvent, 0, len(found))}
	for _, event := range found {
		shown.Events = append(shown.Events, showEvent(c.Request.Context(), event))
	}
	return answer(c, http.StatusOK, shown)
}

func showEvent(ctx context.Context, e orders.Event) OrderEvent {
	shown := OrderEvent{
		Type:       e.Type,
		Version:    e.Version,
		EventID:    e.ID,
		Position:   int64(e.Position),
		RecordedAt: e.RecordedAt.UTC(),
		Delivery:   OrderEventDelivery(e.Delivery),
		Reason:     optional(e.Reason),
	}
	if !e.PublishedAt.IsZero() {
		published, lag := e.PublishedAt.UTC(), max(e.PublishedAt.Sub(e.RecordedAt), 0).Seconds()
		shown.PublishedAt, shown.LagSeconds = &published, &lag
	}
	created := propagation.TraceContext{}.Extract(trace.ContextWithSpanContext(ctx, trace.SpanContext{}), propagation.MapCarrier(e.Headers))
	if span := trace.SpanContextFromContext(created); span.HasTraceID() {
		shown.TraceID = optional(span.TraceID().String())
	}
	return shown
}
