package outboxie

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// HandlerFunc applies the effect of an event in tx, and nowhere else: the same transaction records that the event was applied. Many events may
// share a transaction. HandlerFunc is called for events of one aggregate in order, and for events of different aggregates at the same time.
//
// If it fails, the transaction has no effect, and the event is tried again: after the first failure alone, then with growing pauses. Later events
// of the aggregate wait. The event is dead after the tenth failure, or at once if the error is Permanent. If the error is Unavailable, all events
// of the lane wait, and the failure does not count.
type HandlerFunc func(ctx context.Context, tx *Tx, event Received) error

// Middleware wraps each function of a handler. It must call next at most once.
type Middleware func(next HandlerFunc) HandlerFunc

// Handler has a function for each type of event. Events of other types are not for its subscriber.
type Handler struct {
	name      string
	external  bool
	functions map[string]HandlerFunc
	wrap      []Middleware
	batches   int
}

// NewHandler returns a handler that writes to the service's database. A subscriber keeps the name of its handler for ever.
func NewHandler(name string) *Handler {
	return &Handler{name: name, functions: make(map[string]HandlerFunc)}
}

// Use adds middleware. The first one is the outermost.
func (h *Handler) Use(middleware ...Middleware) *Handler {
	h.wrap = append(h.wrap, middleware...)
	return h
}

// Handle sets the function for a type of event. On is Handle for a typed payload.
func (h *Handler) Handle(eventType string, function HandlerFunc) *Handler {
	h.functions[eventType] = function
	return h
}

// On sets the function of h for a type of event whose payload is T as JSON. A payload that is not T is a Permanent failure.
func On[T any](h *Handler, eventType string, function func(ctx context.Context, tx *Tx, event Received, data T) error) {
	h.Handle(eventType, func(ctx context.Context, tx *Tx, event Received) error {
		data, err := decode[T](event)
		if err != nil {
			return err
		}
		return function(ctx, tx, event, data)
	})
}

// ExternalHandler calls something outside of the database, such as a payment provider.
type ExternalHandler struct{ handler *Handler }

// NewExternalHandler returns a handler whose functions call something outside of the database. Each event has a transaction of its own, which
// records that the event was handled after the function has returned. So a call is repeated if the process dies before the commit, and later
// calls of the aggregate come after it. The receiver recognizes a repeated call by the event's ID. A call has to end within two fifths of
// SUBSCRIBER_IDLE_TIMEOUT, 2 s by default: its context ends then. docs/external-effects.md has the details.
func NewExternalHandler(name string) *ExternalHandler {
	h := NewHandler(name)
	h.external = true
	return &ExternalHandler{h}
}

// OnExternal sets the function of h for a type of event whose payload is T as JSON. A payload that is not T is a Permanent failure.
func OnExternal[T any](h *ExternalHandler, eventType string, function func(ctx context.Context, event Received, data T) error) {
	On(h.handler, eventType, func(ctx context.Context, _ *Tx, event Received, data T) error { return function(ctx, event, data) })
}

// AnyHandler is a *Handler or an *ExternalHandler.
type AnyHandler interface{ build(e *Engine) inbox.Handler }

func (h *ExternalHandler) build(e *Engine) inbox.Handler { return h.handler.build(e) }

func (h *Handler) build(e *Engine) inbox.Handler {
	wrapped := maps.Clone(h.functions)
	for _, middleware := range slices.Backward(h.wrap) {
		for eventType, function := range wrapped {
			wrapped[eventType] = middleware(function)
		}
	}
	return &handler{Handler: h, engine: e, wrapped: wrapped, types: slices.Sorted(maps.Keys(h.functions))}
}

// handler is a Handler for the engine.
type handler struct {
	*Handler
	engine  *Engine
	wrapped map[string]HandlerFunc
	types   []string
}

var _ inbox.Handler = (*handler)(nil)

func (h *handler) Name() string    { return h.name }
func (h *handler) Types() []string { return h.types }
func (h *handler) External() bool  { return h.external }

func (h *handler) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	function, found := h.wrapped[entry.Type]
	if !found {
		return inbox.ErrNoHandler
	}
	return function(ctx, &Tx{tx: tx, cause: entry, engine: h.engine}, received(entry))
}

// Applied does nothing: middleware can log.
func (h *handler) Applied(context.Context, outbox.Entry) {}

func decode[T any](event Received) (data T, err error) {
	if err := json.Unmarshal(event.Payload, &data); err != nil {
		return data, Permanent(err)
	}
	return data, nil
}

// Permanent marks a failure that no retry can heal: the event is dead at once.
func Permanent(err error) error { return inbox.ErrPermanent.Wrap(err) }

// Unavailable marks an outage of something that a handler needs: all events of the lane wait until the function succeeds, and the failure does not
// count.
func Unavailable(err error) error {
	return fault.New(fault.Unavailable, "handler_unavailable", "the handler needs something that is not available").Wrap(err)
}
