package relaying

import (
	"context"
	"errors"
	"time"

	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// verify checks that no event appears at or below pos. The relay does not read there again, so such an event would be lost. tail is the
// relays' last message in the stream. A leader verifies at each take-over, and once a second while it is idle. A busy leader saves its
// cursor once a second, and the save checks the same. verify also reports whether the log has entries after pos.
func (r *Relay) verify(ctx context.Context, pos *streamPosition, tail relay.MessageMeta) (more bool, err error) {
	sequence := pos.lastOwn
	// A control message carries no event, so it does not count. But a control message that parks an event counts in place of the event:
	// the event may not be in the parking lot yet.
	if tail.Own && tail.Event == 0 && tail.Parked == "" && sequence > 0 {
		sequence--
	}
	if more, err = r.Log.Verify(ctx, pos.progress, sequence); err != nil {
		return false, asLogHalt(err)
	}
	pos.verifiedAt = time.Now()
	return more, nil
}

// asSequenceHalt turns ErrSequenceBehind into a halt.
func asSequenceHalt(err error) error {
	if errors.Is(err, relay.ErrSequenceBehind) {
		return relay.NewHalt(relay.HaltSequenceBehind, "%s", err.Error())
	}
	return err
}

// asLogHalt turns the errors of the log into halts if the relay must not go on after them.
func asLogHalt(err error) error {
	if errors.Is(err, relay.ErrHistoryLost) {
		return relay.NewHalt(relay.HaltHistoryLost, "%s", err.Error())
	}
	return asSequenceHalt(err)
}
