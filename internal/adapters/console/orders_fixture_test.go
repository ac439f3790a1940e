package console_test

import (
	"context"
	"net/http"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assylzhan-a/outboxie/internal/adapters/codec"
	"github.com/assylzhan-a/outboxie/internal/adapters/console"
	"github.com/assylzhan-a/outboxie/internal/adapters/memory"
	"github.com/assylzhan-a/outboxie/internal/app/ordering"
	"github.com/assylzhan-a/outboxie/internal/domain/order"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/domain/value"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
	"github.com/assylzhan-a/outboxie/internal/ports/orders"
)

const (
	customer = "550e8400-e29b-41d4-a716-446655440000"
	traceID  = "4bf92f3577b34da6a3ce929d0e0e4736"
	streamID = "2026-11-29T10:00:00.123456789Z"
)

// shop is the order service, the relay's ports and the inbox in memory, with a browser of a console over them. It counts reads of orders.
type shop struct {
	*browser
	orders.Service
	log     *memory.Log
	lease   *memory.Lease
	cursors *memory.CursorStore
	stream  *memory.Stream
	inbox   *memory.Inbox
	reads   atomic.Int64
	slow    chan struct{} // if it is not nil, reads wait until it is closed
}

// Get counts.
func (s *shop) Get(ctx context.Context, who order.Principal, id order.ID) (order.Snapshot, error) {
	s.reads.Add(1)
	if s.slow != nil {
		<-s.slow
	}
	return s.Service.Get(ctx, who, id)
}

// traced is an encoder whose messages belong to a trace.
type traced struct{ orders.Encoder }

// Encode adds the header.
func (e traced) Encode(event order.Event, who order.Principal) (outbox.Message, error) {
	message, err := e.Encoder.Encode(event, who)
	message.Headers = map[string]string{"traceparent": "00-" + traceID + "-00f067aa0ba902b7-01"}
	return message, err
}

func openShop(t *testing.T, adjust ...func(*console.Options)) *shop {
	t.Helper()
	log := memory.NewLog()
	work := memory.NewUnitOfWork(log)
	s := &shop{log: log, lease: memory.NewLease(time.Minute), stream: memory.NewStream(), inbox: memory.NewInbox()}
	s.stream.LimitSubjects("orders.")
	s.inbox.UseLog(log)
	s.cursors = memory.NewCursorStore(s.lease, log)
	newID := func() order.ID { return order.ID(uuid.Must(uuid.NewV7()).String()) }
	s.Service = ordering.New(ordering.Ports{
		Work: work, Orders: memory.NewOrderReader(work), Encoder: traced{codec.New(nil)}, Notifier: memory.NewNotifier(), Log: s.cursors, Finder: s.stream,
	}, newID, time.Now)
	s.browser = open(t, console.Options{Orders: s, Effects: s.inbox, Traces: "http://jaeger:16686"}, adjust...)
	return s
}

// place places an order without the console.
func (s *shop) place(t *testing.T, customer value.CustomerID, minor int64) order.Snapshot {
	t.Helper()
	placed, err := s.Place(t.Context(), order.Anyone(), customer, value.NewMoney(minor, "USD"), "")
	require.NoError(t, err)
	return placed
}

// publish publishes every committed event, each with the sequence that is its position.
func (s *shop) publish(t *testing.T) []outbox.Entry {
	t.Helper()
	_, err := s.stream.Open(t.Context(), 1)
	require.NoError(t, err)
	entries := s.log.Committed()
	_, err = s.stream.Publish(t.Context(), 0, entries)
	require.NoError(t, err)
	return entries
}

// subscribe begins a subscriber that wants some types.
func (s *shop) subscribe(t *testing.T, subscriber string, types ...string) {
	t.Helper()
	require.NoError(t, s.inbox.CreateLanes(t.Context(), subscriber, 1, streamID, inbox.StreamPosition{}))
	require.NoError(t, s.inbox.Subscribe(t.Context(), subscriber, "handler", types))
}

// handle lets a subscriber handle events. Its handler fails with failure.
func (s *shop) handle(t *testing.T, subscriber string, failure error, entries ...outbox.Entry) {
	t.Helper()
	seen, err := s.inbox.Heartbeat(t.Context(), subscriber, "copy")
	require.NoError(t, err)
	batch := inbox.Batch{From: seen.Lanes[0]}
	for _, entry := range entries {
		batch.Events = append(batch.Events, inbox.Event{Entry: entry, Sequence: uint64(entry.Position), Suspect: true})
		batch.To = inbox.StreamPosition{Sequence: uint64(entry.Position), StoredAt: time.Now()}
	}
	_, err = s.inbox.Apply(t.Context(), subscriber, batch, handler{failure}, func(_ outbox.Entry, _ int, err error) (inbox.Failure, error) {
		return inbox.Failure{Cause: err, Limit: 1, Permanent: true}, nil
	})
	require.NoError(t, err)
}

// handler fails with an error, or succeeds if there is none.
type handler struct{ err error }

func (handler) Name() string                                           { return "handler" }
func (handler) Types() []string                                        { return nil }
func (handler) External() bool                                         { return false }
func (h handler) Handle(context.Context, inbox.Tx, outbox.Entry) error { return h.err }
func (handler) Applied(context.Context, outbox.Entry)                  {}

// field returns the value of an input on a page.
func field(t *testing.T, body, name string) string {
	t.Helper()
	found := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(body)
	require.NotNil(t, found, name)
	return found[1]
}

// shown returns an order's page.
func (s *shop) shown(t *testing.T, id order.ID) string {
	t.Helper()
	status, body := s.get("/orders/" + string(id))
	require.Equal(t, http.StatusOK, status, body)
	return body
}

// live asks for the live part of an order's page, as htmx does.
func (s *shop) live(t *testing.T, address string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.base+console.Path+address, http.NoBody)
	require.NoError(t, err)
	request.Header.Set("HX-Request", "true")
	answer, err := s.client.Do(request)
	status, body := s.read(answer, err)
	require.Equal(t, http.StatusOK, status, body)
	return body
}
