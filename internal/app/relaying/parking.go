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

// attendEvery is how often a busy leader looks for what operators want of the parking lot. An idle one looks each poll.
const redriveInterval = 100 * time.Millisecond

// publishable leaves out what is in the parking lot, after moving aside what belongs behind it.
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

// park puts an event aside that the broker can never take. The decision is made in the stream, by a notice in the event's
// place: from then on no relay can publish the event, and none that still has to learn of it can append anything.
func (r *Relay) park(l *leadership, pos *streamPosition, refused *relay.RefusedError, logger *slog.Logger) error {
	// What the broker takes may have changed since the stream was opened.
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
	notice := relay.ControlMessage{Progress: entry.Progress(), Parked: refused.Reason, LastOwnSequence: pos.lastOwn}
	if last, err = r.Publisher.PublishControl(l.ctx, pos.sequence, notice); err != nil {
		return err
	}
	if _, err := r.reconcile(l, pos, relay.MessageMeta{Own: true, Progress: notice.Progress, Parked: notice.Parked, LastOwnSequence: notice.LastOwnSequence}, last, true); err != nil {
		return err
	}
	r.appended(pos, entry.Progress(), last, logger)
	logger.Error("an event can never be published; it is parked, and later ones of its aggregate wait behind it",
		"event_id", entry.ID, "type", entry.Type, "aggregate", entry.Key.String(), "position", entry.Position, "reason", refused.Reason)
	return nil
}

// takesOther looks at the stream again. It reports whether an entry that was refused has to be read again before it is judged:
// the broker takes other sizes by now, and the log may have left out what was too large before.
func (r *Relay) limitChanged(l *leadership, pos *streamPosition, refused outbox.Entry) (bool, error) {
	before := pos.largest
	err := r.checkStream(l, pos)
	return refused.Invalid != "" && pos.largest != before, err
}

// slice returns how much of the log is read at once.
func (r *Relay) readLimit(pos *streamPosition) relay.ReadLimit {
	limit := r.opts.Batch
	limit.Largest = pos.largest
	return limit
}

// attend redrives what operators asked for, and reports whether it published anything. Nothing else
// is published before the lot knows what was.
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

// redrive publishes events of one aggregate that were parked. If the broker refuses one of them, it is tried once more, because
// what the broker takes may have changed since the relay looked last.
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

// tryRedrive publishes as much of batch as the broker takes, and returns the entry that it refused, if any.
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

// refuse parks an event again that the broker still does not take. A former leader, whose broker does take it, may be about to
// redrive the event. So a notice moves the stream first: from then on that append stores nothing.
func (r *Relay) parkAgain(l *leadership, pos *streamPosition, refused *relay.RefusedError, logger *slog.Logger) error {
	last, err := r.Publisher.PublishControl(l.ctx, pos.sequence, relay.ControlMessage{Progress: pos.progress, Confirms: true, LastOwnSequence: pos.lastOwn})
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
