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
func (r *Relay) verify(ctx context.Context, place *place, tail relay.MessageMeta) error {
	sequence := place.own
	// A notice carries no event. One of parking stands for its event, which may not be in the parking lot yet.
	if tail.Own && tail.Event == 0 && tail.Parked == "" && sequence > 0 {
		sequence--
	}
	if err := r.Log.Verify(ctx, place.progress, sequence); err != nil {
		return unread(err)
	}
	place.verified = time.Now()
	return nil
}

// disordered halts when events come where the relay does not look any more.
func disordered(err error) error {
	if errors.Is(err, relay.ErrSequenceBehind) {
		return relay.NewHalt(relay.HaltSequenceBehind, "%s", err.Error())
	}
	return err
}

// passed takes note of when the latest of the entries that were dealt with was recorded, if it is known of those before them.
func (p *place) passed(entries []outbox.Entry) {
	if p.recorded.IsZero() {
		return
	}
	for i := range entries {
		if entries[i].RecordedAt.After(p.recorded) {
			p.recorded = entries[i].RecordedAt
		}
	}
}
