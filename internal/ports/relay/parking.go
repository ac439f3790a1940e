package relay

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// ParkingSummary is how the parking lot stands once it was brought in line with the stream.
type ParkingSummary struct {
	Waiting bool // some event waits
	Lost    bool // some event was redriven that the stream does not hold any more
}

// Parking is the parking lot as the relay drives it: a sequenced dead-letter queue. An event that the broker can never take
// waits there, and behind it, in order, every later event of its aggregate. Each method but Due is one write, fenced like
// CursorStore.Save and judged on what the lot holds when it takes effect.
type Parking interface {
	// Reconcile brings the lot in line with the stream, in which the last message of ours is tail, at sequence:
	//   - a notice of parking at the tail: its event is parked, if the log still has it and the lot does not;
	//   - an event at the tail that is to be redriven: so it was, and so were those of its aggregate before it that were
	//     to be redriven, at the sequences before it;
	//   - events that were redriven above what the stream holds of them (MessageMeta.MaxRedriven): the stream lost them. If end says that
	//     the stream is known to end at sequence, they are to be redriven again; else they stay as they are.
	// A zero tail has nothing to say.
	Reconcile(ctx context.Context, turn WriteFence, tail MessageMeta, sequence uint64, end bool) (ParkingSummary, error)

	// SetAside parks those of entries, which are in order of position, whose aggregate has an event that waits at an
	// earlier position, and returns the positions of those that are in the lot now. If all that waits of the aggregate is to
	// be redriven already, they are to be redriven too.
	SetAside(ctx context.Context, turn WriteFence, entries []outbox.Entry) ([]outbox.Position, error)

	// Due reads what is to be redriven next: events of one aggregate, in order, at most limit and at positions up to upTo,
	// without one that is still parked before them. What is too large is treated as in Log.After. It reports whether any event
	// waits.
	Due(ctx context.Context, upTo outbox.Position, limit ReadLimit) (due []outbox.Entry, waiting bool, err error)

	// Refuse parks an event again which was to be redriven and that the broker still cannot take, and with it the later
	// ones of its aggregate that were to be redriven.
	Refuse(ctx context.Context, turn WriteFence, entry outbox.Entry, reason string) error
}
