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
const attendEvery = 100 * time.Millisecond

// publishable leaves out what is in the parking lot, after moving aside what belongs behind it.
func (r *Relay) publishable(t *tenure, place *place, entries []outbox.Entry) ([]outbox.Entry, error) {
	var aside []outbox.Position
	if place.waiting {
		err := t.write(t.ctx, func(ctx context.Context, turn relay.WriteFence) (err error) {
			aside, err = r.Parking.SetAside(ctx, turn, entries)
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
func (r *Relay) park(t *tenure, place *place, refused *relay.RefusedError, logger *slog.Logger) error {
	// What the broker takes may have changed since the stream was opened.
	if again, err := r.takesOther(t, place, refused.Entry); again || err != nil {
		return err
	}
	entry := refused.Entry
	last, err := r.Publisher.Publish(t.ctx, place.sequence, []outbox.Entry{entry})
	if err == nil {
		place.passed([]outbox.Entry{entry})
		r.appended(place, entry.Progress(), last, logger)
		return nil
	}
	if !errors.As(err, &refused) {
		return err
	}
	notice := relay.ControlMessage{Progress: entry.Progress(), Parked: refused.Reason, LastOwnSequence: place.own}
	if last, err = r.Publisher.PublishControl(t.ctx, place.sequence, notice); err != nil {
		return err
	}
	if _, err := r.settle(t, place, relay.MessageMeta{Own: true, Progress: notice.Progress, Parked: notice.Parked, LastOwnSequence: notice.LastOwnSequence}, last, true); err != nil {
		return err
	}
	r.appended(place, entry.Progress(), last, logger)
	logger.Error("an event can never be published; it is parked, and later ones of its aggregate wait behind it",
		"event_id", entry.ID, "type", entry.Type, "aggregate", entry.Key.String(), "position", entry.Position, "reason", refused.Reason)
	return nil
}

// takesOther looks at the stream again. It reports whether an entry that was refused has to be read again before it is judged:
// the broker takes other sizes by now, and the log may have left out what was too large before.
func (r *Relay) takesOther(t *tenure, place *place, refused outbox.Entry) (bool, error) {
	before := place.largest
	err := r.unmoved(t, place)
	return refused.Invalid != "" && place.largest != before, err
}

// slice returns how much of the log is read at once.
func (r *Relay) slice(place *place) relay.ReadLimit {
	limit := r.opts.Slice
	limit.Largest = place.largest
	return limit
}

// attend redrives what operators asked for, and reports whether it published anything. Nothing else
// is published before the lot knows what was.
func (r *Relay) attend(t *tenure, place *place, logger *slog.Logger) (redriven bool, err error) {
	if !place.waiting || time.Since(place.attended) < attendEvery {
		return false, nil
	}
	due, waiting, err := r.Parking.Due(t.ctx, place.progress.Position, r.slice(place))
	if err != nil {
		return false, err
	}
	place.waiting = waiting
	if len(due) == 0 {
		place.attended = time.Now()
		return false, nil
	}
	return true, r.redrive(t, place, due, logger)
}

// redrive publishes events of one aggregate that were parked. If the broker refuses one of them, it is tried once more, because
// what the broker takes may have changed since the relay looked last.
func (r *Relay) redrive(t *tenure, place *place, batch []outbox.Entry, logger *slog.Logger) error {
	refused, err := r.tryRedrive(t, place, batch, logger)
	if refused == nil {
		return err
	}
	if again, err := r.takesOther(t, place, refused.Entry); again || err != nil {
		return err
	}
	refused, err = r.tryRedrive(t, place, []outbox.Entry{refused.Entry}, logger)
	if refused == nil {
		return err
	}
	return r.refuse(t, place, refused, logger)
}

// tryRedrive publishes as much of batch as the broker takes, and returns the entry that it refused, if any.
func (r *Relay) tryRedrive(t *tenure, place *place, batch []outbox.Entry, logger *slog.Logger) (*relay.RefusedError, error) {
	last, err := r.Publisher.Redrive(t.ctx, place.sequence, place.progress, batch)
	if stored := place.stored(last, batch); stored > 0 {
		tail := relay.MessageMeta{Own: true, Progress: place.progress, Event: batch[stored-1].Position, Redriven: true}
		if _, err := r.settle(t, place, tail, last, true); err != nil {
			return nil, err
		}
		r.appended(place, place.progress, last, logger)
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
func (r *Relay) refuse(t *tenure, place *place, refused *relay.RefusedError, logger *slog.Logger) error {
	last, err := r.Publisher.PublishControl(t.ctx, place.sequence, relay.ControlMessage{Progress: place.progress, Confirms: true, LastOwnSequence: place.own})
	if err != nil {
		return err
	}
	r.appended(place, place.progress, last, logger)
	err = t.write(t.ctx, func(ctx context.Context, turn relay.WriteFence) error {
		return r.Parking.Refuse(ctx, turn, refused.Entry, refused.Reason)
	})
	if err != nil {
		return err
	}
	logger.Error("a parked event still cannot be published; it is parked again", "event_id", refused.Entry.ID,
		"aggregate", refused.Entry.Key.String(), "position", refused.Entry.Position, "reason", refused.Reason)
	return nil
}
