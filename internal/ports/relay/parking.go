package relay

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Parking is the parking lot as the relay uses it. An event that the broker can never store waits there; the later events of its
// aggregate wait behind it, in order. Each method except Due is one write, fenced like CursorStore.Save. It decides by what the lot
// holds at the moment of the write.
type Parking interface {
	// Reconcile brings the lot in line with the stream, whose last message of ours is tail, at sequence. A zero tail changes
	// nothing in the first two cases.
	//   - If tail parks an event that the log has and the lot does not, Reconcile parks it.
	//   - If tail carries an event in state Redrive, that event becomes Redriven; so do the earlier events of its aggregate in
	//     state Redrive, at the sequences before it.
	//   - Redriven events above tail.MaxRedriven(sequence) are not in the stream any more. If end reports that the stream
	//     certainly ends at sequence, they become Redrive again.
	Reconcile(ctx context.Context, fence WriteFence, tail MessageMeta, sequence uint64, end bool) (ParkingSummary, error)

	// SetAside parks those entries whose aggregate has an earlier event that waits. It returns the positions of all entries
	// that are in the lot now. The entries are in order of position. If the waiting events of an aggregate are all in state
	// Redrive, its new ones get that state too.
	SetAside(ctx context.Context, fence WriteFence, entries []outbox.Entry) ([]outbox.Position, error)

	// Due returns the events to redrive next: events of one aggregate in order, within limit, at positions up to upTo, none
	// after an event in state Parked. It treats large entries as Log.After does. It also reports whether any event waits.
	Due(ctx context.Context, upTo outbox.Position, limit ReadLimit) (due []outbox.Entry, waiting bool, err error)

	// Refuse parks entry again, because the broker still cannot store it, and with it the later events of its aggregate in
	// state Redrive.
	Refuse(ctx context.Context, fence WriteFence, entry outbox.Entry, reason string) error
}

// ParkingSummary is the state of the parking lot after Reconcile.
type ParkingSummary struct {
	Waiting bool // an event waits
	Lost    bool // the stream lost an event that was redriven
}
