package console

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/assylzhan-a/outboxie/internal/adapters/printable"
	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

// maxPretty is how many bytes a payload may take with line breaks and indents. A larger one is shown as it is.
const maxPretty = 2 * operations.MaxListedPayload

var errPayloadField = fault.New(fault.Invalid, "invalid_payload_field", "payload must be 1, which shows the payload, or left out")

// eventPage is the data of the page with one event.
type eventPage struct {
	eventRow
	Headers   [][2]string
	Order     string // address of the page of its order; empty: there is none
	TraceID   string // empty: its headers name no trace
	Trace     string // address of the trace; empty: there is no link
	Unsampled bool   // the trace was not recorded
	Hidden    bool   // payloads are never shown
	Asked     bool   // the payload is shown
	Payload   string
}

func (c *Console) serveEvent() {
	c.get("/events/{position}", func(w http.ResponseWriter, r *http.Request) error {
		position, err := readPosition(r.PathValue("position"))
		if err != nil {
			return err
		}
		asked := r.URL.Query().Get("payload")
		if asked != "" && asked != "1" {
			return errPayloadField
		}
		payload := asked == "1" && !c.HidePayload
		found, err := c.Relay.List(r.Context(), operations.EventFilter{Position: position, Limit: 1, Payloads: payload})
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return errNoEvent.With("the log has no event at position %d: it was never committed, or retention has removed it", position)
		}
		shown := c.newEventPage(r.Context(), found[0])
		shown.Asked = payload
		return c.show(w, r, "event", http.StatusOK, shown)
	})
}

func (c *Console) newEventPage(ctx context.Context, event operations.ListedEvent) eventPage {
	shown := eventPage{
		eventRow: newEventRow(event), Hidden: c.HidePayload, Payload: pretty(event.Payload),
	}
	for _, name := range slices.Sorted(maps.Keys(event.Headers)) {
		shown.Headers = append(shown.Headers, [2]string{name, event.Headers[name]})
	}
	if event.Key.Type == orders.AggregateType && c.Orders != nil {
		if id, err := order.ParseID(event.Key.ID); err == nil {
			shown.Order = Path + "/orders/" + string(id)
		}
	}
	created := propagation.TraceContext{}.Extract(trace.ContextWithSpanContext(ctx, trace.SpanContext{}), propagation.MapCarrier(event.Headers))
	if span := trace.SpanContextFromContext(created); span.HasTraceID() {
		shown.TraceID, shown.Unsampled = span.TraceID().String(), !span.IsSampled()
		if c.Traces != "" {
			shown.Trace = c.Traces + "/trace/" + shown.TraceID
		}
	}
	return shown
}

// pretty returns JSON with line breaks and indents. It returns any other text, and JSON that would become too large, as it is. Invisible
// characters are escaped.
func pretty(payload []byte) string {
	var indented, visible bytes.Buffer
	if json.Valid(payload) && prettySize(payload) <= maxPretty && json.Indent(&indented, payload, "", "  ") == nil {
		payload = indented.Bytes()
	}
	_, _ = printable.NewWriter(&visible).Write(payload) // a buffer does not fail
	return visible.String()
}

// prettySize returns an upper bound of the size of valid JSON with indents. A few bytes of JSON that is nested deeply would take gigabytes.
func prettySize(payload []byte) int {
	size, depth := len(payload), 0
	quoted, escaped := false, false
	for _, char := range payload {
		switch {
		case escaped:
			escaped = false
		case quoted && char == '\\':
			escaped = true
		case char == '"':
			quoted = !quoted
		case quoted:
		case char == '{', char == '[':
			depth++
			size += 1 + 2*depth
		case char == '}', char == ']':
			depth--
			size += 1 + 2*depth
		case char == ',':
			size += 1 + 2*depth
		case char == ':':
			size++
		}
	}
	return size
}
