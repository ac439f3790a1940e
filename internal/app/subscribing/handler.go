package subscribing

import (
	"context"
	"maps"
	"slices"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Handler is an inbox.Handler with one function for each type of event.
type Handler struct {
	name      string
	types     []string
	functions map[string]inbox.HandlerFunc
	external  bool
	applied   func(ctx context.Context, entry outbox.Entry)
}

var _ inbox.Handler = (*Handler)(nil)

// NewHandler returns a handler of this name. applied is called for events whose effect is committed, unless it is nil.
func NewHandler(name string, functions map[string]inbox.HandlerFunc, applied func(ctx context.Context, entry outbox.Entry)) *Handler {
	if applied == nil {
		applied = func(context.Context, outbox.Entry) {}
	}
	return &Handler{name: name, types: slices.Sorted(maps.Keys(functions)), functions: functions, applied: applied}
}

// NewExternalHandler returns a handler whose functions call something outside of the transaction. docs/external-effects.md says what such
// functions can rely on, and what they must do.
func NewExternalHandler(name string, functions map[string]inbox.HandlerFunc, applied func(ctx context.Context, entry outbox.Entry)) *Handler {
	handler := NewHandler(name, functions, applied)
	handler.external = true
	return handler
}

// Name returns the handler's name.
func (h *Handler) Name() string { return h.name }

// Types returns the types that have a function.
func (h *Handler) Types() []string { return h.types }

// External reports whether the functions call something outside of the transaction.
func (h *Handler) External() bool { return h.external }

// Handle calls the function of the event's type.
func (h *Handler) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	function, found := h.functions[entry.Type]
	if !found {
		return inbox.ErrNoHandler
	}
	return function(ctx, tx, entry)
}

// Applied calls the function that NewHandler got.
func (h *Handler) Applied(ctx context.Context, entry outbox.Entry) { h.applied(ctx, entry) }
