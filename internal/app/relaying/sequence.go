package relaying

import (
	"context"
	"errors"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// verify checks that the log grows after place alone, where tail is our last message in the stream. What comes before place
// is never read, so an event there would be lost. A leader asks at each take-over, and once a second while it is idle; while it
// is busy, the cursor's store asks with each save.
func (r *Relay) verify(ctx context.Context, pos *streamPosition, tail relay.MessageMeta) error {
	sequence := pos.lastOwn
	// A notice carries no event. One of parking stands for its event, which may not be in the parking lot yet.
	if tail.Own && tail.Event == 0 && tail.Parked == "" && sequence > 0 {
		sequence--
	}
	if err := r.Log.Verify(ctx, pos.progress, sequence); err != nil {
		return asLogHalt(err)
	}
	pos.verifiedAt = time.Now()
	return nil
}

// disordered halts when events come where the relay does not look any more.
func asSequenceHalt(err error) error {
	if errors.Is(err, relay.ErrSequenceBehind) {
		return relay.NewHalt(relay.HaltSequenceBehind, "%s", err.Error())
	}
	return err
}

// passed takes note of when the latest of the entries that were dealt with was recorded, if it is known of those before them.
func (p *streamPosition) noteRecorded(entries []outbox.Entry) {
	if p.recordedTo.IsZero() {
		return
	}
	for i := range entries {
		if entries[i].RecordedAt.After(p.recordedTo) {
			p.recordedTo = entries[i].RecordedAt
		}
	}
}
