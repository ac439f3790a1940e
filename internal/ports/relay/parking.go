package relay

import (
	"context"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
)

// Parking is the parking lot as the relay uses it. An event that the broker can never store waits in the lot. The later events of its
// aggregate wait behind it, in order. Each method except Due makes one write, which is fenced like CursorStore.Save. The write depends
// on what the lot holds at the moment of the write.
type Parking interface {
	// Reconcile brings the lot in line with the stream. tail is the relay's last message in the stream, and sequence is its
	// sequence. With a zero tail, the first two cases do not apply.
	//   - If tail parks an event that the log has and the lot does not, Reconcile parks it.
	//   - If tail carries an event in state Redrive, that event becomes Redriven. The earlier events of its aggregate in state
	//     Redrive become Redriven too, with the sequences before its own.
	//   - Redriven events above tail.MaxRedriven(sequence) are not in the stream any more. If end is true, these events become
	//     Redrive again. The caller sets end if the stream certainly ends at sequence.
	Reconcile(ctx context.Context, fence WriteFence, tail MessageMeta, sequence uint64, end bool) (ParkingSummary, error)

	// SetAside parks each entry whose aggregate has an earlier event that waits. It returns the positions of all the given
	// entries that are in the lot after that. The caller gives the entries in order of position. If the waiting events of an
	// aggregate are all in state Redrive, its new entries in the lot get the state Redrive too.
	SetAside(ctx context.Context, fence WriteFence, entries []outbox.Entry) ([]outbox.Position, error)

	// Due returns the events to redrive next. These are events of one aggregate, in order, within limit, at positions up to upTo.
	// None of them comes after an event in state Parked. Due treats large entries as Log.After does. waiting reports whether any
	// event in the lot waits.
	Due(ctx context.Context, upTo outbox.Position, limit ReadLimit) (due []outbox.Entry, waiting bool, err error)

	// Refuse parks entry again, because the broker still cannot store it. Refuse also parks the later events of its aggregate that
	// are in state Redrive.
	Refuse(ctx context.Context, fence WriteFence, entry outbox.Entry, reason string) error
}

// ParkingSummary is the state of the parking lot after Reconcile.
type ParkingSummary struct {
	Waiting bool // at least one event waits, or waited just before this call
	Lost    bool // the stream lost an event that was redriven
}
