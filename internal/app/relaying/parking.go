package relaying

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/assylzhan-a/outboxie/internal/domain/outbox"
	"github.com/assylzhan-a/outboxie/internal/ports/relay"
)

// redriveInterval is how often a busy leader asks for events to redrive. An idle leader asks at each poll.
const redriveInterval = 100 * time.Millisecond

// publishable returns the entries that the relay may publish. It leaves out the entries in the parking lot. If an entry belongs behind a
// parked event of its aggregate, publishable parks the entry and leaves it out too.
func (r *Relay) publishable(l *leadership, pos *streamPosition, entries []outbox.Entry) ([]outbox.Entry, error) {
	var aside []outbox.Position
	if pos.parkedWaiting {
		err := l.fencedWrite(l.ctx, func(ctx context.Context, fence relay.WriteFence) (err error) {
			aside, err = r.Parking.SetAside(ctx, fence, entries)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	parked := func(entry outbox.Entry) bool { return entry.Parked || slices.Contains(aside, entry.Position) }
	if !slices.ContainsFunc(entries, parked) {
		return entries, nil
	}
	return slices.DeleteFunc(slices.Clone(entries), parked), nil
}

// park parks an event that the broker can never store. First it records the decision in the stream: it appends a control message in place
// of the event. After that, no relay can publish the event there, and a relay that does not know the decision cannot append anything.
func (r *Relay) park(l *leadership, pos *streamPosition, refused *relay.RefusedError, logger *slog.Logger) error {
	// The limits of the broker may have changed since the stream was opened.
	if again, err := r.limitChanged(l, pos, refused.Entry); again || err != nil {
		return err
	}
	entry := refused.Entry
	last, err := r.Publisher.Publish(l.ctx, pos.sequence, []outbox.Entry{entry})
	if err == nil {
		pos.noteRecorded([]outbox.Entry{entry})
		r.appended(pos, entry.Progress(), last, logger)
		return nil
	}
	if !errors.As(err, &refused) {
		return err
	}
	message := relay.ControlMessage{Progress: entry.Progress(), Parked: refused.Reason, LastOwnSequence: pos.lastOwn}
	if last, err = r.Publisher.PublishControl(l.ctx, pos.sequence, message); err != nil {
		return err
	}
	tail := relay.MessageMeta{Own: true, Progress: message.Progress, Parked: message.Parked, LastOwnSequence: message.LastOwnSequence}
	if _, err := r.reconcile(l, pos, tail, last, true); err != nil {
		return err
	}
	r.appended(pos, entry.Progress(), last, logger)
	logger.Error("an event can never be published; it is parked, and later ones of its aggregate wait behind it",
		"event_id", entry.ID, "type", entry.Type, "aggregate", entry.Key.String(), "position", entry.Position, "reason", refused.Reason)
	return nil
}

// limitChanged checks the stream again. It reports whether the relay must read a refused entry again before it parks the entry. The relay
// must do so if the broker accepts another size now: the read of the log may have left out a payload that is not too large any more.
func (r *Relay) limitChanged(l *leadership, pos *streamPosition, refused outbox.Entry) (bool, error) {
	before := pos.largest
	_, err := r.checkStream(l, pos)
	return refused.Invalid != "" && pos.largest != before, err
}

// readLimit returns the limit of one read of the log.
func (r *Relay) readLimit(pos *streamPosition) relay.ReadLimit {
	limit := r.opts.Batch
	limit.Largest = pos.largest
	return limit
}

// redriveDue redrives events for which operators asked, and reports whether there were any. It writes the result into the parking lot
// before the relay publishes anything else.
func (r *Relay) redriveDue(l *leadership, pos *streamPosition, logger *slog.Logger) (redriven bool, err error) {
	if !pos.parkedWaiting || time.Since(pos.redriveCheckedAt) < redriveInterval {
		return false, nil
	}
	due, waiting, err := r.Parking.Due(l.ctx, pos.progress.Position, r.readLimit(pos))
	if err != nil {
		return false, err
	}
	pos.parkedWaiting = waiting
	if len(due) == 0 {
		pos.redriveCheckedAt = time.Now()
		return false, nil
	}
	return true, r.redrive(l, pos, due, logger)
}

// redrive publishes parked events of one aggregate. If the broker refuses one of the events, redrive tries this event once more, because
// the limits of the broker may have changed since the last check. If the broker refuses the event again, redrive parks it again.
func (r *Relay) redrive(l *leadership, pos *streamPosition, batch []outbox.Entry, logger *slog.Logger) error {
	refused, err := r.tryRedrive(l, pos, batch, logger)
	if refused == nil {
		return err
	}
	if again, err := r.limitChanged(l, pos, refused.Entry); again || err != nil {
		return err
	}
	refused, err = r.tryRedrive(l, pos, []outbox.Entry{refused.Entry}, logger)
	if refused == nil {
		return err
	}
	return r.parkAgain(l, pos, refused, logger)
}

// tryRedrive publishes batch up to the first entry that the broker refuses. It returns this refusal, or nil if the broker refuses none.
func (r *Relay) tryRedrive(l *leadership, pos *streamPosition, batch []outbox.Entry, logger *slog.Logger) (*relay.RefusedError, error) {
	last, err := r.Publisher.Redrive(l.ctx, pos.sequence, pos.progress, batch)
	if stored := pos.countStored(last, batch); stored > 0 {
		tail := relay.MessageMeta{Own: true, Progress: pos.progress, Event: batch[stored-1].Position, Redriven: true}
		if _, err := r.reconcile(l, pos, tail, last, true); err != nil {
			return nil, err
		}
		r.appended(pos, pos.progress, last, logger)
		logger.Info("redrove parked events", "aggregate", batch[0].Key.String(), "events", stored, "sequence", last)
	}
	var refused *relay.RefusedError
	if errors.As(err, &refused) {
		return refused, nil
	}
	return nil, err
}

// parkAgain parks a redriven event again, because the broker still refuses it. A former leader, whose broker accepts the event, may be
// redriving the event at the same time. So parkAgain first appends a control message. After that, the append of the former leader stores
// nothing.
func (r *Relay) parkAgain(l *leadership, pos *streamPosition, refused *relay.RefusedError, logger *slog.Logger) error {
	confirmation := relay.ControlMessage{Progress: pos.progress, Confirms: true, LastOwnSequence: pos.lastOwn}
	last, err := r.Publisher.PublishControl(l.ctx, pos.sequence, confirmation)
	if err != nil {
		return err
	}
	r.appended(pos, pos.progress, last, logger)
	err = l.fencedWrite(l.ctx, func(ctx context.Context, fence relay.WriteFence) error {
		return r.Parking.Refuse(ctx, fence, refused.Entry, refused.Reason)
	})
	if err != nil {
		return err
	}
	logger.Error("a parked event still cannot be published; it is parked again", "event_id", refused.Entry.ID,
		"aggregate", refused.Entry.Key.String(), "position", refused.Entry.Position, "reason", refused.Reason)
	return nil
}
