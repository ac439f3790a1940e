package telemetry

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TraceHandler returns next with another context for Applied: the context has the span that created the event. So the log lines of
// Applied have the trace of the event, sampled or not. Handle is unchanged: TraceInbox makes its spans.
func TraceHandler(next inbox.Handler) inbox.Handler { return tracedHandler{next} }

type tracedHandler struct{ next inbox.Handler }

func (h tracedHandler) Applied(ctx context.Context, entry outbox.Entry) {
	ctx, _ = inCreationContext(ctx, entry.Headers)
	h.next.Applied(ctx, entry)
}

// Name, Types, External and Handle are passed on.
func (h tracedHandler) Name() string { return h.next.Name() }

func (h tracedHandler) Types() []string { return h.next.Types() }

func (h tracedHandler) External() bool { return h.next.External() }

func (h tracedHandler) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	return h.next.Handle(ctx, tx, entry)
}
