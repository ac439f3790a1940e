package opening

import (
	"context"
	"errors"
	"log/slog"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/inbox"
)

// Handler returns next for sealed and plain events. next gets every event with its plain payload. It is not called for an event whose customer
// was erased. The handler fails with inbox.ErrPermanent if the database does not have the key, with inbox.ErrUnreadable if the key does not open
// the payload, and with the error of the key ring.
func Handler(ring *Ring, subscriber string, logger *slog.Logger, next inbox.Handler) inbox.Handler {
	return &handler{ring: ring, subscriber: subscriber, logger: logger, next: next}
}

type handler struct {
	ring       *Ring
	subscriber string
	logger     *slog.Logger
	next       inbox.Handler
}

// Name, Types and External are passed on.
func (h *handler) Name() string { return h.next.Name() }

func (h *handler) Types() []string { return h.next.Types() }

func (h *handler) External() bool { return h.next.External() }

// Handle opens the event.
func (h *handler) Handle(ctx context.Context, tx inbox.Tx, entry outbox.Entry) error {
	id := entry.SealedWith()
	if id == "" {
		return h.next.Handle(ctx, tx, entry)
	}
	key, err := h.ring.find(ctx, id)
	switch {
	case errors.Is(err, ErrUnknownKey):
		return inbox.ErrPermanent.Wrap(err)
	case err != nil:
		return err
	}
	opened, readable, err := h.ring.open(entry.Message, key)
	switch {
	case err != nil:
		return inbox.ErrUnreadable.With("event %s cannot be read", entry.ID).Wrap(err)
	case !readable:
		h.ring.countErased()
		return nil
	}
	entry.Message = opened
	return h.next.Handle(ctx, tx, entry)
}

// Applied logs that an event had no effect because the customer was erased. It does not read keys: if the ring has forgotten the key, next is
// not called.
func (h *handler) Applied(ctx context.Context, entry outbox.Entry) {
	id := entry.SealedWith()
	if id == "" {
		h.next.Applied(ctx, entry)
		return
	}
	key, kept := h.ring.kept(id, Forget)
	if !kept {
		return
	}
	opened, readable, err := h.ring.open(entry.Message, key)
	switch {
	case readable:
		entry.Message = opened
		h.next.Applied(ctx, entry)
	case err == nil:
		h.logger.InfoContext(ctx, "an event had no effect, because its customer was erased", "subscriber", h.subscriber, "type", entry.Type,
			"aggregate", entry.Key.String(), "version", entry.Version, "position", int64(entry.Position), "event_id", entry.ID)
	}
}

// UnitOfWork returns next with one read of keys for each batch, before the transaction begins. Without it, a handler would read the keys one by
// one.
func UnitOfWork(ring *Ring, next inbox.UnitOfWork) inbox.UnitOfWork { return &unitOfWork{ring, next} }

type unitOfWork struct {
	ring *Ring
	next inbox.UnitOfWork
}

func (u *unitOfWork) Apply(
	ctx context.Context, subscriber string, batch inbox.Batch, handler inbox.Handler, policy inbox.FailurePolicy,
) (inbox.Outcome, error) {
	ids := make(map[string]bool)
	for _, event := range batch.Events {
		if id := event.SealedWith(); id != "" {
			ids[id] = true
		}
	}
	if len(ids) > 0 {
		if err := u.ring.prefetch(ctx, ids); err != nil {
			return inbox.Outcome{}, err
		}
	}
	return u.next.Apply(ctx, subscriber, batch, handler, policy)
}

// Emitter returns next. What a handler emits because of a sealed event is sealed with the same key. So the key's erasure erases it, too,
// whether it comes before or after.
func Emitter(ring *Ring, next inbox.Emitter) inbox.Emitter { return &emitter{ring, next} }

type emitter struct {
	ring *Ring
	next inbox.Emitter
}

func (e *emitter) Emit(ctx context.Context, tx inbox.Tx, cause outbox.Entry, messages ...outbox.Message) error {
	id := cause.OpenedWith()
	if id == "" {
		return e.next.Emit(ctx, tx, cause, messages...)
	}
	key, err := e.ring.find(ctx, id)
	if err != nil {
		return err
	}
	if key.Erased {
		return nil // it was erased since the event was opened
	}
	sealed := make([]outbox.Message, len(messages))
	for i, message := range messages {
		if sealed[i], err = message.Seal(key.SealKey); err != nil {
			return err
		}
	}
	return e.next.Emit(ctx, tx, cause, sealed...)
}
