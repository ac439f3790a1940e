package console_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/operations"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
	"github.com/assylzhan-a/outboxie/outboxietest/relaytest"
)

// inspector reads a real log in memory, and keeps the filters that the console uses.
type inspector struct {
	operations.RelayInspector
	log     operations.EventLog
	filters []operations.EventFilter
}

func (i *inspector) List(ctx context.Context, filter operations.EventFilter) ([]operations.ListedEvent, error) {
	i.filters = append(i.filters, filter)
	return i.log.List(ctx, filter)
}

// hostile is a text that would run in a page that does not escape it, and that reverses the text after it.
const hostile = "<script>alert(1)</script>\u202e\"'"

const (
	eventOrder   = "550e8400-e29b-41d4-a716-446655440000"
	eventTrace   = "4bf92f3577b34da6a3ce929d0e0e4736"
	sampledTrace = "00-" + eventTrace + "-00f067aa0ba902b7-01"
)

// eventLog is a log with a relay that has published the first event.
type eventLog struct {
	t         *testing.T
	log       *memory.Log
	cursors   *memory.CursorStore
	parking   *memory.Parking
	inspector *inspector
	fence     relay.WriteFence
}

func newEventLog(t *testing.T, messages ...outbox.Message) *eventLog {
	t.Helper()
	l := &eventLog{t: t, log: memory.NewLog()}
	lease := memory.NewLease(time.Minute)
	l.cursors = memory.NewCursorStore(lease, l.log)
	l.parking = memory.NewParking(l.cursors)
	l.inspector = &inspector{log: l.cursors}
	l.append(messages...)
	term, err := memory.NewElector(lease, "instance-1").Acquire(t.Context(), 0)
	require.NoError(t, err)
	l.fence = relay.WriteFence{Token: term.Token}
	first := l.log.Readable()[0]
	saved, err := l.cursors.Save(t.Context(), l.fence, relay.Cursor{Progress: first.Progress(), StreamCreated: "x", StreamSequence: 1})
	require.NoError(t, err)
	l.fence.Revision = saved.Revision
	return l
}

func (l *eventLog) append(messages ...outbox.Message) {
	l.t.Helper()
	writer := l.log.Begin()
	require.NoError(l.t, writer.Append(l.t.Context(), messages...))
	require.NoError(l.t, writer.Commit())
}

// park puts an event into the parking lot, as the relay does with an event that the broker refuses.
func (l *eventLog) park(index int, reason string) {
	l.t.Helper()
	tail := relay.MessageMeta{Own: true, Progress: l.log.Readable()[index].Progress(), Parked: reason, LastOwnSequence: 9}
	_, err := l.parking.Reconcile(l.t.Context(), l.fence, tail, 10, true)
	require.NoError(l.t, err)
}

func eventOf(aggregate string, version int64) outbox.Message {
	message := relaytest.NewMessage(aggregate, version)
	message.Key.Type = orders.AggregateType
	return message
}

// TestEvents checks that the list shows the newest events first with their states, chooses by each field of the form, and reads no payload.
func TestEvents(t *testing.T) {
	other := eventOf("7", 1)
	other.Key.Type, other.Type = "voucher", "voucher.sent.v1"
	l := newEventLog(t, eventOf(eventOrder, 1), eventOf(eventOrder, 2), other)
	l.park(1, "too large")
	b := open(t, console.Options{Relay: l.inspector})

	positions := func(query string) (found []int) {
		t.Helper()
		status, body := b.get("/events" + query)
		require.Equal(t, http.StatusOK, status, body)
		for position := 1; position <= 3; position++ {
			if strings.Contains(body, fmt.Sprintf(`<a href="/console/events/%d">`, position)) {
				found = append(found, position)
			}
		}
		return found
	}
	recorded := l.log.Readable()[0].RecordedAt.UTC()
	for query, want := range map[string][]int{
		"":                                   {1, 2, 3},
		"?aggregate=&type=&since=&state=":    {1, 2, 3},
		"?aggregate=" + eventOrder:           {1, 2},
		"?aggregate=order/" + eventOrder:     {1, 2},
		"?aggregate=voucher/7":               {3},
		"?type=voucher.sent.v1":              {3},
		"?type=none":                         nil,
		"?state=published":                   {1},
		"?state=parked":                      {2},
		"?state=unpublished":                 {3},
		"?state=misplaced":                   nil,
		"?before=3":                          {1, 2},
		"?before=3&state=parked":             {2},
		"?since=2001-01-01T00:00":            {1, 2, 3},
		"?since=2001-01-01T00:00:00":         {1, 2, 3},
		"?since=2001-01-01T00:00:00%2B02:00": {1, 2, 3},
		"?since=" + recorded.Format("2006-01-02T15:04"):                {1, 2, 3},
		"?since=" + recorded.Add(time.Hour).Format(time.RFC3339):       nil,
		"?since=" + recorded.Add(time.Hour).Format("2006-01-02T15:04"): nil,
	} {
		require.Equal(t, want, positions(query), query)
	}
	_, body := b.get("/events?since=2001-01-01T02:00:00%2B02:00&state=parked")
	require.Contains(t, body, `value="2001-01-01T00:00:00"`)
	require.Contains(t, body, `<option value="parked" selected>`)
	require.Contains(t, body, "too large")
	_, body = b.get("/events")
	require.Less(t, strings.Index(body, "/events/3"), strings.Index(body, "/events/2"))
	require.Contains(t, body, `<span class="badge bad">parked</span>`)
	require.NotContains(t, body, "Older events")
	_, body = b.get("/events?state=discarded")
	require.Contains(t, body, "No such events.")
	for _, filter := range l.inspector.filters {
		require.False(t, filter.Payloads)
		require.Equal(t, 50, filter.Limit)
	}
}

// TestEventsRefuseBadFilters checks that the page says which field is wrong.
func TestEventsRefuseBadFilters(t *testing.T) {
	b := open(t, console.Options{Relay: newEventLog(t, eventOf("a", 1)).inspector})
	for path, says := range map[string]string{
		"/events?aggregate=7":                             "is neither the UUID of an order nor the TYPE/ID",
		"/events?aggregate=order/%FF":                     "is neither the UUID",
		"/events?type=%00":                                "the type must be one such as",
		"/events?since=yesterday":                         "must be a time such as",
		"/events?since=0000-01-01T00:00":                  "must be a time such as",
		"/events?state=lost":                              "must be one of unpublished, published",
		"/events?before=0":                                "must be a whole number above 0",
		"/events?before=-1":                               "must be a whole number above 0",
		"/events?before=99999999999999999999":             "must be a whole number above 0",
		"/events/x":                                       "must be a whole number above 0",
		"/events/1?payload=2":                             "payload must be 1",
		"/events?state=%3Cscript%3Ealert(1)%3C/script%3E": "&lt;script&gt;",
	} {
		status, body := b.get(path)
		require.Equal(t, http.StatusBadRequest, status, path)
		require.Contains(t, body, says, path)
		require.NotContains(t, body, "<script>alert", path)
	}
	status, body := b.get("/events/2")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, body, "the log has no event at position 2")
}

// TestOlderEvents checks that the links lead through the whole log, and keep what the form chose.
func TestOlderEvents(t *testing.T) {
	var messages []outbox.Message
	for version := range int64(120) {
		messages = append(messages, eventOf("a&b", version+1))
	}
	b := open(t, console.Options{Relay: newEventLog(t, messages...).inspector})
	address, seen := "/events?aggregate=order%2Fa%26b&junk=1", 0
	for pages := 1; address != ""; pages++ {
		_, body := b.get(address)
		seen += strings.Count(body, `<th scope="row" class="number">`)
		require.Equal(t, pages > 1, strings.Contains(body, `href="/console/events?aggregate=order%2Fa%26b">Newest events`), address)
		_, rest, more := strings.Cut(body, `class="button" href="/console`)
		if address = ""; more {
			link, _, _ := strings.Cut(rest, `"`)
			address = strings.ReplaceAll(link, "&amp;", "&")
			require.NotContains(t, address, "junk")
		}
		require.Less(t, pages, 4)
	}
	require.Equal(t, 120, seen)
}

// TestEvent checks that the page shows every field of an event, with links to its order and its trace, if the process has them.
func TestEvent(t *testing.T) {
	message := eventOf(eventOrder, 1)
	message.Headers = map[string]string{"traceparent": sampledTrace, "tenant": "a  b"}
	unsampled := eventOf("no order's id", 1)
	unsampled.Headers = map[string]string{"traceparent": strings.TrimSuffix(sampledTrace, "1") + "0"}
	l := newEventLog(t, message, unsampled, eventOf("x", 1))
	l.park(1, "too large")
	var service struct{ orders.Service }

	b := open(t, console.Options{Relay: l.inspector, Orders: service, Traces: "http://jaeger:16686"})
	status, body := b.get("/events/1")
	require.Equal(t, http.StatusOK, status)
	for _, part := range []string{
		message.ID, message.Type, message.Subject, "order/" + eventOrder, "published", sampledTrace, "tenant",
		`href="/console/orders/` + eventOrder + `"`, `href="http://jaeger:16686/trace/` + eventTrace + `"`,
	} {
		require.Contains(t, body, part)
	}
	_, body = b.get("/events/2")
	require.Contains(t, body, "too large")
	require.Contains(t, body, `href="/console/parked">Open the parking lot`)
	require.Contains(t, body, "(it was not sampled)")
	require.NotContains(t, body, "/console/orders/", "it is not the id of an order")
	_, body = b.get("/events/3")
	require.NotContains(t, body, "/trace/")
	require.Contains(t, body, "<p>none</p>", "headers")

	_, body = open(t, console.Options{Relay: l.inspector}).get("/events/1")
	require.NotContains(t, body, "/console/orders/")
	require.NotContains(t, body, "/trace/")
	require.Contains(t, body, eventTrace)
}

// TestSealedPayload checks that the page of an event shows a sealed payload as it is, and names the key.
func TestSealedPayload(t *testing.T) {
	key := outbox.NewSealKey()
	message := eventOf("a", 1)
	message.Payload = []byte(`{"card":"4242"}`)
	message, err := message.Seal(key)
	require.NoError(t, err)
	_, body := open(t, console.Options{Relay: newEventLog(t, message).inspector}).get("/events/1?payload=1")
	require.Contains(t, body, "The payload is sealed with the key "+key.ID)
	require.Contains(t, body, "&#34;sealed&#34;: &#34;")
	require.NotContains(t, body, "4242")
}

// TestPayloadIsShownOnRequest checks that the payload is neither read nor sent before somebody asks for it.
func TestPayloadIsShownOnRequest(t *testing.T) {
	message := eventOf("a", 1)
	message.Payload = []byte(`{"card":"4242","list":[1,2]}`)
	large := eventOf("a", 2)
	large.Payload = []byte(`"` + strings.Repeat("x", operations.MaxListedPayload) + `"`)
	deep := eventOf("a", 3)
	deep.Payload = []byte(strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000)) // with indents it would take 160 MB
	l := newEventLog(t, message, large, deep)
	b := open(t, console.Options{Relay: l.inspector})
	_, body := b.get("/events/1")
	require.NotContains(t, body, "4242")
	require.Contains(t, body, "Show the payload")
	require.False(t, l.inspector.filters[0].Payloads)
	_, body = b.get("/events/1?payload=1")
	require.Contains(t, body, "{\n  &#34;card&#34;: &#34;4242&#34;,\n  &#34;list&#34;: [\n    1,\n    2\n  ]\n}")
	require.Contains(t, body, "Hide the payload")
	_, body = b.get("/events/2?payload=1")
	require.Contains(t, body, "It is not shown: it takes more than 1048576 bytes.")
	_, body = b.get("/events/3?payload=1")
	require.Contains(t, body, string(deep.Payload))

	require.NotContains(t, body, "The payload is sealed")

	l.inspector.filters = nil
	hidden := open(t, console.Options{Relay: l.inspector, HidePayload: true})
	for _, path := range []string{"/events/1", "/events/1?payload=1"} {
		_, body = hidden.get(path)
		require.NotContains(t, body, "4242")
		require.NotContains(t, body, "Show the payload")
		require.Contains(t, body, "CONSOLE_PAYLOADS is off")
	}
	for _, filter := range l.inspector.filters {
		require.False(t, filter.Payloads)
	}
}

// TestHostileEvents checks that no text of an event becomes a part of the page, and that invisible characters are shown escaped.
func TestHostileEvents(t *testing.T) {
	message := eventOf(hostile, 1)
	message.Type, message.Subject, message.Key.Type = hostile, hostile, "order"
	message.Headers = map[string]string{hostile: hostile, "traceparent": hostile}
	message.Payload = []byte(`{"a":"</pre><script>alert(1)</script>` + "\u202e" + `"}`)
	l := newEventLog(t, message)
	l.park(0, hostile)
	var service struct{ orders.Service }
	b := open(t, console.Options{Relay: l.inspector, Orders: service, Traces: "http://jaeger"})
	for _, path := range []string{"/events", "/events?type=%3Cscript%3Ealert(1)%3C/script%3E", "/events/1", "/events/1?payload=1"} {
		status, body := b.get(path)
		require.Equal(t, http.StatusOK, status, path)
		require.Contains(t, body, "&lt;script&gt;", path)
		require.NotContains(t, body, "<script>alert", path)
		require.NotContains(t, body, "\u202e", path)
		require.NotContains(t, body, "/console/orders/", path)
	}
}
