package outboxie

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/assylzhan-a/outboxie/internal/domain/fault"
	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// HandlerFunc applies the effect of an event in tx, and nowhere else: the same transaction records that the event was applied. Many events may
// share a transaction. HandlerFunc is called for events of one aggregate in order, and for events of different aggregates at the same time.
//
// If it fails, the transaction has no effect, and the event is tried again: after the first failure alone, then with growing pauses. Later
// events of the aggregate wait. The event is dead after the tenth failure, or at once if the error is Permanent. If the error is Unavailable,
// all events of the lane wait, and the failure does not count. A panic is a failure.
type HandlerFunc func(ctx context.Context, tx *Tx, event Received) error

// Middleware wraps each function of a handler. It must call next at most once.
type Middleware func(next HandlerFunc) HandlerFunc

// Handler has a function for each type of event. Events of other types are not for its subscriber. Make the Handler completely before it goes
// to Engine.Subscriber, which returns an error for what is wrong with it, such as two functions for one type. Later changes panic. Several
// subscribers may have the same Handler.
type Handler struct {
	name      string
	external  bool
	functions map[string]HandlerFunc
	wrap      []Middleware
	batches   int
	wrong     []error
	used      atomic.Bool // by a subscriber
}

// NewHandler returns a handler that writes to the service's database. A subscriber keeps the name of its handler for ever.
func NewHandler(name string) *Handler {
	return &Handler{name: name, functions: make(map[string]HandlerFunc)}
}

// Use adds middleware around each function of h, also around those that are set later. The first one is the outermost.
func (h *Handler) Use(middleware ...Middleware) *Handler {
	h.mayChange()
	if slices.ContainsFunc(middleware, func(m Middleware) bool { return m == nil }) {
		h.refuse("a middleware is nil")
	}
	h.wrap = append(h.wrap, middleware...)
	return h
}

// Handle sets the function for a type of event. On is Handle for a typed payload.
func (h *Handler) Handle(eventType string, function HandlerFunc) *Handler {
	h.mayChange()
	switch {
	case function == nil:
		h.refuse("the function for %q is nil", eventType)
	case eventType == "":
		h.refuse("a function has no type of event")
	case h.functions[eventType] != nil:
		h.refuse("there are two functions for %q", eventType)
	}
	h.functions[eventType] = function
	return h
}

// refuse makes Engine.Subscriber refuse h.
func (h *Handler) refuse(format string, args ...any) {
	h.wrong = append(h.wrong, fmt.Errorf("the handler %s: %s", h.name, fmt.Sprintf(format, args...)))
}

func (h *Handler) mayChange() {
	if h.used.Load() {
		panic("outboxie: the handler " + h.name + " belongs to a subscriber already, which would not see the change")
	}
}

// On sets the function of h for a type of event whose payload is T as JSON. A payload that is not T is a Permanent failure.
func On[T any](h *Handler, eventType string, function func(ctx context.Context, tx *Tx, event Received, data T) error) {
	if function == nil {
		h.Handle(eventType, nil)
		return
	}
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
// records that the event was handled after the function has returned. So a call is repeated if the process dies before the commit. Later calls
// of the aggregate come after it. The receiver recognizes a repeated call by the event's ID. The context of a call ends after two fifths of
// SubscriberOptions.IdleTimeout, which is 2 s by default. docs/external-effects.md has the details.
func NewExternalHandler(name string) *ExternalHandler {
	h := NewHandler(name)
	h.external = true
	return &ExternalHandler{h}
}

// ExternalFunc calls something outside of the database for an event. ExternalMiddleware wraps it.
type ExternalFunc func(ctx context.Context, event Received) error

// ExternalMiddleware wraps each function of an external handler. It must call next at most once: a second call would be a repeated call.
type ExternalMiddleware func(next ExternalFunc) ExternalFunc

// Use adds middleware around each function of h, also around those that are set later. The first one is the outermost. The time that a call
// may take includes its middleware.
func (h *ExternalHandler) Use(middleware ...ExternalMiddleware) *ExternalHandler {
	h.handler.mayChange()
	for _, m := range middleware {
		h.handler.Use(external(m))
	}
	return h
}

// external is middleware of an external handler for a Handler. The functions of an external handler do not use the transaction.
func external(middleware ExternalMiddleware) Middleware {
	if middleware == nil {
		return nil
	}
	return func(next HandlerFunc) HandlerFunc {
		wrapped := middleware(func(ctx context.Context, event Received) error { return next(ctx, nil, event) })
		return func(ctx context.Context, _ *Tx, event Received) error { return wrapped(ctx, event) }
	}
}

// OnExternal sets the function of h for a type of event whose payload is T as JSON. A payload that is not T is a Permanent failure.
func OnExternal[T any](h *ExternalHandler, eventType string, function func(ctx context.Context, event Received, data T) error) {
	if function == nil {
		h.handler.Handle(eventType, nil)
		return
	}
	On(h.handler, eventType, func(ctx context.Context, _ *Tx, event Received, data T) error { return function(ctx, event, data) })
}

// AnyHandler is a *Handler or an *ExternalHandler.
type AnyHandler interface {
	build(e *Engine) (*handler, error)
}

func (h *ExternalHandler) build(e *Engine) (*handler, error) {
	if h == nil {
		return nil, errNilHandler
	}
	return h.handler.build(e)
}

var errNilHandler = errors.New("the handler is nil")

func (h *Handler) build(e *Engine) (*handler, error) {
	if h == nil {
		return nil, errNilHandler
	}
	if len(h.wrong) > 0 {
		return nil, errors.Join(h.wrong...)
	}
	if len(h.functions) == 0 {
		return nil, fmt.Errorf("the handler %s has no function", h.name)
	}
	wrapped := maps.Clone(h.functions)
	for _, middleware := range slices.Backward(h.wrap) {
		for eventType, function := range wrapped {
			wrapped[eventType] = middleware(function)
		}
	}
	return &handler{Handler: h, engine: e, wrapped: wrapped, types: slices.Sorted(maps.Keys(h.functions))}, nil
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
	return function(ctx, &Tx{tx: tx, cause: entry, handler: h.Handler, engine: h.engine}, received(entry))
}

// Applied does nothing: middleware can log.
func (h *handler) Applied(context.Context, outbox.Entry) {}

func decode[T any](event Received) (data T, err error) {
	if err := json.Unmarshal(event.Payload, &data); err != nil {
		return data, Permanent(err)
	}
	return data, nil
}

// Permanent marks a failure that no retry can heal: the event is dead at once. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return inbox.ErrPermanent.Wrap(err)
}

// Unavailable marks an outage of something that a handler needs: all events of the lane wait until the function succeeds, and the failure does
// not count. Unavailable(nil) is nil.
func Unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Unavailable, "handler_unavailable", "the handler needs something that is not available").Wrap(err)
}
