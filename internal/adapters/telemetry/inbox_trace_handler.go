package telemetry

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// TraceHandler returns next with another context for Applied: the context has the span that created the event. So the log lines of
// Applied have the trace of the order, sampled or not. Handle is unchanged: TraceInbox makes its spans.
func TraceHandler(next inbox.Handler) inbox.Handler { return tracedHandler{next} }

type tracedHandler struct{ inbox.Handler }

func (h tracedHandler) Applied(ctx context.Context, entry outbox.Entry) {
	ctx, _ = inCreationContext(ctx, entry.Headers)
	h.Handler.Applied(ctx, entry)
}
